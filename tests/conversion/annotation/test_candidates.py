"""Candidate points: kinds, numbers and distances as in Point-VOS."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from conversion.annotation.candidates import BACKGROUND, COUNTS, FOREGROUND, UNCERTAIN, CandidateSettings, candidates_of
from vng.errors import UsageError


def soft_disc(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A probability map that falls from 1 to 0 around a random centre."""
    y, x = np.mgrid[:height, :width]
    cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(1, height / 2)
    return (1 / (1 + np.exp((np.hypot(y - cy, x - cx) - radius) / rng.uniform(0.5, 9)))).astype(np.float32)


@pytest.mark.parametrize("seed", range(25))
def test_rules_of_the_paper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(v) for v in rng.integers(30, 200, 2))
    low, high, distance = (float(rng.uniform(*ends)) for ends in ((0, 0.4), (0.6, 1), (0, 40)))
    settings = CandidateSettings(low=low, high=high, distance=distance)
    probability = soft_disc(height, width, rng)
    drawn = candidates_of(probability, 3, settings, rng)
    kinds = Counter(candidate.kind for candidate in drawn)
    assert all(kinds[kind] <= COUNTS[kind] for kind in COUNTS)
    xy = np.array([(c.x, c.y) for c in drawn]).reshape(-1, 2)
    apart = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    least = settings.distance * height / 480
    assert (apart[~np.eye(len(xy), dtype=bool)] >= max(least, 1)).all()  # all kinds mutually
    for c in drawn:
        p = probability[int(c.y), int(c.x)]
        assert c.probability == pytest.approx(float(p)) and c.frame == 3
        expected = FOREGROUND if p >= settings.high else BACKGROUND if p <= settings.low else UNCERTAIN
        assert c.kind == expected


def test_all_are_drawn_where_there_is_room() -> None:
    probability = np.zeros((480, 854), np.float32)
    probability[100:400, 100:400], probability[100:400, 500:700] = 1, 0.5
    drawn = candidates_of(probability, 0, CandidateSettings(), np.random.default_rng(0))
    assert Counter(c.kind for c in drawn) == COUNTS and [c.kind for c in drawn][:7] == [FOREGROUND] * 7


def test_an_object_that_is_not_there_has_background_alone() -> None:
    drawn = candidates_of(np.zeros((100, 120), np.float32), 0, CandidateSettings(), np.random.default_rng(0))
    assert Counter(c.kind for c in drawn) == {BACKGROUND: 10}
    assert candidates_of(np.zeros((0, 5), np.float32), 0, CandidateSettings(), np.random.default_rng(0)) == []


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (-0.1, 0.9), (0.1, 1.1), (0.9, 0.1)])
def test_wrong_thresholds(low: float, high: float) -> None:
    with pytest.raises(UsageError, match="expected 0 <= low < high <= 1"):
        CandidateSettings(low=low, high=high)
