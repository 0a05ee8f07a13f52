"""Propagators: a video and prompts in some frames in, masklets out. They do not use language.

A new engine is one file with a subclass of `Propagator`, and one line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vng.engines import make_engine
from vng.errors import UsageError

if TYPE_CHECKING:  # the command line needs only the names
    import numpy as np
    from torch import nn

    from vng.frames import Frames
    from vng.models.frame_maps import FrameMaps
    from vng.points import PointPrompts

ENGINES = {
    "flow": "vng.propagators.flow:FlowPropagator",
    "stcn": "vng.propagators.stcn:StcnPropagator",
    "sam2": "vng.propagators.sam2:Sam2Propagator",
    "edgetam": "vng.propagators.edgetam:EdgeTamPropagator",
    "sam3_tracker": "vng.propagators.sam3_tracker:Sam3TrackerPropagator",
    "sam_pt": "vng.propagators.sam_pt:SamPtPropagator",
    "abs": "vng.propagators.abs:AbsPropagator",
    "proposals": "vng.propagators.proposals:ProposalPropagator",
}
DEFAULT = "stcn"
NEEDS_CHECKPOINT = ("sam2", "edgetam", "sam3_tracker")  # raise UsageError without one


@dataclass(frozen=True)
class FramePrompts:
    """Prompts of K objects in one frame: a mask or points per object, or None."""

    masks: tuple[np.ndarray | None, ...] = ()  # bool [H, W] each; an empty mask: the object is absent
    points: tuple[PointPrompts | None, ...] = ()

    def __post_init__(self) -> None:
        if self.masks and self.points and len(self.masks) != len(self.points):
            raise ValueError(
                f"prompts: {len(self.masks)} masks and {len(self.points)} points; expected one of each per object"
            )

    def __len__(self) -> int:
        return max(len(self.masks), len(self.points))


class Propagator(Protocol):
    """The interface of a propagator; it streams, so memory does not grow with the length of the video."""

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        """Prompts by frame index -> (frame index, probabilities float32 [K, H, W]), each frame once, in any order."""
        ...

    reads_points: bool = False  # whether the engine makes more of points than of masks that a segmenter makes from them

    def reads_maps_of(self, backbone: nn.Module) -> bool:
        """Whether the engine can use the feature maps of another network's backbone."""
        return False

    def with_maps(self, maps: FrameMaps, length: int = 0) -> Propagator:
        """The engine with these maps if it `reads_maps_of` their backbone; otherwise unchanged, computing its own.

        Args:
            maps: feature maps by frame.
            length: number of frames if they will be requested in reverse order, else 0.
        """
        return self


def load(name: str = DEFAULT, **options: Any) -> Propagator:
    """Make a propagator by name with `options` of its engine.

    Raises UsageError for an unknown name or option, or if an engine in `NEEDS_CHECKPOINT` gets no `checkpoint`.
    """
    return make_engine(ENGINES, "propagator", name, options)


def check_prompts(frames: Frames, prompts: Mapping[int, FramePrompts]) -> int:
    """Check the prompts before any frame is read, and return the number of objects K.

    Prompts may be read from files on access, so each is accessed once and none is kept.

    Raises:
        UsageError: there are no prompts, or only empty ones; a frame is not in the video; frames have different numbers
            of objects; a mask differs in size from the frames; a point is not finite or lies outside the frame.
    """
    for t in sorted(prompts):
        if not 0 <= t < len(frames):
            raise UsageError(f"frame {t} is prompted, the video has {len(frames)}")
    count, prompted = 0, False
    for number, (t, prompt) in enumerate(prompts.items()):
        if number and len(prompt) != count:
            raise UsageError(f"frame {t}: prompts of {len(prompt)} objects, another frame has prompts of {count}")
        count = len(prompt)
        prompted = prompted or any(hint is not None for hint in (*prompt.masks, *prompt.points))
        for k, mask in enumerate(prompt.masks):
            if mask is not None and mask.shape != frames.size:
                sizes = f"{list(mask.shape)}, the frames have {list(frames.size)}"
                raise UsageError(f"frame {t}, object {k}: a mask of {sizes}; resize it to the frames")
        for k, points in enumerate(prompt.points):
            if points is not None:
                _check_points(points, frames.size, f"frame {t}, object {k}")
    if not prompted:
        raise UsageError("propagation needs at least one frame with points or a mask")
    return count


def as_drawn(probabilities: np.ndarray, masks: Sequence[np.ndarray | None]) -> np.ndarray:
    """Probabilities [K, H, W] with given masks restored exactly, as scaling blurs them."""
    for mask in masks:
        if mask is not None:
            probabilities[:, mask] = 0
    for k, mask in enumerate(masks):
        if mask is not None:
            probabilities[k] = mask
    return probabilities


def _check_points(points: PointPrompts, size: tuple[int, int], place: str) -> None:
    import numpy as np

    height, width = size
    xy = np.concatenate([points.positive, points.negative])
    if not len(xy):
        raise UsageError(f"{place}: neither a positive nor a negative point; use None for no prompt")
    with np.errstate(invalid="ignore"):
        pixels = np.rint(xy)
        inside = (pixels >= 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)  # false for NaN
    if not inside.all():
        x, y = xy[~inside][0]
        raise UsageError(f"{place}: point ({x:g}, {y:g}) is outside the frame of {width}x{height} pixels")
