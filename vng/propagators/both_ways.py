"""Objects that begin in different frames, carried both ways, each from its own first prompt.

An engine carries backwards from the first prompt of all: an object that begins later is unknown to it in the frames before.
For these frames the video is read backwards once more, from the last of the beginnings to the first frame.
Shapes: K objects, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from vng.frames import Backwards, Frames
from vng.propagators import FramePrompts, Propagator, check_prompts


def both_ways(
    propagator: Propagator, frames: Frames, prompts: Mapping[int, FramePrompts]
) -> Iterator[tuple[int, list[int], np.ndarray]]:
    """Each object in each frame once: (frame, objects, their probabilities float32 [len(objects), H, W]), in any order.

    Args:
        propagator, frames, prompts: as of `vng.propagators.Propagator`. An object without a prompt is nowhere.

    Raises:
        UsageError: as the propagator.
    """
    count = check_prompts(frames, prompts)
    starts = [_start(prompts, k) for k in range(count)]
    first = min(prompts)
    late = [k for k, start in enumerate(starts) if start is not None and start > first]
    for t, probabilities in propagator(frames, prompts):
        known = [k for k in range(count) if k not in late or t >= starts[k]]  # type: ignore[operator]
        yield t, known, probabilities[known]
    if not late:
        return
    last = max(starts[k] for k in late)  # type: ignore[type-var]
    assert last is not None
    turned = {last - t: prompt for t, prompt in prompts.items() if t <= last}
    for t, probabilities in propagator(Backwards(frames, last), turned):
        before = [k for k in late if last - t < starts[k]]  # type: ignore[operator]
        if before:
            yield last - t, before, probabilities[before]


def _start(prompts: Mapping[int, FramePrompts], k: int) -> int | None:
    """The first frame in which an object is said to be; an empty mask says that it is not there."""
    for t in sorted(prompts):
        prompt = prompts[t]
        mask = prompt.masks[k] if prompt.masks else None
        points = prompt.points[k] if prompt.points else None
        if points is not None or (mask is not None and mask.any()):
            return t
    return None
