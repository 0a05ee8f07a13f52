"""Training of ABS."""
