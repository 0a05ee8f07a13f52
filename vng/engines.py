"""Engines by name, from tables of "module:class"; a module is imported when its engine is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

from vng.config_files import find_config, load_tree
from vng.errors import DataError, UsageError, one_of


def make_engine(table: Mapping[str, str], kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Make the engine `name` of a table with options.

    The option `settings` may be a mapping of strings, as on a command line: it is validated and converted to the
    engine's settings. `device` goes to the engine, or to its settings if these do not name one; an engine that has
    neither works on the CPU.

    Args:
        table: the engines of a kind.
        kind: "propagator", "segmenter", ..., for messages and files.
        name: of the table; or a YAML file with an engine and its settings, see `read_engine`.
        options: of the engine; they go before those of a file.

    Raises:
        UsageError: an unknown name, option or setting, or an invalid value.
        DataError: a file that holds something else.
    """
    import inspect

    name, options = read_engine(kind, name, options)
    module, _, attribute = table[one_of(name, table, kind)].partition(":")
    engine = getattr(import_module(module), attribute)
    options = _with_device(engine, dict(options))
    unknown = sorted(set(options) - set(inspect.signature(engine).parameters))
    if unknown:
        raise UsageError(f"{kind} {name!r} takes no {unknown[0]!r}; leave it out, or choose another {kind}")
    if isinstance(options.get("settings"), Mapping):
        settings = checked_settings(_settings_kind(engine), f"{kind} {name!r}", options["settings"])
        options = {**options, "settings": settings}
    return engine(**options)


def read_engine(kind: str, name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and options of an engine that may be named by a YAML file, such as configs/engines/sam-pt/default.yaml.

        propagator: sam_pt
        settings: {tracker: cotracker, refinements: 12}
        checkpoint: facebook/sam-vit-huge      # may be left out

    Options that are given go before those of the file; so does each of the `settings`.

    Raises:
        UsageError: no such file. DataError: it is not of this kind, or holds something else.
    """
    if not name.endswith((".yaml", ".yml")):
        return name, dict(options)
    path = find_config(Path(name))
    tree = load_tree(path)
    unknown = sorted(set(tree) - {kind, "settings", "checkpoint"})
    if unknown or not isinstance(tree.get(kind), str) or not isinstance(tree.get("settings", {}), dict):
        reason = f"unknown: {unknown[0]}" if unknown else f"no engine (`{kind}: NAME`), or settings that are no mapping"
        raise DataError(path, reason=reason, cure=f"write `{kind}`, and perhaps `settings` and `checkpoint`")
    chosen: dict[str, Any] = {key: tree[key] for key in ("settings", "checkpoint") if key in tree} | dict(options)
    given = options.get("settings")
    if given is None or isinstance(given, Mapping):
        merged = {**tree.get("settings", {}), **(given or {})}
        chosen |= {"settings": merged} if merged else {}
    return tree[kind], chosen


def _with_device(engine: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options with `device` where the engine takes it."""
    import inspect

    if "device" not in options or "device" in inspect.signature(engine).parameters:
        return options
    device, settings = options.pop("device"), options.get("settings") or {}
    if device is None or not isinstance(settings, Mapping):
        return options
    if "device" in (field.name for field in fields(_settings_kind(engine))):
        options["settings"] = {"device": device, **settings}
    return options


def _settings_kind(engine: Any) -> Any:
    hint = get_type_hints(engine.__init__)["settings"]
    return next(choice for choice in get_args(hint) if is_dataclass(choice))


def checked_settings(kind: Any, label: str, values: Mapping[str, Any]) -> Any:
    """A dataclass of settings from values by name, which may be texts, as on a command line.

    Args:
        kind: the dataclass.
        label: what it sets, for messages.
        values: by the names of its fields.

    Raises:
        UsageError: an unknown name or an invalid value.
    """
    from pydantic import TypeAdapter, ValidationError

    for key in values:
        one_of(key, [field.name for field in fields(kind)], f"setting of {label}")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{label}: {place}={first['input']!r}: {first['msg']}") from error
