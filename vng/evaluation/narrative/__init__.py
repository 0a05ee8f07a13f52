"""Scores of narratives and referring expressions."""
