"""Reports: scores as a page, beside those of other results."""
