"""Scores of video object segmentation."""
