"""Segmenters: an image and points in, one mask per object out. They work on single frames.

A new engine is one file with a subclass of `Segmenter`, and one line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    "sam": "vng.segmenters.sam:SamSegmenter",  # and HQ-SAM
    "sam2": "vng.segmenters.sam:SamSegmenter",  # one engine for all three: the checkpoint determines the model
    "sam3": "vng.segmenters.sam:SamSegmenter",
}
NEEDS_CHECKPOINT = ("dynamite", "sam", "sam2", "sam3")  # raise UsageError without one
DEFAULT = "embedded"


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Masks of K objects from one pass of a decoder, with what a further pass can start from."""

    logits: np.ndarray  # float32 [K, H, W]
    scores: np.ndarray  # float32 [K], the engine's own estimate of each mask's quality; 1 where it makes none
    feedback: tuple[Any, ...]  # of each object, in the engine's own form; None where it starts from nothing


# Prompts of K objects, and the feedback of an earlier pass (None: the first one) -> their masks
Decoder = Callable[[Sequence["PointPrompts"], "Sequence[Any] | None"], Decoded]


class Segmenter(Protocol):
    """The interface of a segmenter: all objects of a frame in one call, so that the image is encoded once."""

    takes_boxes: bool  # whether boxes of prompts are heeded
    takes_feedback: bool = False  # whether a further pass of `decoder` differs from the first

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

    def decoder(self, image: np.ndarray) -> Decoder:
        """Passes over one image, as SAM-PT makes them: each may start from the masks of the one before.

        Nothing is added to the prompts, such as other objects' points. An engine without feedback repeats its masks.
        """
        encoded = self.encoded(image)

        def decode(prompts: Sequence[PointPrompts], feedback: Sequence[Any] | None) -> Decoded:
            import numpy as np

            probabilities = encoded(prompts).clip(1e-6, 1 - 1e-6)
            logits = np.log(probabilities / (1 - probabilities)).astype(np.float32)
            return Decoded(logits=logits, scores=np.ones(len(prompts), np.float32), feedback=(None,) * len(prompts))

        return decode


def load(name: str = DEFAULT, **options: Any) -> Segmenter:
    """Make a segmenter by name with `options` of its engine.

    Raises UsageError for an unknown name or option, or if an engine in `NEEDS_CHECKPOINT` gets no `checkpoint`.
    """
    return make_engine(ENGINES, "segmenter", name, options)
