"""Frames in memory, and names of annotation files as paths."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import H, T, W
from vng import frames


class TestFrames:
    def test_array(self) -> None:
        clip = np.zeros((T, H, W, 3), np.uint8)
        assert len(frames.ArrayFrames(clip)) == T
        with pytest.raises(ValueError, match="uint8"):
            frames.ArrayFrames(clip.astype(float))


@pytest.mark.parametrize(
    ("count", "k", "chosen"),
    [(7, 1, [3]), (4, 1, [1]), (7, 2, [0, 6]), (9, 3, [0, 4, 8]), (3, 5, [0, 1, 2]), (0, 2, [])],
)
def test_evenly_spaced(count: int, k: int, chosen: list[int]) -> None:
    assert frames.evenly_spaced(range(count), k, single="middle") == chosen
    assert frames.evenly_spaced(range(11), 3) == [0, 5, 10] and frames.evenly_spaced([2, 7], 10) == [2, 7]
    assert frames.evenly_spaced([2, 7], 1) == [2] and frames.evenly_spaced([2, 7], None) == [2, 7]
