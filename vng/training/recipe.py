"""Recipes: YAML files with a `base`, checked against typed settings, with `key=value` overrides."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from vng.config_files import load_tree
from vng.errors import UsageError

if TYPE_CHECKING:
    from vng.dataset import VngDataset


class Settings(BaseModel):
    """Base class of typed settings: unknown keys raise an error, values are checked, records are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


S = TypeVar("S", bound=Settings)


def load_settings(kind: type[S], path: Path, overrides: Sequence[str] = ()) -> S:
    """Read a recipe, merge it into its `base`, apply `a.b=value` overrides and check everything at once.

    Raises:
        DataError: the file is missing or not valid YAML.
        UsageError: an unknown key or a wrong value; all of them in one message, with dotted paths.
    """
    return check_settings(kind, load_tree(path, overrides), str(path))


def check_settings(kind: type[S], tree: dict[str, Any], source: str) -> S:
    """Settings from a plain tree; raises UsageError, which lists every mistake."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems = [_explain(item, kind) for item in error.errors()]
        raise UsageError(f"{source}: " + "; ".join(problems)) from error


def _explain(item: Any, kind: type[Settings]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        names = ", ".join(_fields_at(kind, item["loc"][:-1]))
        return f"{place}: unknown setting, known ones: {names}"
    is_complete = item["type"] == "missing" or (item["type"] == "value_error" and isinstance(item["input"], dict))
    return f"{place}: {item['msg'].lower().removeprefix('value error, ')}" + (
        "" if is_complete else f", got {item['input']!r}"
    )


def _fields_at(kind: Any, path: Sequence[Any]) -> list[str]:
    for part in path:
        field = kind.model_fields.get(part) if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        kind = field.annotation if field else None
        kind = next((k for k in get_args(kind) if isinstance(k, type) and issubclass(k, BaseModel)), kind)
    return sorted(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def known_sizes(value: dict[str, Any], *configs: type) -> dict[str, Any]:
    """The sizes, all of which one of the model's configurations must have; raises ValueError otherwise."""
    names = {name for config in configs for name in inspect.signature(config).parameters} - {"kwargs"}
    unknown = sorted(set(value) - names)
    if unknown:
        raise ValueError(f"unknown sizes {unknown}, known ones: {sorted(names)}")
    return value


class OptimizerSettings(Settings):
    """The optimizer and its schedule; the defaults are ReferFormer's. A task adds rates for parts of its model."""

    steps: PositiveInt
    kind: Literal["adamw", "adam"] = (
        "adamw"  # adam: its weight decay is L2 regularisation, as STCN and Point-VOS have it
    )
    batch_size: PositiveInt = 1  # clips for each process and step
    accumulate: PositiveInt = 1  # forward passes for each step
    lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    clip_norm: float = Field(0.1, gt=0)
    warmup: int = Field(0, ge=0)  # steps
    schedule: Literal["constant", "steps", "cosine"] = "steps"
    drops: tuple[float, ...] = (0.5, 0.83)  # where "steps" divides the rate by 10, as shares of all steps

    def rate_of(self, part: str) -> float:
        """The learning rate of a part of the model ("backbone", "text_encoder"); 0: the part is frozen."""
        rate = getattr(self, {"backbone": "lr_backbone", "text_encoder": "lr_text"}[part], None)
        return self.lr if rate is None else float(rate)


class PretrainedOptimizerSettings(OptimizerSettings):
    """The optimizer of a model whose backbone may be pre-trained, with the rate of that."""

    lr_backbone: float | None = Field(None, ge=0)  # None: that of the rest; 0 freezes it


UserPath = Annotated[Path, AfterValidator(Path.expanduser)]  # "~" is the user's home folder
SUPERVISIONS = Literal["masks", "pseudo_masks", "points", "hybrid"]


class Source(Settings):
    """One dataset of a mixture. A task's data settings reject fields that the task does not use."""

    path: UserPath
    split: str | None = None
    frames_root: UserPath | None = None  # folder of linked frames, if they moved
    weight: float = Field(1.0, gt=0)  # relative to the other sources, see `MixtureSettings.weigh`
    supervision: SUPERVISIONS | None = None  # None: the recipe's
    # clips of one frame, moved, instead of several frames of a video; None: the recipe's
    stills: bool | None = None
    min_agreement: float | None = Field(None, ge=0, le=1)  # None: the recipe's
    frame_step: PositiveInt = 1  # frames of the video between two of the dataset (YouTube-VOS: 5)

    def open(self, datasets: Mapping[Path, VngDataset]) -> VngDataset:
        """The dataset of this path: one of `datasets`, or else opened from the folder or hub id."""
        from vng.dataset import VngDataset

        return datasets.get(self.path) or VngDataset(self.path, self.split, self.frames_root)


_SHORT = ("path", "split", "frames_root")


class MixtureSettings(Settings):
    """The training datasets; `path`, `split` and `frames_root` are short for a single source."""

    uses: ClassVar[tuple[str, ...]] = ()  # fields of sources beside path, split, frames_root and weight

    sources: tuple[Source, ...] = Field(min_length=1)
    weigh: Literal["sources", "videos"] = "sources"  # a weight is a share of the samples, or counts for each video

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("path") is None:
            return {k: v for k, v in value.items() if k != "path"} if isinstance(value, dict) else value
        if value.get("sources"):
            raise ValueError("path and sources: give one of them (data.path=null removes the recipe's)")
        rest = {name: setting for name, setting in value.items() if name not in (*_SHORT, "sources")}
        return {**rest, "sources": [{name: value[name] for name in _SHORT if name in value}]}

    @model_validator(mode="after")
    def _used(self) -> MixtureSettings:
        for i, source in enumerate(self.sources):
            for name in source.model_fields_set - {*_SHORT, "weight", *self.uses}:
                raise ValueError(f"sources.{i}.{name}: this task does not use it")
            if self.weigh == "videos" and source.weight != int(source.weight):
                raise ValueError(f"sources.{i}.weight: expected a whole number (weigh: videos), got {source.weight:g}")
        return self

    @property
    def shares(self) -> list[float]:
        """The share of the samples of each source, if `weigh` is "sources"."""
        total = sum(source.weight for source in self.sources)
        return [source.weight / total for source in self.sources]


class EvaluateSettings(Settings):
    """A dataset on which the model is scored during training (task: grounding)."""

    dataset: UserPath
    split: str | None = None
    frames_root: UserPath | None = None  # folder of linked frames, if they moved
    every: PositiveInt  # steps; also after the last one
    videos: PositiveInt | None = None  # number of videos, from the first one; None: all
    protocol: Literal["vng", "ref-youtube-vos", "ref-davis", "mevis"] = "vng"


class Recipe(Settings):
    """Settings of every training run; a task adds its data and its model."""

    task: str
    out: UserPath
    optimizer: OptimizerSettings
    seed: int = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    workers: int = Field(0, ge=0)  # data loading processes
    log_every: PositiveInt = 10
    save_every: PositiveInt = 500
    keep_checkpoints: PositiveInt = 1
    log_with: tuple[str, ...] = ()  # trackers of Accelerate beside log.jsonl: tensorboard, wandb, trackio, ...
    evaluate: EvaluateSettings | None = None

    @field_validator("precision", mode="before")
    @classmethod
    def _yaml_no(cls, value: Any) -> Any:
        return "no" if value is False else value  # an unquoted `no` is false in YAML

    def datasets(self) -> dict[str, Path]:
        """The datasets of a run, in the order of the recipe, by the names under which `training.json` keeps hashes."""
        data: MixtureSettings = getattr(self, "data")  # noqa: B009  each task has data settings of its own
        return {f"dataset_manifest.{i}": source.path for i, source in enumerate(data.sources)}
