"""Propagation: from points or masks of some frames to masks of all frames, for a video or a dataset."""
