"""Measured quality of pseudo-masks."""

from __future__ import annotations

import pytest

from conversion.quality import conflicts, mask_area, point_agreement, stability
from tests.helpers import H, W, box
from vng.masks import covered, empty, encode
from vng.points import NEGATIVE, POSITIVE, Points


class TestQuality:
    def test_known_numbers(self) -> None:
        row = (encode(box(0, 0, 10, 15)), None, encode(box(0, 0, 5, 15)), empty(H, W), encode(box(0, 0, 2, 3)))
        assert mask_area(row) == pytest.approx((150 + 75 + 6) / 3 / (H * W))
        assert stability(row) == 0.5  # 150 -> 75; the empty frame has no neighbour
        assert mask_area((None, empty(H, W))) is None and stability(row[:1]) is None

    def test_agreement_counts_annotated_frames_only(self) -> None:
        row = (encode(box(0, 0, 10, 15)), None)
        held = Points([0, 0, 0, 1], [(3, 3), (20, 3), (4, 4), (1, 1)], [POSITIVE, POSITIVE, NEGATIVE, POSITIVE])
        assert point_agreement(row, held) == (pytest.approx(1 / 3), 3)
        assert point_agreement(row, Points.none()) == (None, 0)

    def test_conflicts(self) -> None:
        first, second = encode(box(0, 0, 10, 10)), encode(box(5, 0, 10, 20))
        assert conflicts([(first, first), (second, empty(H, W)), (None, None)]) == [0.25, 0.5, None]
        assert conflicts([]) == [] and covered(first, second) == 0.5
        with pytest.raises(ValueError, match="empty mask"):
            covered(empty(H, W), first)
