"""The recipe of the grounder."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from vng.training.recipe import MixtureSettings, OptimizerSettings, Recipe, Settings, known_sizes

GROUNDING_SUPERVISIONS = Literal["masks", "pseudo_masks", "points"]


class DataSettings(MixtureSettings):
    """Datasets, and how clips are drawn from them."""

    uses: ClassVar[tuple[str, ...]] = ("supervision", "stills", "min_agreement")

    frames: PositiveInt = 5  # in a clip
    max_skip: PositiveInt = 3  # largest step to the frames before and after the first one chosen (ReferFormer)
    flip: float = Field(0.5, ge=0, le=1)  # chance of a mirrored clip; "left" and "right" are exchanged
    short_side: int = Field(360, ge=0)  # 0 keeps frames as they are
    long_side: PositiveInt = 640
    short_sides: tuple[PositiveInt, ...] = ()  # of training clips, one is drawn; if empty, short_side
    whole_long_side: PositiveInt | None = (
        None  # largest long side of training clips of the whole frame; None: long_side
    )
    crop: float = Field(0.0, ge=0, le=1)  # chance that a clip shows a piece of the frame
    crop_short_sides: tuple[PositiveInt, ...] = (400, 500, 600)  # of the frame that the piece is cut from, one is drawn
    crop_sides: tuple[PositiveInt, PositiveInt] = (384, 600)  # least and largest side of the piece
    piece_short_sides: tuple[PositiveInt, ...] = ()  # that the piece is scaled to, one is drawn; if empty, short_sides
    distortion: float = Field(0.0, ge=0, le=1)  # strength of the change of light and colours; 1: ReferFormer's
    degrees: float = Field(15.0, ge=0)  # stills: rotation of each frame
    shear: float = Field(10.0, ge=0)  # stills: of each frame, degrees
    still_scale: tuple[float, float] = (0.85, 1.2)  # stills: of each frame
    min_agreement: float = Field(0.0, ge=0, le=1)  # leave out objects whose point agreement is lower
    # pseudo_masks: an object's weight in the loss is how far its agreement is above chance
    weigh_agreement: bool = True

    @model_validator(mode="after")
    def _in_order(self) -> DataSettings:
        for name in ("crop_sides", "still_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} {[low, high]}: above 0, least before most")
        if any(source.supervision == "hybrid" for source in self.sources):
            raise ValueError("supervision hybrid: a grounder supports masks, pseudo_masks and points")
        return self


class ModelSettings(Settings):
    """Initial weights, or encoders and sizes, of the grounder."""

    # A trained model (folder or hub id) to start from; the fields below are then unused, except those of `sizes` that
    # change no shape: weights of losses, dropout, frozen parts.
    init: str | None = None
    tokenizer: str = "train"  # hub id or folder; "train": a small one is learned from the narratives
    vocab_size: PositiveInt = 1000  # of a tokenizer that is learned
    backbone: str | dict[str, Any] = "microsoft/resnet-50"  # hub id or folder (of an STCN too), or a configuration
    text_encoder: str | dict[str, Any] = "FacebookAI/roberta-base"
    sizes: dict[str, Any] = Field(default_factory=dict)  # of ReferFormerConfig: d_model, num_queries, ...

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: dict[str, Any]) -> dict[str, Any]:
        from vng.models.referformer.configuration_referformer import ReferFormerConfig

        return known_sizes(value, ReferFormerConfig)


class GroundingOptimizerSettings(OptimizerSettings):
    """The optimizer, with rates of the two encoders; 0 freezes one of them."""

    lr_backbone: float = Field(5e-5, ge=0)
    lr_text: float = Field(1e-5, ge=0)


class GroundingRecipe(Recipe):
    """One training run of the narrative grounder."""

    task: Literal["grounding"] = "grounding"
    optimizer: GroundingOptimizerSettings
    supervision: GROUNDING_SUPERVISIONS = "masks"  # pseudo_masks: Huberised; points: at points alone (both ours)
    data: DataSettings
    model: ModelSettings = ModelSettings()
