"""Points that stand for a box."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vng.segmenters.box_points import parted_by_colour, points_of_box

H, W = 60, 90


def crescent() -> tuple[np.ndarray, np.ndarray]:
    """An image with a crescent whose box's middle is off it, and its mask."""
    mask = cv2.circle(np.zeros((H, W), np.uint8), (40, 30), 20, 1, -1)
    mask = cv2.circle(mask, (52, 30), 18, 0, -1).astype(bool)
    image = np.full((H, W, 3), 90, np.uint8)
    image[mask] = (220, 190, 40)
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask


def box_of(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)


def test_points_lie_on_a_crescent() -> None:
    image, mask = crescent()
    box = box_of(mask)
    assert not mask[int(box[1] + box[3]) // 2, int(box[0] + box[2]) // 2 + 8]
    points = points_of_box(image, box)
    assert len(points.positive) == 5 and all(mask[int(y), int(x)] for x, y in points.positive)
    assert len(points.negative) == 8 and not any(mask[int(y), int(x)] for x, y in points.negative)
    again = points_of_box(image, box)
    assert (again.positive == points.positive).all()


def test_parting() -> None:
    image, mask = crescent()
    found = parted_by_colour(image, box_of(mask))
    assert found.shape == (H, W) and found.dtype == bool and (found & mask).sum() / (found | mask).sum() > 0.9


@pytest.mark.parametrize("box", [[0, 0, W - 1, H - 1], [5, 5, 5, 5], [0, 0, 3, 2], [W - 2, H - 2, W - 1, H - 1]])
def test_any_box(box: list[float]) -> None:
    for image in (crescent()[0], np.full((H, W, 3), 7, np.uint8)):
        points = points_of_box(image, np.array(box, np.float32))
        assert 1 <= len(points.positive) <= 5 and np.isfinite(points.positive).all()
        inside = (points.negative >= 0).all() and (points.negative <= [W - 1, H - 1]).all()
        assert inside
