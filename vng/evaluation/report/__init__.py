"""Reports: scores as an HTML page, optionally beside those of other results."""
