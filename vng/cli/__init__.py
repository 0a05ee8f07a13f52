"""The command line: one file a verb, and `app`, which collects them. The only room of `vng/` that imports `conversion/`."""

from vng.cli.app import entry_point, main

__all__ = ["entry_point", "main"]
