"""Points and prompts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import box
from vng import points


class TestPoints:
    def test_sampling_keeps_distance(self, rng: np.random.Generator) -> None:
        drawn = points.sample_in_mask(box(2, 3, 40, 60, 50, 70), 12, 7, rng)
        assert drawn.shape == (12, 2)
        gaps = np.linalg.norm(drawn[:, None] - drawn[None], axis=-1)[~np.eye(12, dtype=bool)]
        assert gaps.min() >= 7 and (drawn >= [3, 2]).all() and (drawn < [60, 40]).all()

    def test_as_many_as_fit(self, rng: np.random.Generator) -> None:
        assert len(points.sample_in_mask(box(0, 0, 3, 3), 10, 5, rng)) == 1
        assert len(points.sample_in_mask(box(0, 0, 2, 2), 10, 0, rng)) == 4
        assert points.sample_in_mask(np.zeros((4, 6), bool), 3, 1, rng).shape == (0, 2)

    def test_agreement(self) -> None:
        mask = box(0, 0, 2, 3, 4, 6)
        xy, label = [(0, 0), (2, 1), (5, 3), (0, 3)], [1, 0, 0, -1]
        assert points.agreement(mask, np.array(xy), np.array(label)) == (2, 3)
        with pytest.raises(ValueError, match=r"\(6, 0\) is outside the frame of 6x4"):
            points.read_at(mask, np.array([(6, 0)]))

    def test_selection(self) -> None:
        all_points = points.Points([0, 1, 1], [(1, 2), (3, 4), (5, 6)], [1, 0, -1])
        assert len(all_points.in_frame(1)) == 2 and all_points.of(points.NEGATIVE).xy.tolist() == [[3, 4]]
        assert len(points.Points.concatenate([all_points, all_points])) == 6 and len(points.Points.none()) == 0
        with pytest.raises(ValueError, match="2 frames, 1 positions"):
            points.Points([0, 1], [(1, 2)], [1, 0])
