"""The annotation page: a local web application over the database of a project (`vng annotate serve`)."""
