"""The procedural world: videos with exact truth, in the formats of the real annotations."""
