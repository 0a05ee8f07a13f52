"""Benchmarks of speed and quality, run by hand: `python -m benchmarks.NAME [--json FILE]` prints a table."""
