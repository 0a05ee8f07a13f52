"""Grounding: a video and a narrative in, a mask per noun and frame out."""
