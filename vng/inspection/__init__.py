"""Inspection: figures of a dataset, comparison of two datasets, statistics of points."""
