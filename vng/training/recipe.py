"""Recipes: YAML files with a `base`, checked against typed settings, with `key=value` overrides."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from vng.errors import DataError, UsageError

if TYPE_CHECKING:
    from vng.dataset import VngDataset

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
        raise DataError(path, record=place, reason="broken YAML", cure="mend the recipe") from error
    if not isinstance(tree, dict):
        raise DataError(path, reason="a recipe is a mapping of settings", cure="see configs/")
    base = tree.pop("base", None)
    return _merge(_load_tree(find_config(path.parent / base)), tree) if base else tree


_INSTEAD = {"path": "sources", "sources": "path"}  # of data: one replaces the other of the layer below


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
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UsageError(f"override {override!r}: write key=value, for example optimizer.steps=100")
    try:
        value = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
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


SUPERVISIONS = Literal["masks", "pseudo_masks", "points", "hybrid"]


class Source(Settings):
    """One dataset of a mixture. What a task has no use for, its data settings refuse."""

    path: Path
    split: str | None = None
    frames_root: Path | None = None  # where linked frames lie, if they moved
    weight: float = Field(1.0, gt=0)  # beside the other sources' weights, see `MixtureSettings.weigh`
    supervision: SUPERVISIONS | None = None  # None: the recipe's
    stills: bool | None = (
        None  # clips made of one frame, moved, instead of several frames of a video; None: the recipe's
    )
    min_agreement: float | None = Field(None, ge=0, le=1)  # None: the recipe's
    frame_step: PositiveInt = 1  # frames of the video between two of the dataset (YouTube-VOS: 5)

    def open(self, datasets: Mapping[Path, VngDataset]) -> VngDataset:
        """The dataset: an opened one of this path, or the folder's or hub id's."""
        from vng.dataset import VngDataset

        return datasets.get(self.path) or VngDataset(self.path, self.split, self.frames_root)


_SHORT = ("path", "split", "frames_root")


class MixtureSettings(Settings):
    """Which datasets are trained on; `path`, `split` and `frames_root` are short for one source."""

    uses: ClassVar[tuple[str, ...]] = ()  # fields of sources beside path, split, frames_root and weight

    sources: tuple[Source, ...] = Field(min_length=1)
    weigh: Literal["sources", "videos"] = "sources"  # a weight is a share of the samples, or counts for each video

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("path") is None:
            return {k: v for k, v in value.items() if k != "path"} if isinstance(value, dict) else value
        if value.get("sources"):
            raise ValueError("path and sources: give one of them (data.path=null takes the recipe's away)")
        rest = {name: given for name, given in value.items() if name not in (*_SHORT, "sources")}
        return {**rest, "sources": [{name: value[name] for name in _SHORT if name in value}]}

    @model_validator(mode="after")
    def _used(self) -> MixtureSettings:
        for i, source in enumerate(self.sources):
            for name in source.model_fields_set - {*_SHORT, "weight", *self.uses}:
                raise ValueError(f"sources.{i}.{name}: this task has no use for it")
            if self.weigh == "videos" and source.weight != int(source.weight):
                raise ValueError(f"sources.{i}.weight: with weigh: videos a whole number, got {source.weight:g}")
        return self

    @property
    def shares(self) -> list[float]:
        """The share of the samples that each source has, where `weigh` is "sources"."""
        total = sum(source.weight for source in self.sources)
        return [source.weight / total for source in self.sources]


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
        """The datasets a run reads, in the order of the recipe, by the names under which `training.json` keeps hashes."""
        data: MixtureSettings = getattr(self, "data")  # noqa: B009  each task has data settings of its own
        return {f"dataset_manifest.{i}": source.path for i, source in enumerate(data.sources)}
