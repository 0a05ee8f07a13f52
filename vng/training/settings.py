"""The typed settings of a training recipe."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from vng.config import Settings


def _check_sizes(value: dict[str, Any], config: type) -> dict[str, Any]:
    """The sizes, all of which the model's configuration knows."""
    known = set(inspect.signature(config).parameters) - {"kwargs"}
    unknown = sorted(set(value) - known)
    if unknown:
        raise ValueError(f"unknown sizes {unknown}, known ones: {sorted(known)}")
    return value


GROUNDING_SUPERVISIONS = Literal["masks", "pseudo_masks", "points"]


class GroundingSource(Settings):
    """One dataset of a mixture for the grounder."""

    path: Path
    split: str | None = None
    frames_root: Path | None = None  # where linked frames lie, if they moved
    weight: float = Field(1.0, gt=0)  # share of the samples, beside the other sources' weights
    supervision: GROUNDING_SUPERVISIONS | None = None  # None: the recipe's
    stills: bool = False  # clips made of one frame, moved, instead of several frames of a video
    min_agreement: float | None = Field(None, ge=0, le=1)  # None: the recipe's


class DataSettings(Settings):
    """Which datasets, and how clips are drawn from them; `path`, `split` and `frames_root` are short for one source."""

    sources: tuple[GroundingSource, ...] = Field(min_length=1)
    frames: PositiveInt = 5  # a clip
    max_skip: PositiveInt = 3  # most frames between neighbours round the clip's first choice (ReferFormer)
    flip: float = Field(0.5, ge=0, le=1)  # chance of a mirrored clip; "left" and "right" change places
    short_side: int = Field(360, ge=0)  # 0 keeps frames as they are
    long_side: PositiveInt = 640
    short_sides: tuple[PositiveInt, ...] = ()  # of training clips, one is drawn; (): short_side
    crop: float = Field(0.0, ge=0, le=1)  # chance that a clip shows a piece of the frame
    crop_short_sides: tuple[PositiveInt, ...] = (400, 500, 600)  # of the frame that the piece is cut from, one is drawn
    crop_sides: tuple[PositiveInt, PositiveInt] = (384, 600)  # least and largest side of the piece
    distortion: float = Field(0.0, ge=0, le=1)  # strength of the change of light and colours; 1: ReferFormer's
    degrees: float = Field(15.0, ge=0)  # stills: each frame's own turn
    shear: float = Field(10.0, ge=0)  # stills
    still_scale: tuple[float, float] = (0.85, 1.2)  # stills: of each frame
    min_agreement: float = Field(0.0, ge=0, le=1)  # leave out objects whose point agreement is lower
    weigh_agreement: bool = True  # pseudo_masks: objects weigh in the loss by how far their agreement is above chance

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        short = ("path", "split", "frames_root")
        if not isinstance(value, dict) or value.get("path") is None:
            return {k: v for k, v in value.items() if k != "path"} if isinstance(value, dict) else value
        if value.get("sources"):
            raise ValueError("path and sources: give one of them (data.path=null takes the recipe's away)")
        rest = {name: given for name, given in value.items() if name not in (*short, "sources")}
        return {**rest, "sources": [{name: value[name] for name in short if name in value}]}

    @model_validator(mode="after")
    def _in_order(self) -> DataSettings:
        for name in ("crop_sides", "still_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} {[low, high]}: above 0, least before most")
        return self


class ModelSettings(Settings):
    """What the model starts from."""

    init: str | None = None  # a trained model (folder or hub id) to go on from; the fields below are then unused,
    # but for what in `sizes` changes no shape: weights of losses, dropout, what is frozen
    tokenizer: str = "train"  # hub id or folder; "train" learns a small one from the narratives
    vocab_size: PositiveInt = 1000  # of a tokenizer that is learned
    backbone: str | dict[str, Any] = "microsoft/resnet-50"  # hub id or folder (of an STCN too), or a configuration
    text_encoder: str | dict[str, Any] = "FacebookAI/roberta-base"
    sizes: dict[str, Any] = Field(default_factory=dict)  # of ReferFormerConfig: d_model, num_queries, ...

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: dict[str, Any]) -> dict[str, Any]:
        from vng.models.referformer.configuration_referformer import ReferFormerConfig

        return _check_sizes(value, ReferFormerConfig)


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


class GroundingRecipe(Recipe):
    """One training run of the narrative grounder."""

    task: Literal["grounding"] = "grounding"
    supervision: GROUNDING_SUPERVISIONS = "masks"  # pseudo_masks: Huberised; points: at points alone (both ours)
    data: DataSettings
    model: ModelSettings = ModelSettings()

    def datasets(self) -> dict[str, Path]:
        """Every source, in the order of the recipe."""
        return {f"dataset_manifest.{i}": source.path for i, source in enumerate(self.data.sources)}


class ClickDataSettings(Settings):
    """Which datasets with masks, and how images and clicks are drawn from them."""

    paths: tuple[Path, ...] = Field(min_length=1)
    shares: tuple[float, ...] = ()  # of the samples; () takes the same of each
    size: tuple[PositiveInt, PositiveInt] = (192, 256)  # (height, width) of a sample, multiples of 32
    scale: tuple[float, float] = (0.7, 1.5)  # of the frame
    rotation: float = Field(12.0, ge=0)  # degrees at the most
    companions: float = Field(0.6, ge=0, le=1)  # chance of objects pasted beside the one there is
    pieces: float = Field(0.15, ge=0, le=1)  # chance that a prompt of many clicks means a part of an object
    regions: float = Field(0.0, ge=0, le=1)  # chance that it means a region of one colour beside the objects
    prompts: PositiveInt = 5  # an image
    distance: float = Field(10.0, ge=0)  # pixels between clicks of a kind
    counts: tuple[tuple[int, int, float], ...] = (
        (10, 10, 0.35),
        (5, 5, 0.2),
        (1, 1, 0.25),
    )  # positive, negative, share
    most: tuple[int, int] = (12, 12)  # the other prompts have up to this many positive and negative clicks
    others: float = Field(0.5, ge=0, le=1)  # chance that clicks on other objects are among the negatives
    traces: float = Field(0.1, ge=0, le=1)  # share of prompts that are mouse traces

    @model_validator(mode="after")
    def _sizes_fit(self) -> ClickDataSettings:
        if self.shares and len(self.shares) != len(self.paths):
            raise ValueError(f"{len(self.shares)} shares for {len(self.paths)} paths")
        if any(side % 32 for side in self.size):
            raise ValueError(f"size {list(self.size)}: sides are multiples of 32")
        return self


class ClickModelSettings(Settings):
    """What the click segmenter starts from."""

    init: str | None = None  # a trained one to go on from; `sizes` is then unused
    sizes: dict[str, Any] = Field(default_factory=dict)  # of ClickNetConfig

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: dict[str, Any]) -> dict[str, Any]:
        from vng.models.clicknet.configuration_clicknet import ClickNetConfig

        return _check_sizes(value, ClickNetConfig)


class ImagesRecipe(Recipe):
    """A training run on images of several datasets with masks."""

    data: ClickDataSettings

    def datasets(self) -> dict[str, Path]:
        """Every dataset, in the order of the recipe."""
        return {f"dataset_manifest.{i}": path for i, path in enumerate(self.data.paths)}


class ClicksRecipe(ImagesRecipe):
    """One training run of the click segmenter."""

    task: Literal["clicks"] = "clicks"
    model: ClickModelSettings = ClickModelSettings()


class DynamiteModelSettings(Settings):
    """What DynaMITe starts from."""

    init: str | None = None  # a trained one (folder or hub id) to go on from; the fields below are then unused
    backbone: str | dict[str, Any] = "microsoft/resnet-50"  # hub id or folder with weights, or a configuration
    sizes: dict[str, Any] = Field(default_factory=dict)  # of DynamiteConfig: hidden_size, encoder_layers, ...

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: dict[str, Any]) -> dict[str, Any]:
        from vng.models.dynamite.configuration_dynamite import DynamiteConfig

        return _check_sizes(value, DynamiteConfig)


class DynamiteRecipe(ImagesRecipe):
    """One training run of DynaMITe; of the data settings those about images count, its clicks are the authors'."""

    task: Literal["dynamite"] = "dynamite"
    model: DynamiteModelSettings = DynamiteModelSettings()


SUPERVISIONS = Literal["masks", "pseudo_masks", "points", "hybrid"]


class VosSource(Settings):
    """One dataset of a mixture for video object segmentation."""

    path: Path
    split: str | None = None
    repeats: PositiveInt = 1  # how often its videos stand in the mixture (the paper: PV-DAVIS 5, PV-YT 1)
    frame_step: PositiveInt = 1  # frames of the video between two of the dataset (YouTube-VOS: 5)
    supervision: SUPERVISIONS | None = None  # None: the recipe's
    stills: bool | None = None  # None: the recipe's


class VosDataSettings(Settings):
    """Which datasets, and how clips are drawn from them; the defaults are STCN's main training."""

    sources: tuple[VosSource, ...] = Field(min_length=1)
    stills: bool = False  # clips made of one frame, moved and bent, instead of three of a video
    frames: int = Field(3, ge=2)  # a clip: one reference, the others are targets
    objects: PositiveInt = 2  # most of them in a clip
    size: tuple[PositiveInt, PositiveInt] = (384, 384)  # (height, width) of a sample, multiples of 16
    crop: tuple[float, float] = (0.36, 1.0)  # share of the frame's area that a clip shows
    flip: float = Field(0.5, ge=0, le=1)
    degrees: float = Field(15.0, ge=0)  # each frame's own turn, and its shear
    shear: float = Field(10.0, ge=0)
    still_scale: tuple[float, float] = (0.8, 1.5)  # stills: of the whole clip; each frame's own is 0.9 to 1.1
    bend: float = Field(0.33, ge=0, le=1)  # stills: chance of a thin-plate spline
    colour: float = Field(0.5, ge=0)  # strength of the clip's other light
    skips: tuple[tuple[float, PositiveInt], ...] = ((0, 5), (0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25), (0.9, 5))
    # ^ from this share of the steps on, at most so many frames lie between neighbours of a clip
    prompt_points: tuple[PositiveInt, PositiveInt] = (10, 10)  # fewest and most positives of the reference frame
    distance: float = Field(20.0, ge=0)  # pixels of a sample between points drawn from masks (hybrid)
    negatives: float = Field(0.0, ge=0, le=1)  # chance that the reference's negatives are told too (ours)
    verified_points: bool = True  # beside a pseudo-mask, the points it was made from count in the loss too (ours)
    min_agreement: float = Field(0.0, ge=0, le=1)  # leave out objects whose point agreement is lower

    @model_validator(mode="after")
    def _in_order(self) -> VosDataSettings:
        starts = [start for start, _ in self.skips]
        if not starts or starts[0] != 0 or starts != sorted(starts) or not starts[-1] < 1:
            raise ValueError(f"skips {list(self.skips)}: shares of the steps that begin with 0, rise and stay below 1")
        if any(side % 16 for side in self.size):
            raise ValueError(f"size {list(self.size)}: sides are multiples of 16")
        if self.prompt_points[0] > self.prompt_points[1]:
            raise ValueError(f"prompt_points {list(self.prompt_points)}: fewest before most")
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(
                f"crop {list(self.crop)}: shares of the frame's area, above 0 and up to 1, least before most"
            )
        if not 0 < self.still_scale[0] <= self.still_scale[1]:
            raise ValueError(f"still_scale {list(self.still_scale)}: above 0, least before most")
        return self


class StcnModelSettings(Settings):
    """What STCN starts from."""

    init: str | None = None  # a trained one (folder or hub id) to go on from; the fields below are then unused
    key_backbone: str | dict[str, Any] = "microsoft/resnet-50"  # hub id or folder with weights, or a configuration
    value_backbone: str | dict[str, Any] = "microsoft/resnet-18"
    sizes: dict[str, Any] = Field(default_factory=dict)  # of StcnConfig: key_dim, value_dim, key_level, ...

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: dict[str, Any]) -> dict[str, Any]:
        from vng.models.stcn.configuration_stcn import StcnConfig

        return _check_sizes(value, StcnConfig)


class StcnLossSettings(Settings):
    """What the supervisions' losses are told."""

    bootstrap: tuple[float, float] = (0.133, 0.467)  # shares of the steps between which the hardest pixels take over
    bootstrap_top: float = Field(default=0.15, gt=0, le=1)  # share of the pixels that count in the end
    huber: float = Field(default=10.0, gt=1)  # pseudo-masks: linear where the probability is below 1 / huber
    reference: float = Field(
        default=0.0, ge=0
    )  # weight of the reference frame, read from its own memory (ours; 0: not read)

    @field_validator("bootstrap")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("shares of the steps, where it begins before where it ends")
        return value


class StcnRecipe(Recipe):
    """One training run of STCN: `masks`, `pseudo_masks`, `points` (Point-STCN) or `hybrid` (Point-VOS, Sec. 4)."""

    task: Literal["stcn"] = "stcn"
    supervision: SUPERVISIONS = "masks"
    data: VosDataSettings
    model: StcnModelSettings = StcnModelSettings()
    loss: StcnLossSettings = StcnLossSettings()

    def datasets(self) -> dict[str, Path]:
        """Every source, in the order of the recipe."""
        return {f"dataset_manifest.{i}": source.path for i, source in enumerate(self.data.sources)}
