"""Scores: `metrics` has the measures, the other files one protocol each."""
