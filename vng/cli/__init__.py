"""The command line: one file per command, collected by `app`. Only this package of `vng/` imports `conversion/`."""

from vng.cli.app import entry_point, main

__all__ = ["entry_point", "main"]
