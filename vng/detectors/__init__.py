"""Detectors: an image and phrases in, boxes with scores for each phrase out. They work on single frames.

A new engine is one file with a subclass of `Detector`, one line in `ENGINES`, and its usual checkpoint in `CHECKPOINTS`.
Shapes: D detections, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vng.engines import make_engine
from vng.errors import UsageError

if TYPE_CHECKING:  # the command line needs only the names
    import numpy as np

ENGINES = {
    "grounding-dino": "vng.detectors.grounding_dino:GroundingDinoDetector",  # and MM-Grounding-DINO
    "owlv2": "vng.detectors.owlv2:Owlv2Detector",
    "sam3": "vng.detectors.sam3:Sam3Detector",
}
CHECKPOINTS = {  # of engines that are given none; licences and sizes: `vng/grounding/zero_shot_presets.py`
    "grounding-dino": "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det",
    "owlv2": "google/owlv2-base-patch16-ensemble",
    "sam3": "facebook/sam3",
}
DEFAULT = "grounding-dino"


@dataclass(frozen=True)
class Detections:
    """The things that an engine found for one phrase in one image, the best first.

    Attributes:
        boxes: float32 [D, 4], (x0, y0, x1, y1): centres of the first and last pixels, as in `PointPrompts`.
        scores: float32 [D] in [0, 1].
        masks: bool [D, H, W] of engines that segment; None of others.
    """

    boxes: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class DetectorSettings:
    """Settings of every detector; raises UsageError for a value out of range."""

    least_score: float = 0.1  # of a detection; absent things are told by the whole of their scores, later
    most: int = 20  # detections of a phrase
    overlap: float = 0.8  # IoU above which the weaker of two boxes is dropped
    device: str | None = None  # None: a GPU if there is one

    def __post_init__(self) -> None:
        for name in ("least_score", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name}={getattr(self, name)}: expected a value from 0 to 1")
        if self.most < 1:
            raise UsageError(f"most={self.most}: expected 1 or more")


class Detector(Protocol):
    """The interface of a detector: all phrases of an image in one call, so that the image is encoded once."""

    fingerprint: str  # of its weights, for manifests
    presence: float  # steady score (`vng.grounding.tracks.Track`) from which on a thing is taken to be there

    def __call__(self, image: np.ndarray, phrases: Sequence[str]) -> Sequence[Detections]:
        """image uint8 [H, W, 3] RGB, phrases -> the detections of each phrase, in their order."""
        ...


def load(name: str = DEFAULT, **options: Any) -> Detector:
    """Make a detector by name with `options` of its engine: `checkpoint` and `settings`.

    Raises:
        UsageError: an unknown name or option.
        DataError: no such checkpoint (not in reach, gated, of another model), or weights that do not fit.
    """
    return make_engine(ENGINES, "detector", name, options)
