"""What the commands do that need no annotations converted; `cli.py` calls these by name."""
