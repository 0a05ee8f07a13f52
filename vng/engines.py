"""Engines by name: a table of "module:class", imported only when asked for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from vng.errors import UsageError, one_of


def make_engine(table: Mapping[str, str], kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Make the engine `name` of a table with options.

    Raises:
        UsageError: an unknown name, or an option the engine does not take.
    """
    module, _, attribute = table[one_of(name, table, kind)].partition(":")
    engine = getattr(import_module(module), attribute)
    unknown = sorted(set(options) - set(inspect.signature(engine).parameters))
    if unknown:
        raise UsageError(f"{kind} {name!r} takes no {unknown[0]!r}; leave it out, or choose another {kind}")
    return engine(**options)
