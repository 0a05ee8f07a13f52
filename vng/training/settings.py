"""The typed settings of a training recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator

from vng.config import Settings


class DataSettings(Settings):
    """Which dataset, and how clips are drawn from it."""

    path: Path
    split: str | None = None
    frames_root: Path | None = None  # where linked frames lie, if they moved
    frames: PositiveInt = 5  # a clip
    max_skip: PositiveInt = 3  # most frames between neighbours round the clip's first choice (ReferFormer)
    flip: float = Field(0.5, ge=0, le=1)  # chance of a mirrored clip; "left" and "right" change places
    short_side: int = Field(360, ge=0)  # 0 keeps frames as they are
    long_side: PositiveInt = 640
    min_agreement: float = Field(0.0, ge=0, le=1)  # leave out objects whose point agreement is lower


class ModelSettings(Settings):
    """What the model starts from."""

    init: str | None = None  # a trained model (folder or hub id) to go on from; the fields below are then unused
    tokenizer: str = "train"  # hub id or folder; "train" learns a small one from the narratives
    vocab_size: PositiveInt = 1000  # of a tokenizer that is learned
    backbone: str | dict[str, Any] = "microsoft/resnet-50"  # hub id or folder with weights, or a configuration
    text_encoder: str | dict[str, Any] = "FacebookAI/roberta-base"
    sizes: dict[str, Any] = Field(default_factory=dict)  # of ReferFormerConfig: d_model, num_queries, ...

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: dict[str, Any]) -> dict[str, Any]:
        import inspect

        from vng.models.referformer.configuration_referformer import ReferFormerConfig

        known = set(inspect.signature(ReferFormerConfig.__init__).parameters) - {"self", "kwargs"}
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


class GroundingRecipe(Settings):
    """One training run of the narrative grounder."""

    task: Literal["grounding"] = "grounding"
    out: Path
    data: DataSettings
    model: ModelSettings = ModelSettings()
    optimizer: OptimizerSettings
    seed: int = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    workers: int = Field(0, ge=0)  # data loading processes
    log_every: PositiveInt = 10
    save_every: PositiveInt = 500
    keep_checkpoints: PositiveInt = 1

    @field_validator("precision", mode="before")
    @classmethod
    def _yaml_no(cls, value: Any) -> Any:
        return "no" if value is False else value  # a bare `no` is false in YAML
