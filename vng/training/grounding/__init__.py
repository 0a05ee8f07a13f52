"""Training of the grounder."""
