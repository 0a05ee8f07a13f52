"""Propagators: a video and first hints in, masklets out. They know nothing of language.

A new engine is one file with a subclass of `Propagator`, and one line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vng.engines import make_engine
from vng.errors import UsageError

if TYPE_CHECKING:  # the command line asks for the names alone
    import numpy as np
    from torch import nn

    from vng.frames import Frames
    from vng.models.frame_maps import FrameMaps
    from vng.points import PointPrompts

ENGINES = {
    "flow": "vng.propagators.flow:FlowPropagator",
    "stcn": "vng.propagators.stcn:StcnPropagator",
    "sam2": "vng.propagators.sam2:Sam2Propagator",
}
DEFAULT = "stcn"
NEEDS_CHECKPOINT = ("sam2",)  # refuse to be made without one


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

    def reads_maps_of(self, backbone: nn.Module) -> bool:
        """Whether the engine can use the maps that another network's backbone makes of the frames."""
        return False

    def with_maps(self, maps: FrameMaps, length: int = 0) -> Propagator:
        """The engine, reading these maps where it `reads_maps_of` their backbone; else itself, making its own.

        Args:
            maps: by frame.
            length: of the video where its frames will be asked for from the end, else 0.
        """
        return self


def load(name: str = DEFAULT, **options: Any) -> Propagator:
    """Make a propagator by name; `options` go to the engine. Raises UsageError for unknown ones.

    One of `NEEDS_CHECKPOINT` needs its `checkpoint`.
    """
    return make_engine(ENGINES, "propagator", name, options)


def check_prompts(frames: Frames, prompts: Mapping[int, FramePrompts]) -> int:
    """What every engine asks of its prompts, before it reads a frame; returns the number of objects K.

    Prompts may be read from files when asked for, so each is looked at once and none is kept.

    Raises:
        UsageError: no prompt, or none that says something; a frame that is not in the video; frames that speak of
            different numbers of objects; a mask of another size than the frames; a point that is not finite or lies
            outside the frame.
    """
    for t in sorted(prompts):
        if not 0 <= t < len(frames):
            raise UsageError(f"frame {t} is prompted, the video has {len(frames)}")
    count, says = 0, False
    for number, (t, prompt) in enumerate(prompts.items()):
        if number and len(prompt) != count:
            raise UsageError(f"frame {t}: prompts of {len(prompt)} objects, another frame has those of {count}")
        count = len(prompt)
        said = [*prompt.masks, *prompt.points]
        says = says or any(hint is not None for hint in said)
        for k, mask in enumerate(prompt.masks):
            if mask is not None and mask.shape != frames.size:
                sizes = f"{list(mask.shape)}, the frames have {list(frames.size)}"
                raise UsageError(f"frame {t}, object {k}: a mask of {sizes}; resize it to the frames")
        for k, points in enumerate(prompt.points):
            if points is not None:
                _check_points(points, frames.size, f"frame {t}, object {k}")
    if not says:
        raise UsageError("propagation needs at least one frame with points or a mask")
    return count


def as_drawn(probabilities: np.ndarray, masks: Sequence[np.ndarray | None]) -> np.ndarray:
    """Probabilities [K, H, W] with the masks that were given put back as they were: scaling would blur them."""
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
        raise UsageError(f"{place}: neither a positive nor a negative point; give None for nothing")
    with np.errstate(invalid="ignore"):
        pixels = np.rint(xy)
        right = (pixels >= 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)  # NaN is in no range
    if not right.all():
        x, y = xy[~right][0]
        raise UsageError(f"{place}: point ({x:g}, {y:g}) is outside the frame of {width}x{height} pixels")
