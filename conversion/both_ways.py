"""Propagation of objects that begin in different frames: each is carried forwards and backwards from its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from vng.frames import Frames
from vng.propagators import FramePrompts, Propagator


def both_ways(
    propagator: Propagator,
    frames: Frames,
    prompts: Mapping[int, FramePrompts],
    starts: Sequence[int],
    wanted: Collection[int],
) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
    """Probability maps float32 [H, W] of K objects in the wanted frames, each of an object and a frame once.

    A propagator carries an object from its first prompt on, and backwards only from the first prompt of all: an object
    that begins later is unknown in the frames before. A second pass, over the reversed video, gives those. Where all
    objects begin in one frame, there is one pass.

    Args:
        propagator, frames: the engine and the video.
        prompts: as of `Propagator`, by frame.
        starts: frame of the first prompt of each object.
        wanted: frames to return.

    Yields:
        (frame, {object: map}), in any order.
    """
    first, last = min(starts), len(frames) - 1
    missing = {t: {k for k, start in enumerate(starts) if first != start > t} for t in wanted}
    yield from _selected(
        propagator(frames, prompts), {t: set(range(len(starts))) - later for t, later in missing.items()}
    )
    reversed_prompts = {last - t: prompt for t, prompt in prompts.items()}
    backwards = {last - t: later for t, later in missing.items() if later}
    if backwards:
        for t, maps in _selected(propagator(frames.subset(range(last, -1, -1)), reversed_prompts), backwards):
            yield last - t, maps


def _selected(
    masklets: Iterator[tuple[int, np.ndarray]], selected: Mapping[int, set[int]]
) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
    """The maps of selected objects by frame; no frame is computed beyond the last selected one."""
    left = sum(1 for objects in selected.values() if objects)
    for t, probabilities in masklets if left else ():
        if objects := selected.get(t):
            yield t, {k: probabilities[k] for k in sorted(objects)}
            left -= 1
            if not left:
                return
