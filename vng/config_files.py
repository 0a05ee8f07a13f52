"""Configuration files: YAML with a `base`, `key=value` overrides, and those that are shipped in `configs/`.

What a file may hold is up to its reader: recipes of trainings (`vng.training.recipe`), settings of engines (`vng.engines`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vng.errors import DataError, UsageError
from vng.text_files import beyond_limits, read_text

MOST_CHARACTERS = 1 << 15  # of a recipe; nested brackets take time that grows with the square
logger = logging.getLogger(__name__)


def load_tree(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A recipe merged into its `base`, with overrides, not checked yet; raises as `load_settings`."""
    tree = _load_tree(find_config(path))
    for override in overrides:
        _apply(tree, override)
    return tree


def find_config(path: Path) -> Path:
    """The path itself if it is a file, else the shipped recipe of that name (with or without .yaml and `configs/`)."""
    if path.is_file():
        return path
    relative = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    for name in (relative, relative.with_name(relative.name + ".yaml")):
        if (shipped_configs() / name).is_file():
            return shipped_configs() / name
    names = sorted(str(p.relative_to(shipped_configs())) for p in shipped_configs().rglob("*.yaml"))
    raise UsageError(f"{path}: no such recipe; shipped ones: {', '.join(names)}")


def shipped_configs() -> Path:
    """The folder of shipped recipes: `configs/` beside the package in a checkout, else `share/vng/configs`."""
    import sys

    checkout = Path(__file__).resolve().parents[1] / "configs"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "vng" / "configs"


def _load_tree(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The recipe merged into its `base`: a recipe beside it, or else a shipped one."""
    import yaml  # where it is used: the commands' help imports this module

    children = (*children, path.resolve())
    text = read_text(path)
    if len(text) > MOST_CHARACTERS:
        reason = f"{len(text):,} characters, a recipe has at most {MOST_CHARACTERS:,}"
        raise DataError(path, reason=reason, cure="check that this is a recipe")
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark else ""
        reason = "broken YAML" if isinstance(error, yaml.YAMLError) else f"broken YAML: {beyond_limits(error)}"
        raise DataError(path, record=place, reason=reason, cure="fix the recipe") from error
    if not isinstance(tree, dict):
        raise DataError(path, reason="a recipe is a mapping of settings", cure="see configs/")
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise DataError(
            path, field="base", reason=f"expected the name of a recipe, got {base!r}", cure="fix the recipe"
        )
    beside = path.parent / base
    parent = beside if beside.is_file() else find_config(Path(base))
    if parent.resolve() in children:
        raise DataError(path, field="base", reason=f"{base} is based on this recipe", cure="name another base")
    return _merge(_load_tree(parent, children), tree)


_INSTEAD = {"path": "sources", "sources": "path"}  # of data: either replaces the other one of the `base`


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, other in _INSTEAD.items():
        if above.get(name):
            merged.pop(other, None)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply(tree: dict[str, Any], override: str) -> None:
    import yaml

    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UsageError(f"override {override!r}: write key=value, for example optimizer.steps=100")
    try:
        value = yaml.safe_load(text) if text else ""
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"override {override!r}: the value is broken YAML; quote it") from error
    apply_setting(tree, key, value)


def apply_setting(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set `a.b.c` of plain settings; raises UsageError where `a` or `a.b` is a value."""
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise UsageError(f"override {key!r}: {parent} is a value, not a group of settings")
    logger.info("override %s: %r -> %r", key, node.get(last), value)
    node[last] = value
    if last in _INSTEAD and value:
        node.pop(_INSTEAD[last], None)
