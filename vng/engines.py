"""Engines by name: a table of "module:class", imported only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any, get_args, get_type_hints

from vng.errors import UsageError, one_of


def make_engine(table: Mapping[str, str], kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Make the engine `name` of a table with options.

    `settings` among the options may be a mapping of texts, as they stand on a command line: they become the engine's
    settings, checked.

    Raises:
        UsageError: an unknown name, an option or setting the engine does not take, or a value that is none.
    """
    import inspect

    module, _, attribute = table[one_of(name, table, kind)].partition(":")
    engine = getattr(import_module(module), attribute)
    unknown = sorted(set(options) - set(inspect.signature(engine).parameters))
    if unknown:
        raise UsageError(f"{kind} {name!r} takes no {unknown[0]!r}; leave it out, or choose another {kind}")
    if isinstance(options.get("settings"), Mapping):
        options = {**options, "settings": _settings(engine, f"{kind} {name!r}", options["settings"])}
    return engine(**options)


def setting_names(table: Mapping[str, str], name: str) -> list[str]:
    """The settings that an engine of a table takes; its module is imported."""
    module, _, attribute = table[name].partition(":")
    return [field.name for field in fields(_settings_kind(getattr(import_module(module), attribute)))]


def _settings_kind(engine: Any) -> Any:
    hint = get_type_hints(engine.__init__)["settings"]
    return next(choice for choice in get_args(hint) if is_dataclass(choice))


def _settings(engine: Any, what: str, values: Mapping[str, Any]) -> Any:
    """The engine's settings dataclass from values by name."""
    from pydantic import TypeAdapter, ValidationError

    kind = _settings_kind(engine)
    for key in values:
        one_of(key, [field.name for field in fields(kind)], f"setting of {what}")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{what}: {place}={first['input']!r}: {first['msg']}") from error
