"""Points that stand for a box."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vng.points import PointPrompts
from vng.segmenters.box_points import boxed, parted_by_colour, points_around, points_inside

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
    inside, around = points_inside(image, box), points_around(box, H, W)
    assert len(inside) == 3 and all(mask[int(y), int(x)] for x, y in inside)
    assert len(around) == 8 and not any(mask[int(y), int(x)] for x, y in around)
    assert (points_inside(image, box) == inside).all()


def test_the_middle_of_a_ball_is_on_it() -> None:
    mask = cv2.circle(np.zeros((H, W), np.uint8), (40, 30), 12, 1, -1).astype(bool)
    image = np.where(mask[..., None], np.uint8(200), np.full((H, W, 3), 60, np.uint8))
    assert points_inside(image, box_of(mask)).tolist() == [[40, 30]]


@pytest.mark.parametrize("takes_boxes", [True, False])
def test_prompts(takes_boxes: bool) -> None:
    image, mask = crescent()

    class Engine:
        def __init__(self) -> None:
            self.takes_boxes = takes_boxes

    own = PointPrompts(np.array([[30, 30]]), np.array([[1, 1]]))
    prompt = boxed(own, box_of(mask), Engine(), image)  # type: ignore[arg-type]
    assert prompt.positive.tolist() == [[30, 30]] and (prompt.box is None) != takes_boxes
    assert len(prompt.negative) == (1 if takes_boxes else 9)


def test_parting() -> None:
    image, mask = crescent()
    found = parted_by_colour(image, box_of(mask))
    assert found.shape == (H, W) and found.dtype == bool and (found & mask).sum() / (found | mask).sum() > 0.9


@pytest.mark.parametrize("box", [[0, 0, W - 1, H - 1], [5, 5, 5, 5], [0, 0, 3, 2], [W - 2, H - 2, W - 1, H - 1]])
def test_any_box(box: list[float]) -> None:
    for image in (crescent()[0], np.full((H, W, 3), 7, np.uint8)):
        inside, around = points_inside(image, np.array(box, np.float32)), points_around(np.array(box, np.float32), H, W)
        assert 1 <= len(inside) <= 3 and np.isfinite(inside).all()
        assert (around >= 0).all() and (around <= [W - 1, H - 1]).all()
