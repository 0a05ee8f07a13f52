"""Inspection: a dataset looked at, two datasets compared, points counted."""
