"""Propagators: a video and first hints in, masklets out. They know nothing of language.

A new engine is one file with a class that follows `Propagator`, and one line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vng.engines import make_engine
from vng.frames import Frames
from vng.points import PointPrompts

ENGINES = {
    "flow": "vng.propagators.flow:FlowPropagator",
    "stcn": "vng.propagators.stcn:StcnPropagator",
}
DEFAULT = "flow"


@dataclass(frozen=True)
class FramePrompts:
    """What is known of K objects in one frame: per object a mask or points, or None for nothing."""

    masks: tuple[np.ndarray | None, ...] = ()  # bool [H, W] each; an empty mask says the object is absent
    points: tuple[PointPrompts | None, ...] = ()

    def __post_init__(self) -> None:
        if self.masks and self.points and len(self.masks) != len(self.points):
            raise ValueError(f"prompts: {len(self.masks)} masks and {len(self.points)} points; one of each an object")

    def __len__(self) -> int:
        return max(len(self.masks), len(self.points))


class Propagator(Protocol):
    """Streams: memory does not grow with the length of the video."""

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        """Prompts by frame index -> (frame index, probabilities float32 [K, H, W]), each frame once, in any order."""
        ...


def load(name: str = DEFAULT, **options: Any) -> Propagator:
    """Make a propagator by name; `options` go to the engine. Raises UsageError for unknown ones."""
    return make_engine(ENGINES, "propagator", name, options)
