"""Scores of narratives and of referring expressions."""
