"""Objects that begin in different frames are carried both ways from their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from conversion.both_ways import both_ways
from tests.helpers import box
from vng.frames import ArrayFrames, Frames
from vng.propagators import FramePrompts, Propagator, load

T, H, W = 7, 32, 48
FRAMES = ArrayFrames(np.stack([np.full((H, W, 3), t, np.uint8) for t in range(T)]))


class Counting(Propagator):
    """A propagator as the contract has it: a map is the number of frames since the object's own mask.

    Forwards from the first prompt, then backwards with the objects of that frame alone; zero where unknown.
    """

    def __init__(self) -> None:
        self.read: list[int] = []  # content of every frame read

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        first = min(prompts)
        count = len(prompts[first])
        since: list[int | None] = [None] * count
        for t in range(first, len(frames)):
            self.read.append(int(frames[t][0, 0, 0]))
            since = [None if n is None else n + 1 for n in since]
            for k, mask in enumerate(prompts[t].masks if t in prompts else ()):
                since[k] = 0 if mask is not None else since[k]
            yield t, np.stack([np.full((H, W), 0.0 if n is None else 1 + n, np.float32) for n in since])
        for t in range(first - 1, -1, -1):
            self.read.append(int(frames[t][0, 0, 0]))
            known = [mask is not None for mask in prompts[first].masks]
            yield t, np.stack([np.full((H, W), (1 + first - t) * own, np.float32) for own in known])


def prompts_of(starts: list[int]) -> dict[int, FramePrompts]:
    """One mask of each object, in the frame where it begins."""
    mask = box(4, 4, 12, 16, H, W)
    return {t: FramePrompts(masks=tuple(mask if s == t else None for s in starts)) for t in sorted(set(starts))}


@pytest.mark.parametrize("starts", [[3, 1, 5], [2, 2], [0, 6], [6, 6, 0]])
def test_every_frame_of_every_object_once(starts: list[int]) -> None:
    engine, found = Counting(), {}
    for t, maps in both_ways(engine, FRAMES, prompts_of(starts), starts, range(T)):
        for k, probability in maps.items():
            assert (k, t) not in found
            found[k, t] = float(probability[0, 0])
    assert found == {(k, t): 1 + abs(t - start) for k, start in enumerate(starts) for t in range(T)}
    later = 0 if len(set(starts)) == 1 else max(starts) + 1  # frames of the second pass
    assert len(engine.read) == T + later


def test_only_wanted_frames_and_none_beyond() -> None:
    engine = Counting()
    found = [(t, sorted(maps)) for t, maps in both_ways(engine, FRAMES, prompts_of([1, 5]), [1, 5], {2, 3})]
    assert found == [(2, [0]), (3, [0]), (3, [1]), (2, [1])]
    assert engine.read == [1, 2, 3, 5, 4, 3, 2]
    assert list(both_ways(engine, FRAMES, prompts_of([1]), [1], ())) == []


@pytest.mark.parametrize("name", ["stcn", "flow"])
def test_an_engine_sees_a_later_object_in_earlier_frames(name: str) -> None:
    """Two boxes stand still; the second one is pointed out in the last frame alone."""
    image = np.full((96, 160, 3), 90, np.uint8)
    boxes = [box(20, 20, 60, 60, 96, 160), box(30, 100, 70, 140, 96, 160)]
    for mask, rgb in zip(boxes, ((220, 40, 40), (40, 60, 220)), strict=True):
        image[mask] = rgb
    frames = ArrayFrames(np.stack([image] * 5))
    prompts = {0: FramePrompts(masks=(boxes[0], None)), 4: FramePrompts(masks=(None, boxes[1]))}
    for t, maps in both_ways(load(name), frames, prompts, [0, 4], range(5)):
        for k, probability in maps.items():
            found = probability > 0.5
            assert (found & boxes[k]).sum() / (found | boxes[k]).sum() > 0.8, (t, k)
