"""The recipe of STCN and Point-STCN."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from vng.training.recipe import (
    SUPERVISIONS,
    MixtureSettings,
    PretrainedOptimizerSettings,
    Recipe,
    Settings,
    known_sizes,
)


class VosDataSettings(MixtureSettings):
    """Datasets, and how clips are drawn from them; the defaults are STCN's main training."""

    uses: ClassVar[tuple[str, ...]] = ("supervision", "stills", "min_agreement", "frame_step")

    weigh: Literal["sources", "videos"] = "videos"  # the paper: PV-DAVIS 5, PV-YT 1
    stills: bool = False  # clips of one frame, moved and bent, instead of three frames of a video
    frames: int = Field(3, ge=2)  # in a clip: one reference, the others are targets
    objects: PositiveInt = 2  # at most, in a clip
    size: tuple[PositiveInt, PositiveInt] = (384, 384)  # (height, width) of a sample, multiples of 16
    crop: tuple[float, float] = (0.36, 1.0)  # share of the frame's area that a clip shows
    flip: float = Field(0.5, ge=0, le=1)
    degrees: float = Field(15.0, ge=0)  # rotation and shear of each frame
    shear: float = Field(10.0, ge=0)
    still_degrees: float = Field(20.0, ge=0)  # stills: rotation of each frame; each is also cropped at its own place
    still_scale: tuple[float, float] = (0.8, 1.5)  # stills: of the whole clip; that of each frame is 0.9 to 1.1
    bend: float = Field(0.33, ge=0, le=1)  # stills: chance of a thin-plate spline
    light: float = Field(1.0, ge=0)  # strength of the change of light in a clip and in each frame; 1: STCN's
    colour: float = Field(0.0, ge=0)  # strength of a larger change of light and colours in a clip (ours)
    # (share of the steps, most frames between one frame of a clip and the next from then on, the next one excluded)
    skips: tuple[tuple[float, PositiveInt], ...] = ((0, 5), (0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25), (0.9, 5))
    prompt_points: tuple[PositiveInt, PositiveInt] = (10, 10)  # fewest and most positives of the reference frame
    distance: float = Field(20.0, ge=0)  # pixels of a sample between points drawn from masks (hybrid)
    negatives: float = Field(0.0, ge=0, le=1)  # chance that the prompt includes the reference's negatives (ours)
    verified_points: bool = True  # the points of a pseudo-mask count in the loss as well (ours)
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
            raise ValueError(f"crop {list(self.crop)}: shares of the frame's area, in (0, 1], least before most")
        if not 0 < self.still_scale[0] <= self.still_scale[1]:
            raise ValueError(f"still_scale {list(self.still_scale)}: above 0, least before most")
        return self


class StcnModelSettings(Settings):
    """Initial weights, or backbones and sizes, of STCN."""

    init: str | None = None  # a trained model (folder or hub id) to start from; the fields below are then unused
    key_backbone: str | dict[str, Any] = "microsoft/resnet-50"  # hub id or folder with weights, or a configuration
    value_backbone: str | dict[str, Any] = "microsoft/resnet-18"
    sizes: dict[str, Any] = Field(default_factory=dict)  # of StcnConfig: key_dim, value_dim, key_level, ...

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: dict[str, Any]) -> dict[str, Any]:
        from vng.models.stcn.configuration_stcn import StcnConfig

        return known_sizes(value, StcnConfig)


class StcnLossSettings(Settings):
    """Settings of the losses of the supervisions."""

    # shares of the steps between which the loss shifts to the hardest pixels
    bootstrap: tuple[float, float] = (2 / 15, 7 / 15)
    bootstrap_top: float = Field(default=0.15, gt=0, le=1)  # share of the pixels that count at the end
    huber: float = Field(default=10.0, gt=1)  # pseudo-masks: linear where the probability is below 1 / huber
    # weight of the reference frame, read from its own memory (ours; 0: not read)
    reference: float = Field(default=0.0, ge=0)

    @field_validator("bootstrap")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("shares of the steps, the start not after the end")
        return value


class StcnRecipe(Recipe):
    """One training run of STCN: `masks`, `pseudo_masks`, `points` (Point-STCN) or `hybrid` (Point-VOS, Sec. 4)."""

    task: Literal["stcn"] = "stcn"
    supervision: SUPERVISIONS = "masks"
    data: VosDataSettings
    optimizer: PretrainedOptimizerSettings
    model: StcnModelSettings = StcnModelSettings()
    loss: StcnLossSettings = StcnLossSettings()
