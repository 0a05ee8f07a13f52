"""Evaluation: `metrics` has the measures, each other module a protocol or a shared part."""
