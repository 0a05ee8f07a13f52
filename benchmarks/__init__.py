"""Speed and quality, run by hand and printed as tables; `python -m benchmarks.NAME [--json FILE]`."""
