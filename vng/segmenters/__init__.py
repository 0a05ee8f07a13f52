"""Segmenters: an image and points in, one mask per object out. They know nothing of videos.

A new engine is one file with a class that follows `Segmenter`, and one line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from vng.engines import make_engine

if TYPE_CHECKING:  # the command line asks for the names alone
    import numpy as np

    from vng.points import PointPrompts

# name -> "module:class"; the module is imported only when the engine is asked for
ENGINES = {
    "classical": "vng.segmenters.classical:ClassicalSegmenter",
    "embedded": "vng.segmenters.embedded:EmbeddedSegmenter",
}
DEFAULT = "embedded"


class Segmenter(Protocol):
    """Points of all objects of a frame in one call, so that the image is looked at once."""

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """image uint8 [H, W, 3] RGB, K prompts -> probabilities float32 [K, H, W] in [0, 1]."""
        ...


def load(name: str = DEFAULT, **options: Any) -> Segmenter:
    """Make a segmenter by name; `options` go to the engine. Raises UsageError for unknown ones."""
    return make_engine(ENGINES, "segmenter", name, options)
