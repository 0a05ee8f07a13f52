"""Scores of masks in memory: `add(...)` as often as there are videos, then `compute()`.

    score = VosScore("davis")
    score.add("bear", truth, prediction)       # bool [T, H, W] or a list of RLE | None; {object id: masks} for several
    score.compute()                            # {"J&F": ..., "J": ..., "F": ..., ...}

`compute` changes nothing and may be called at any time. A score pickles: each process adds its own videos, then
`accelerate.utils.gather_object([score])` and `merge`; the result does not depend on who added what, or when.
Rules are those of the commands (docs/protocols.md), by the same code. The five scores: `VosScore`, `NarrativeScore`,
`InstanceScore`, `PointScore`, `TraceScore`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from vng.evaluation.metrics import Mask
from vng.masks import RLE

Masks = np.ndarray | Sequence[Mask | None]  # [T, H, W], or a mask a frame; None: not annotated, or not predicted
Part = TypeVar("Part")
Self = TypeVar("Self", bound="Accumulator[Any]")


class Accumulator(Generic[Part]):
    """What scores of masks in memory have in common: parts by key, each added once, wherever that happened.

    A subclass is a dataclass with a field `_parts`, and has `add` and `compute`.
    """

    _parts: dict[Any, Part]

    def rules(self) -> Any:
        """What two scores must agree in to be merged."""
        return None

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Add one thing to be scored."""
        raise NotImplementedError

    def compute(self) -> dict[str, float]:
        """The figures of all that was added; NaN where nothing was."""
        raise NotImplementedError

    def add_batch(self, items: Iterable[tuple[Any, ...]]) -> None:
        """Add several: the positional arguments of `add` for each."""
        for item in items:
            self.add(*item)

    def merge(self: Self, other: Self) -> None:
        """Take over the parts of another one; ValueError where both hold one, or their rules differ."""
        if self.rules() != other.rules():
            raise ValueError("the two score by different rules")
        if both := set(self._parts) & set(other._parts):
            raise ValueError(f"{min(both, key=str)!r} was added to both")
        self._parts |= other._parts

    def _check_new(self, key: Any, name: str) -> None:
        if key in self._parts:
            raise ValueError(f"{name} was added before")


def size_of(mask: Mask) -> tuple[int, int]:
    """Height and width of a mask; ValueError for an array of another shape than [H, W]."""
    if isinstance(mask, RLE):
        return mask.size
    if mask.ndim != 2:
        raise ValueError(f"masks are [T, H, W], or one [H, W] a frame; got a frame of shape {list(mask.shape)}")
    return int(mask.shape[0]), int(mask.shape[1])
