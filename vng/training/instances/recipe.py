"""The recipe of class-agnostic instances."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from vng.training.recipe import PretrainedOptimizerSettings, Recipe, Settings
from vng.training.stcn.recipe import VosDataSettings


class InstancesModelSettings(Settings):
    """A published Mask2Former, or sizes of a new one."""

    init: str | None = "facebook/mask2former-swin-tiny-coco-instance"  # folder or hub id; its classes become one
    config: dict[str, Any] = Field(default_factory=dict)  # of Mask2FormerConfig, where init is null

    @model_validator(mode="after")
    def _one_of_both(self) -> InstancesModelSettings:
        if (self.init is None) == (not self.config):
            raise ValueError("give init, or init: null and a config")
        return self


class InstancesRecipe(Recipe):
    """One training run: every frame by itself, every object an instance of one class (PointVIS, Sec. 3.2; MinVIS)."""

    task: Literal["instances"] = "instances"
    supervision: Literal["masks", "pseudo_masks"] = "pseudo_masks"
    data: VosDataSettings
    optimizer: PretrainedOptimizerSettings
    model: InstancesModelSettings = InstancesModelSettings()
