"""Query points of masks."""

from __future__ import annotations

import numpy as np
import pytest

from vng.errors import UsageError
from vng.propagators.query_points import METHODS, k_medoids, select_points


def ellipse() -> np.ndarray:
    rows, columns = np.mgrid[:50, :70]
    return ((rows - 24) / 14) ** 2 + ((columns - 36) / 25) ** 2 < 1


def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (50, 70, 3), np.uint8)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_points_lie_in_the_mask(method: str) -> None:
    mask = ellipse()
    points = select_points(mask, 12, method, np.random.default_rng(0), picture())
    assert points.shape == (12, 2) and points.dtype == np.float32
    assert mask[points[:, 1].astype(int), points[:, 0].astype(int)].all()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_few_pixels_repeat_and_none_give_none(method: str) -> None:
    mask = np.zeros((50, 70), bool)
    assert select_points(mask, 5, method, np.random.default_rng(0), picture()).shape == (0, 2)
    mask[10, 20:23] = True
    points = select_points(mask, 5, method, np.random.default_rng(0), picture())
    assert len(points) == 5 and {tuple(p) for p in points} <= {(20, 10), (21, 10), (22, 10)}


def test_medoids_of_two_groups() -> None:
    points = np.array([[0, 0], [0, 1], [1, 0], [50, 50], [50, 51], [51, 50]], float)
    assert sorted(map(tuple, points[k_medoids(points, 2)])) == [(0, 0), (50, 50)]


def test_medoids_spread_over_the_mask() -> None:
    points = select_points(ellipse(), 8, "kmedoids", np.random.default_rng(1))
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e3 * np.eye(8)
    assert gaps.min() > 6


def test_an_unknown_method() -> None:
    with pytest.raises(UsageError, match="kmedoids"):
        select_points(ellipse(), 3, "best", np.random.default_rng(0))
