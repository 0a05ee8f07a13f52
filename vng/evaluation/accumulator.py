"""Scores of masks in memory: `add(...)` once for each video, then `compute()`.

    score = VosScore("davis")
    score.add("bear", truth, prediction)       # bool [T, H, W] or a list of RLE | None; {object id: masks} for several
    score.compute()                            # {"J&F": ..., "J": ..., "F": ..., ...}

`compute` changes nothing and may be called at any time. A score can be pickled: each process adds its own videos, then
`accelerate.utils.gather_object([score])` and `merge`; the result does not depend on the process or the order.
The rules and the code are those of the commands (docs/protocols.md). The five scores: `VosScore`, `NarrativeScore`,
`InstanceScore`, `PointScore`, `TraceScore`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from vng.evaluation.metrics import Mask
from vng.masks import RLE

Masks = np.ndarray | Sequence[Mask | None]  # [T, H, W], or one mask per frame; None: unannotated, or not predicted
Part = TypeVar("Part")
Self = TypeVar("Self", bound="Accumulator[Any]")


class Accumulator(Generic[Part]):
    """Base class of scores of masks in memory: parts by key, each added once, in any process.

    A subclass is a dataclass with a field `_parts`, and has `add` and `compute`.
    """

    _parts: dict[Any, Part]

    def rules(self) -> Any:
        """Settings that two scores must share to be merged."""
        return None

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Add one item to be scored."""
        raise NotImplementedError

    def compute(self) -> dict[str, float]:
        """The figures of all items added; NaN where there is none."""
        raise NotImplementedError

    def add_batch(self, items: Iterable[tuple[Any, ...]]) -> None:
        """Add several items: the positional arguments of `add` for each."""
        for item in items:
            self.add(*item)

    def merge(self: Self, other: Self) -> None:
        """Add the parts of another score; raises ValueError where both hold the same part, or their rules differ."""
        if self.rules() != other.rules():
            raise ValueError("the two scores have different rules")
        if both := set(self._parts) & set(other._parts):
            raise ValueError(f"{min(both, key=str)!r} was added to both")
        self._parts |= other._parts

    def _check_new(self, key: Any, name: str) -> None:
        if key in self._parts:
            raise ValueError(f"{name} was added before")


def size_of(mask: Mask) -> tuple[int, int]:
    """Height and width of a mask; raises ValueError for an array that is not [H, W]."""
    if isinstance(mask, RLE):
        return mask.size
    if mask.ndim != 2:
        raise ValueError(f"masks are [T, H, W], or one [H, W] per frame; got a frame of shape {list(mask.shape)}")
    return int(mask.shape[0]), int(mask.shape[1])
