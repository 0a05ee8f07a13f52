"""Recipes: YAML files with a `base`, checked against typed settings, with `key=value` overrides."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator

from vng.errors import DataError, UsageError

logger = logging.getLogger(__name__)


class Settings(BaseModel):
    """Base of every typed setting: unknown keys are refused, values are checked, records are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


S = TypeVar("S", bound=Settings)


def load_settings(kind: type[S], path: Path, overrides: Sequence[str] = ()) -> S:
    """Read a recipe, lay it over its `base`, apply `a.b=value` overrides and check everything at once.

    Raises:
        DataError: the file is missing or broken YAML.
        UsageError: an unknown key or a wrong value; all of them in one message, with dotted paths.
    """
    return check_settings(kind, load_tree(path, overrides), str(path))


def load_tree(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A recipe laid over its `base`, with overrides, not checked yet; raises as `load_settings`."""
    tree = _load_tree(find_config(path))
    for override in overrides:
        _apply(tree, override)
    return tree


def check_settings(kind: type[S], tree: dict[str, Any], source: str) -> S:
    """Make settings of a plain tree; UsageError lists every mistake."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems = [_explain(item, kind) for item in error.errors()]
        raise UsageError(f"{source}: " + "; ".join(problems)) from error


def find_config(path: Path) -> Path:
    """The path itself, or the shipped recipe of that name (with or without .yaml and `configs/`)."""
    if path.is_file():
        return path
    relative = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    for name in (relative, relative.with_name(relative.name + ".yaml")):
        if (shipped_configs() / name).is_file():
            return shipped_configs() / name
    known = sorted(str(p.relative_to(shipped_configs())) for p in shipped_configs().rglob("*.yaml"))
    raise UsageError(f"{path}: no such recipe; shipped ones: {', '.join(known)}")


def shipped_configs() -> Path:
    """The folder of shipped recipes: `configs/` beside the package in a checkout, `share/vng/configs` when installed."""
    import sys

    checkout = Path(__file__).resolve().parents[2] / "configs"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "vng" / "configs"


def _load_tree(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark else ""
        raise DataError(path, place, "", "broken YAML", "mend the recipe") from error
    if not isinstance(tree, dict):
        raise DataError(path, "", "", "a recipe is a mapping of settings", "see configs/")
    base = tree.pop("base", None)
    return _merge(_load_tree(find_config(path.parent / base)), tree) if base else tree


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UsageError(f"override {override!r}: write key=value, for example optimizer.steps=100")
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise UsageError(f"override {override!r}: {parent} is a value, not a group of settings")
    try:
        value = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise UsageError(f"override {override!r}: the value is broken YAML; quote it") from error
    logger.info("override %s: %r -> %r", key, node.get(last), value)
    node[last] = value


def _explain(item: Any, kind: type[Settings]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = ", ".join(_fields_at(kind, item["loc"][:-1]))
        return f"{place}: unknown setting, known ones: {known}"
    told = item["type"] == "missing" or (item["type"] == "value_error" and isinstance(item["input"], dict))
    return f"{place}: {item['msg'].lower().removeprefix('value error, ')}" + (
        "" if told else f", got {item['input']!r}"
    )


def _fields_at(kind: Any, path: Sequence[Any]) -> list[str]:
    for part in path:
        field = kind.model_fields.get(part) if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        kind = field.annotation if field else None
        kind = next((k for k in get_args(kind) if isinstance(k, type) and issubclass(k, BaseModel)), kind)
    return sorted(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def known_sizes(value: dict[str, Any], config: type) -> dict[str, Any]:
    """The sizes, all of which the model's configuration knows."""
    known = set(inspect.signature(config).parameters) - {"kwargs"}
    unknown = sorted(set(value) - known)
    if unknown:
        raise ValueError(f"unknown sizes {unknown}, known ones: {sorted(known)}")
    return value


class OptimizerSettings(Settings):
    """AdamW with a learning rate of its own for backbone and text encoder; the defaults are ReferFormer's."""

    steps: PositiveInt
    batch_size: PositiveInt = 1  # clips a process and step
    accumulate: PositiveInt = 1  # forward passes a step
    lr: float = Field(1e-4, gt=0)
    lr_backbone: float = Field(5e-5, ge=0)
    lr_text: float = Field(1e-5, ge=0)
    weight_decay: float = Field(5e-4, ge=0)
    clip_norm: float = Field(0.1, gt=0)
    warmup: int = Field(0, ge=0)  # steps
    schedule: Literal["constant", "steps", "cosine"] = "steps"
    drops: tuple[float, ...] = (0.5, 0.83)  # where "steps" divides the rate by 10, as shares of all steps


class EvaluateSettings(Settings):
    """A dataset on which the model is scored while it trains (task: grounding)."""

    dataset: Path
    split: str | None = None
    frames_root: Path | None = None  # where linked frames lie, if they moved
    every: PositiveInt  # steps; also after the last one
    videos: PositiveInt | None = None  # the first so many of them; None: all
    protocol: Literal["vng", "ref-youtube-vos", "ref-davis", "mevis"] = "vng"


class Recipe(Settings):
    """What every training run says; a task adds its data and its model."""

    task: str
    out: Path
    optimizer: OptimizerSettings
    seed: int = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    workers: int = Field(0, ge=0)  # data loading processes
    log_every: PositiveInt = 10
    save_every: PositiveInt = 500
    keep_checkpoints: PositiveInt = 1
    evaluate: EvaluateSettings | None = None

    @field_validator("precision", mode="before")
    @classmethod
    def _yaml_no(cls, value: Any) -> Any:
        return "no" if value is False else value  # a bare `no` is false in YAML

    def datasets(self) -> dict[str, Path]:
        """The datasets a run reads, each with the name under which `training.json` keeps its manifest's hash."""
        raise NotImplementedError
