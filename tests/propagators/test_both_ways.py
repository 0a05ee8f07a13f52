"""Objects that begin late are carried backwards, too; each object and frame is told once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from tests.helpers import box
from vng.errors import UsageError
from vng.frames import ArrayFrames, Backwards, Frames
from vng.points import PointPrompts
from vng.propagators import ENGINES, NEEDS_CHECKPOINT, FramePrompts, Propagator, load
from vng.propagators.both_ways import both_ways

T, H, W = 6, 41, 52


class Recorder(Propagator):
    """Tells the frame's own number as the probability of every object, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], dict[int, list[bool]]]] = []

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        told = {t: [mask is not None for mask in prompt.masks] for t, prompt in prompts.items()}
        self.asked.append((list(frames.names), told))
        for t in range(len(frames)):
            yield t, np.full((len(next(iter(prompts.values()))), H, W), int(frames.names[t]) / 10, np.float32)


@pytest.fixture
def frames() -> ArrayFrames:
    pictures = np.full((T, H, W, 3), 90, np.uint8)
    pictures[:, box(3, 4, 15, 20, H, W)] = (220, 40, 40)
    pictures[:, box(22, 28, 37, 47, H, W)] = (40, 60, 220)
    return ArrayFrames(pictures)


FIRST, LATE = box(3, 4, 15, 20, H, W), box(22, 28, 37, 47, H, W)


def test_every_object_and_frame_once(frames: ArrayFrames) -> None:
    engine, found = Recorder(), dict[tuple[int, int], float]()
    prompts = {
        1: FramePrompts((FIRST, None, None)),
        4: FramePrompts((None, LATE, None)),
        5: FramePrompts((None, LATE, FIRST)),
    }
    for t, objects, probabilities in both_ways(engine, frames, prompts):
        for k, probability in zip(objects, probabilities, strict=True):
            assert (k, t) not in found
            found[k, t] = float(probability[0, 0])
    assert found == {(k, t): pytest.approx(t / 10) for k in range(3) for t in range(T)}
    (_, forwards), (names, backwards) = engine.asked
    assert forwards == {1: [True, False, False], 4: [False, True, False], 5: [False, True, True]}
    assert names == [f"{t:06d}" for t in (5, 4, 3, 2, 1, 0)] and sorted(backwards) == [0, 1, 4]


def test_one_pass_where_all_begin_together(frames: ArrayFrames) -> None:
    engine = Recorder()
    told = list(both_ways(engine, frames, {2: FramePrompts((FIRST, LATE))}))
    assert len(engine.asked) == 1 and [objects for _, objects, _ in told] == [[0, 1]] * T


def test_absent_first_then_there(frames: ArrayFrames) -> None:
    """An empty mask is no beginning: the frames after it come from the one where the object is."""
    engine = Recorder()
    nothing = np.zeros((H, W), bool)
    told = list(both_ways(engine, frames, {0: FramePrompts((nothing, LATE)), 3: FramePrompts((FIRST, None))}))
    assert [(t, objects) for t, objects, _ in told if t < 3] == [(t, [1]) for t in range(3)] + [
        (t, [0]) for t in (2, 1, 0)
    ]
    with pytest.raises(UsageError):
        list(both_ways(engine, frames, {}))


@pytest.mark.parametrize("name", sorted(set(ENGINES) - set(NEEDS_CHECKPOINT)))
def test_still_boxes_are_found_everywhere(name: str, frames: ArrayFrames) -> None:
    if name == "proposals":
        pytest.skip("as good as its proposals: a grid of clicks in a frame this small is rough")
    prompts = {0: FramePrompts((FIRST, None)), 4: FramePrompts((None, LATE))}
    masks = np.zeros((2, T, H, W), bool)
    for t, objects, probabilities in both_ways(load(name), frames, prompts):
        masks[objects, t] = probabilities > 0.5
    for own, truth in zip(masks, (FIRST, LATE), strict=True):
        overlap = (own & truth).sum((1, 2)) / (own | truth).sum((1, 2))
        assert overlap.min() > 0.8


def test_points_begin_too(frames: ArrayFrames) -> None:
    points = PointPrompts(np.array([[35, 30]]), np.empty((0, 2)))
    masks = (FIRST, None)
    prompts = {0: FramePrompts(masks), 5: FramePrompts(points=(None, points))}
    told = list(both_ways(Recorder(), frames, prompts))
    assert [t for t, objects, _ in told if objects == [1]] == [4, 3, 2, 1, 0]


def test_frames_backwards(frames: ArrayFrames) -> None:
    turned = Backwards(frames, 3)
    assert turned.names == ["000003", "000002", "000001", "000000"] and turned.size == (H, W)
    assert np.array_equal(turned[1], frames[2])
    with pytest.raises(IndexError):
        turned[4]
