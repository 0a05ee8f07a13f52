"""Propagation: a person's points or masks of some frames to masks of all frames, of a video or of a dataset."""
