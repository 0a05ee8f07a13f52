"""Recipes of click segmenters."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from vng.training.recipe import (
    MixtureSettings,
    OptimizerSettings,
    PretrainedOptimizerSettings,
    Recipe,
    Settings,
    known_sizes,
)


class SceneSettings(MixtureSettings):
    """Datasets with masks, and how images are drawn from them; each change can be turned off."""

    size: tuple[PositiveInt, PositiveInt] = (192, 256)  # (height, width) of a sample, multiples of 32
    scale: tuple[float, float] = (0.7, 1.5)  # of the frame, least and most
    rotation: float = Field(12.0, ge=0)  # at most, degrees
    aspect: float = Field(0.12, ge=0)  # largest change of the logarithm of width over height
    flip: float = Field(0.5, ge=0, le=1)  # chance of a mirrored image
    colour: float = Field(1.0, ge=0)  # strength of the change of light and colours
    companions: float = Field(0.6, ge=0, le=1)  # chance of further objects pasted into the image

    @model_validator(mode="after")
    def _sizes_fit(self) -> SceneSettings:
        if any(side % 32 for side in self.size):
            raise ValueError(f"size {list(self.size)}: sides are multiples of 32")
        return self


class ClickDataSettings(SceneSettings):
    """Scenes of the click segmenter, and how clicks are drawn from them."""

    pieces: float = Field(0.15, ge=0, le=1)  # chance that a prompt of many clicks means a part of an object
    regions: float = Field(0.0, ge=0, le=1)  # chance that it means a region of one colour outside the objects
    prompts: PositiveInt = 5  # for each image
    distance: float = Field(10.0, ge=0)  # pixels between clicks of a kind
    # positive clicks, negative clicks, share of the prompts
    counts: tuple[tuple[int, int, float], ...] = ((10, 10, 0.35), (5, 5, 0.2), (1, 1, 0.25))
    most: tuple[int, int] = (12, 12)  # most positive and negative clicks of the other prompts
    others: float = Field(0.5, ge=0, le=1)  # chance that the negatives include clicks on other objects
    traces: float = Field(0.1, ge=0, le=1)  # share of prompts that are mouse traces


class ClickModelSettings(Settings):
    """Initial weights, or sizes, of the click segmenter."""

    init: str | None = None  # a trained model to start from; the fields below are then unused
    backbone: str | dict[str, Any] | None = None  # hub id or folder with weights, or a configuration; None: Lite0's
    sizes: dict[str, Any] = Field(default_factory=dict)  # of ClickNetConfig

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: dict[str, Any]) -> dict[str, Any]:
        from vng.models.clicknet.configuration_clicknet import ClickNetConfig

        if "backbone" in value:
            raise ValueError("sizes.backbone: write model.backbone")
        return known_sizes(value, ClickNetConfig)


class ClicksRecipe(Recipe):
    """One training run of the click segmenter."""

    task: Literal["clicks"] = "clicks"
    data: ClickDataSettings
    optimizer: PretrainedOptimizerSettings
    model: ClickModelSettings = ClickModelSettings()


class DynamiteModelSettings(Settings):
    """Initial weights, or backbone and sizes, of DynaMITe."""

    init: str | None = None  # a trained model (folder or hub id) to start from; the fields below are then unused
    backbone: str | dict[str, Any] = "microsoft/resnet-50"  # hub id or folder with weights, or a configuration
    sizes: dict[str, Any] = Field(default_factory=dict)  # of DynamiteConfig: hidden_size, encoder_layers, ...

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: dict[str, Any]) -> dict[str, Any]:
        from vng.models.dynamite.configuration_dynamite import DynamiteConfig

        return known_sizes(value, DynamiteConfig)


class DynamiteDataSettings(SceneSettings):
    """Scenes of DynaMITe; its clicks are the authors'."""

    traces: float = Field(
        0.0, ge=0, le=1
    )  # chance that an object's first prompt is a mouse trace (Point-VOS, Sec. 3.2)


class DynamiteOptimizerSettings(OptimizerSettings):
    """The optimizer, with the rate of the backbone; 0 freezes it."""

    lr_backbone: float = Field(5e-5, ge=0)


class DynamiteRecipe(Recipe):
    """One training run of DynaMITe."""

    task: Literal["dynamite"] = "dynamite"
    optimizer: DynamiteOptimizerSettings
    data: DynamiteDataSettings
    model: DynamiteModelSettings = DynamiteModelSettings()
