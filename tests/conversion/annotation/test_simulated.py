"""The simulated annotator: shares of errors and doubt."""

from __future__ import annotations

import numpy as np
import pytest

from conversion.annotation.candidates import BACKGROUND, FOREGROUND, Candidate
from conversion.annotation.simulated import SimulatedAnnotator
from tests.helpers import box
from vng.errors import UsageError
from vng.masks import empty, encode
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE

HEIGHT, WIDTH = 60, 80
MASK = box(20, 30, 50, 70, HEIGHT, WIDTH)
MASKS, NAMES = [encode(MASK), None, empty(HEIGHT, WIDTH)], ["00000", "00001", "00002"]


def places(count: int, frame: int = 0, seed: int = 0) -> list[Candidate]:
    rng = np.random.default_rng(seed)
    return [
        Candidate(frame=frame, x=float(x), y=float(y), kind=FOREGROUND if i % 2 else BACKGROUND, probability=0.5)
        for i, (x, y) in enumerate(zip(rng.integers(WIDTH, size=count), rng.integers(HEIGHT, size=count), strict=True))
    ]


def test_without_errors_verdicts_are_the_mask() -> None:
    candidates = places(300)
    points = SimulatedAnnotator(unsure=0).verdicts("a", candidates, MASKS, NAMES)
    assert [p.label == POSITIVE for p in points] == [bool(MASK[int(c.y), int(c.x)]) for c in candidates]
    assert {p.frame_id for p in points} == {"00000"}
    assert [p.is_fg_candidate for p in points] == [c.kind == FOREGROUND for c in candidates]


def test_shares_of_errors_and_doubt() -> None:
    candidates = places(4000)
    truth = np.array([POSITIVE if MASK[int(c.y), int(c.x)] else NEGATIVE for c in candidates])
    labels = np.array(
        [p.label for p in SimulatedAnnotator(wrong=0.2, unsure=0.6).verdicts("a", candidates, MASKS, NAMES)]
    )
    sure = labels != AMBIGUOUS
    assert (labels[sure] != truth[sure]).mean() == pytest.approx(0.2, abs=0.02)
    y, x = np.array([(c.y, c.x) for c in candidates]).T.astype(int)
    deep = (np.abs(x - 50) < 15) & (np.abs(y - 35) < 10)
    assert not (labels[deep] == AMBIGUOUS).any() and 0.02 < (labels == AMBIGUOUS).mean() < 0.3


def test_frames_without_truth_and_absent_objects() -> None:
    annotator = SimulatedAnnotator()
    assert annotator.verdicts("a", places(9, frame=1), MASKS, NAMES) == ()
    assert {p.label for p in annotator.verdicts("a", places(9, frame=2), MASKS, NAMES)} == {NEGATIVE}


def test_verdicts_depend_on_seed_and_object_alone() -> None:
    annotator = SimulatedAnnotator(wrong=0.3)
    candidates = places(50)
    assert annotator.verdicts("a", candidates, MASKS, NAMES) == annotator.verdicts("a", candidates, MASKS, NAMES)
    assert annotator.verdicts("b", candidates, MASKS, NAMES) != annotator.verdicts("a", candidates, MASKS, NAMES)
    other = SimulatedAnnotator(wrong=0.3, seed=1).verdicts("a", candidates, MASKS, NAMES)
    assert other != annotator.verdicts("a", candidates, MASKS, NAMES)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_wrong_shares(share: float) -> None:
    with pytest.raises(UsageError, match="expected a share in"):
        SimulatedAnnotator(wrong=share)
