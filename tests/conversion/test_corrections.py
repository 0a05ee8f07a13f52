"""Points that correct a masklet: they speak of what was carried to their frame, and never alone say that it is absent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest

from conversion.corrections import beside, correcting, first_points, later_points
from conversion.pseudo_masks import PointedObject, PseudoMaskSettings, make_pseudo_masks
from vng.frames import ArrayFrames, Frames
from vng.masks import RLE, area, decode, empty, encode
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, PointPrompts, Points
from vng.propagators import FramePrompts, Propagator
from vng.segmenters import Segmenter

T, H, W, RADIUS = 5, 40, 61, 6


def disc(x: float, y: float, radius: float = RADIUS) -> np.ndarray:
    rows, columns = np.ogrid[:H, :W]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


class Discs(Segmenter):
    """Discs round positives, small holes round negatives; remembers its prompts."""

    takes_boxes = False

    def __init__(self) -> None:
        self.asked: list[PointPrompts] = []

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        self.asked += prompts
        result = np.zeros((len(prompts), H, W), np.float32)
        for own, prompt in zip(result, prompts, strict=True):
            for x, y in prompt.positive:
                own[disc(x, y)] = 1
            for x, y in prompt.negative:
                own[disc(x, y, 2)] = 0
        return result


class Still(Propagator):
    """Carries the first mask of each object to all frames, unless it is told to lose it."""

    def __init__(self, keeps: bool = True) -> None:
        self.keeps, self.passes = keeps, 0

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        self.passes += 1
        first = min(prompts)
        maps = np.stack([np.zeros((H, W)) if mask is None else mask for mask in prompts[first].masks]).astype(
            np.float32
        )
        for t in range(len(frames)):
            yield t, maps if self.keeps or t == first else 0 * maps


def frames() -> ArrayFrames:
    return ArrayFrames(np.full((T, H, W, 3), 80, np.uint8))


def pointed(*points: tuple[int, float, float, int]) -> PointedObject:
    return PointedObject(
        "a", "thing", Points.of_lists([p[0] for p in points], [p[1:3] for p in points], [p[3] for p in points])
    )


def masks(item: PointedObject, engine: Propagator, segmenter: Segmenter | None = None) -> list[RLE | None]:
    (row,) = correcting(engine)(frames(), [item], segmenter or Discs(), None)
    return row


def test_a_point_off_it_leaves_the_rest() -> None:
    segmenter = Discs()
    row = masks(pointed((1, 20, 20, POSITIVE), (3, 24, 20, NEGATIVE)), engine := Still(), segmenter)
    assert [rle is not None for rle in row] == [False, True, False, True, False] and engine.passes == 1
    prompt = segmenter.asked[-1]
    assert prompt.negative.tolist() == [[24, 20]] and 1 <= len(prompt.positive) <= 5
    assert all(disc(20, 20)[int(y), int(x)] for x, y in prompt.positive)
    clear = 0.25 * np.sqrt(disc(20, 20).sum())
    assert min(np.hypot(x - 24, y - 20) for x, y in prompt.positive) >= clear
    corrected = decode(row[3])  # type: ignore[arg-type]
    assert not corrected[20, 24] and corrected[20, 17] and corrected.sum() > 50


def test_a_point_on_it_adds_to_the_rest() -> None:
    row = masks(pointed((0, 20, 20, POSITIVE), (4, 45, 20, POSITIVE)), Still())
    both = decode(row[4])  # type: ignore[arg-type]
    assert both[20, 45] and both[20, 20]


def test_points_off_it_do_not_say_that_it_is_absent() -> None:
    item = pointed((0, 20, 20, POSITIVE), (2, 50, 30, NEGATIVE), (3, 50, 30, AMBIGUOUS))
    row = masks(item, Still(keeps=False))
    assert [rle is not None for rle in row] == [True, False, False, False, False]


def test_the_first_positive_begins_whatever_its_frame() -> None:
    points = pointed((4, 1, 1, NEGATIVE), (3, 20, 20, POSITIVE), (0, 21, 21, POSITIVE), (3, 5, 5, NEGATIVE)).points
    assert first_points(points).frame.tolist() == [3, 3] and later_points(points).frame.tolist() == [4, 0]
    alone = pointed((4, 1, 1, NEGATIVE)).points
    assert len(first_points(alone)) == 1 and not len(later_points(alone)) and not len(first_points(Points.none()))


def test_given_masks_stand() -> None:
    given = {3: empty(H, W), 4: encode(disc(30, 30, 3))}
    item = pointed((0, 20, 20, POSITIVE), (3, 20, 20, NEGATIVE), (4, 20, 20, POSITIVE))
    row = masks(PointedObject("a", "", item.points, masks=given), Still())
    assert row[3] == given[3] and row[4] == given[4]


def test_nothing_to_correct_needs_no_pass() -> None:
    engine = Still()
    assert area(masks(pointed((0, 20, 20, POSITIVE)), engine)[0]) > 0 and engine.passes == 0  # type: ignore[arg-type]
    assert masks(pointed((0, 20, 20, NEGATIVE)), engine)[0] == empty(H, W)


def test_held_out_points_are_not_seen() -> None:
    segmenter = Discs()
    item = pointed(*[(t, 10 + 3 * i, 20, POSITIVE) for t in (0, 2) for i in range(5)])
    (made,) = make_pseudo_masks(
        frames(), [item], segmenter, PseudoMaskSettings(held_out=0.4), "discs", Still(), correcting(Still())
    )
    assert made.quality.n_held_out == 4
    seen = {tuple(xy) for prompt in segmenter.asked[:1] for xy in prompt.positive.tolist()}
    assert len(seen) == 3  # of the five of the first frame


@pytest.mark.parametrize("carried", [np.zeros((H, W), np.float32), np.full((H, W), 0.7, np.float32)])
def test_beside_what_is_not_sure(carried: np.ndarray) -> None:
    on = Points.of_lists([2], [(9, 9)], [POSITIVE])
    assert beside(on, carried).xy.tolist() == [[9, 9]]
    assert not len(beside(Points.of_lists([2], [(9, 9)], [NEGATIVE]), carried))
    spread = beside(on, np.maximum(carried, disc(30, 20, 15) * 0.9).astype(np.float32))
    assert len(spread) == 6 and set(spread.frame.tolist()) == {2} and np.ptp(spread.xy[1:], axis=0).min() > 10
