"""Segmenters: an image and points in, one mask per object out. They work on single frames.

A new engine is one file with a subclass of `Segmenter`, and one line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from vng.engines import make_engine

if TYPE_CHECKING:  # the command line needs only the names
    import numpy as np

    from vng.points import PointPrompts

# name -> "module:class"; the module is imported when the engine is made
ENGINES = {
    "classical": "vng.segmenters.classical:ClassicalSegmenter",
    "embedded": "vng.segmenters.embedded:EmbeddedSegmenter",
    "dynamite": "vng.segmenters.dynamite:DynamiteSegmenter",
    "sam": "vng.segmenters.sam:SamSegmenter",
    "sam2": "vng.segmenters.sam:SamSegmenter",  # one engine for all three: the checkpoint determines the model
    "sam3": "vng.segmenters.sam:SamSegmenter",
}
NEEDS_CHECKPOINT = ("dynamite", "sam", "sam2", "sam3")  # raise UsageError without one
DEFAULT = "embedded"


class Segmenter(Protocol):
    """The interface of a segmenter: all objects of a frame in one call, so that the image is encoded once."""

    takes_boxes: bool  # whether boxes of prompts are heeded

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """image uint8 [H, W, 3] RGB, K prompts -> probabilities float32 [K, H, W] in [0, 1].

        An engine may ignore boxes and masks of prompts; its documentation states so.
        """
        ...

    def encoded(self, image: np.ndarray) -> Callable[[Sequence[PointPrompts]], np.ndarray]:
        """The engine for one image and many calls, as when a person clicks: the image is encoded at the first one.

        The image must not change. Without an encoder, each call does all the work.
        """
        return partial(self, image)


def load(name: str = DEFAULT, **options: Any) -> Segmenter:
    """Make a segmenter by name with `options` of its engine.

    Raises UsageError for an unknown name or option, or if an engine in `NEEDS_CHECKPOINT` gets no `checkpoint`.
    """
    return make_engine(ENGINES, "segmenter", name, options)
