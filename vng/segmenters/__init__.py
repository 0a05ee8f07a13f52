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
    "dynamite": "vng.segmenters.dynamite:DynamiteSegmenter",
    "sam": "vng.segmenters.sam:SamSegmenter",
    "sam2": "vng.segmenters.sam:SamSegmenter",  # one engine for the three: the checkpoint says which it is
    "sam3": "vng.segmenters.sam:SamSegmenter",
}
NEEDS_CHECKPOINT = ("dynamite", "sam", "sam2", "sam3")  # refuse to be made without one
DEFAULT = "embedded"


class Segmenter(Protocol):
    """Points of all objects of a frame in one call, so that the image is looked at once."""

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """image uint8 [H, W, 3] RGB, K prompts -> probabilities float32 [K, H, W] in [0, 1].

        An engine may leave a prompt's box and mask out of account, and says so.
        """
        ...


def load(name: str = DEFAULT, **options: Any) -> Segmenter:
    """Make a segmenter by name; `options` go to the engine. Raises UsageError for unknown ones, or none where one in
    `NEEDS_CHECKPOINT` needs its `checkpoint`."""
    return make_engine(ENGINES, "segmenter", name, options)
