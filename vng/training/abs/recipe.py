"""The recipe of ABS."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from vng.training.recipe import Settings, known_sizes
from vng.training.stcn.recipe import StcnLossSettings, StcnRecipe


class AbsModelSettings(Settings):
    """Initial weights, and sizes, of ABS."""

    init: str | None = None  # a trained ABS (folder or hub id) to start from; the fields below are then unused
    stcn: str | None = "stcn"  # a Point-STCN whose keys, values and decoder ABS takes over; None: random ones
    sizes: dict[str, Any] = Field(default_factory=dict)  # of AbsConfig: dim, heads, uses_flow, ...

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: dict[str, Any]) -> dict[str, Any]:
        from vng.models.abs.configuration_abs import AbsConfig
        from vng.models.stcn.configuration_stcn import StcnConfig

        return known_sizes(value, AbsConfig, StcnConfig)


class AbsLossSettings(StcnLossSettings):
    """Losses of STCN, and that of the segment attention."""

    reference: float = Field(default=1.0, ge=0)  # the first frame: ABS segments it from a click
    attention: float = Field(default=0.3, ge=0)  # cross-entropy of the segment attention's own coarse masks


class AbsRecipe(StcnRecipe):
    """One training run of ABS: "hybrid" starts clips from clicks and trains on masks."""

    task: Literal["abs"] = "abs"  # type: ignore[assignment]
    supervision: Literal["hybrid"] = "hybrid"
    model: AbsModelSettings = AbsModelSettings()  # type: ignore[assignment]
    loss: AbsLossSettings = AbsLossSettings()
