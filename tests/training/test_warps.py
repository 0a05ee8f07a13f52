"""Moving a training frame: pixels, labels and points go to the same places."""

from __future__ import annotations

import numpy as np
import pytest

from vng.training.warps import GREY, Warp, affine, crop, flip, inside, thin_plate_bend

FRAME, CANVAS = (30, 50), (48, 64)  # (height, width)


def dotted(xy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A smooth hill of light round each of the places, uint8 [H, W, 3]."""
    y, x = np.mgrid[: size[0], : size[1]]
    hills = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8.0) for px, py in xy]
    return np.repeat((255 * np.max(hills, axis=0)).astype(np.uint8)[..., None], 3, 2)


def brightest(image: np.ndarray) -> np.ndarray:
    """The centre of mass of what is brighter than the grey beyond the frame, as (x, y)."""
    weight = image[..., 0].astype(float)
    weight[weight <= GREY[0]] = 0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def random_warp(rng: np.random.Generator, bent: bool) -> Warp:
    matrix = affine(CANVAS, rng, 15, (0.9, 1.1), 10) @ crop(FRAME, CANVAS, (0.8, 1.0), rng)
    return Warp(matrix[:2], CANVAS, thin_plate_bend(CANVAS, rng, 0.02) if bent else None)


@pytest.mark.parametrize("bent", [False, True])
def test_points_go_where_their_pixels_go(bent: bool) -> None:
    rng, seen = np.random.default_rng(5), 0
    while seen < 8:
        warp, xy = random_warp(rng, bent), rng.uniform((12, 8), (38, 22), (1, 2))
        moved = warp.points(xy)
        if not inside(moved, (CANVAS[0] - 8, CANVAS[1] - 8)).all() or (moved < 8).any():
            continue
        seen += 1
        assert np.abs(brightest(warp.image(dotted(xy, FRAME))) - moved[0]).max() < 0.6


def test_labels_keep_their_classes_and_tell_what_lies_beyond() -> None:
    labels = np.zeros(FRAME, np.uint8)
    labels[10:20, 20:35] = 7
    warp = Warp(np.array([[1.0, 0, 5], [0, 1.0, 3]]), CANVAS)
    moved = warp.labels(labels, beyond=255)
    assert moved.shape == CANVAS and set(np.unique(moved)) == {0, 7, 255}
    assert (moved == 7).sum() == 150 and moved[13, 25] == 7 and moved[12, 24] == 0
    assert (moved[:3] == 255).all() and (moved[:, :5] == 255).all()


def test_flip_is_its_own_inverse() -> None:
    matrix = flip(CANVAS)
    assert np.allclose(matrix @ matrix, np.eye(3))
    assert Warp(matrix[:2], CANVAS).points(np.array([[0.0, 7.0]])).tolist() == [[63.0, 7.0]]


def test_crop_shows_the_share_asked_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        matrix = crop(FRAME, CANVAS, (0.36, 0.6), rng)
        shown = CANVAS[0] * CANVAS[1] / np.linalg.det(matrix[:2, :2]) / (FRAME[0] * FRAME[1])
        corners = np.linalg.inv(matrix) @ np.array([[-0.5, -0.5, 1], [CANVAS[1] - 0.5, CANVAS[0] - 0.5, 1]]).T
        assert 0.36 <= shown <= 0.6
        assert (corners[:2] >= -0.5 - 1e-6).all() and (corners[:2, 1] <= [FRAME[1] - 0.5, FRAME[0] - 0.5]).all()


def test_whole_frame_of_another_aspect_is_cut_in_the_middle() -> None:
    matrix = crop((10, 100), (32, 32), (1.0, 1.0), np.random.default_rng(0))
    assert np.allclose(matrix @ [49.5, 4.5, 1], [15.5, 15.5, 1])
    assert matrix[0, 0] == matrix[1, 1] == pytest.approx(3.2)


def test_bend_is_small_smooth_and_random() -> None:
    bends = [thin_plate_bend(CANVAS, np.random.default_rng(seed), 0.02) for seed in (1, 1, 2)]
    assert bends[0].shape == (*CANVAS, 2)
    assert np.array_equal(bends[0], bends[1]) and not np.array_equal(bends[0], bends[2])
    assert np.abs(np.diff(bends[0], axis=0)).max() < 1.0


def test_no_points() -> None:
    warp = random_warp(np.random.default_rng(3), bent=True)
    assert warp.points(np.empty((0, 2))).shape == (0, 2)
    assert inside(np.empty((0, 2)), CANVAS).shape == (0,)
    assert inside(np.array([[-0.4, 0.0], [-0.6, 0.0], [63.4, 47.4], [10.0, 47.6]]), CANVAS).tolist() == [
        True,
        False,
        True,
        False,
    ]


def test_bends_never_fold() -> None:
    """At a large scale raw splines fold; points still go where their pixels go."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        warp = Warp(np.eye(3)[:2], CANVAS, thin_plate_bend(CANVAS, rng, 0.08))
        xy = rng.uniform((5, 5), (58, 42), (6, 2))
        moved = warp.points(xy)
        seen = inside(moved, CANVAS)
        assert warp.bend is not None
        x, y = np.rint(moved[seen]).astype(int).T
        came_from = moved[seen] + warp.bend[y, x]
        assert np.abs(came_from - xy[seen]).max(initial=0) < 1.0


def test_what_shrinks_is_averaged() -> None:
    """A fine checkerboard becomes grey, and shapes stay where they belong."""
    y, x = np.mgrid[:96, :128]
    checker = np.repeat((255 * ((x + y) % 2)).astype(np.uint8)[..., None], 3, 2)
    matrix = np.array([[0.25, 0, 0], [0, 0.25, 0]])
    shrunk = Warp(matrix, (24, 32)).image(checker)[2:-2, 2:-2]
    assert shrunk.std() < 12 and abs(float(shrunk.mean()) - 127) < 3
    xy = np.array([[70.0, 40.0]])
    small = Warp(matrix, (24, 32))
    hill = np.repeat((255 * np.exp(-((x - 70) ** 2 + (y - 40) ** 2) / 200.0)).astype(np.uint8)[..., None], 3, 2)
    assert np.abs(brightest(small.image(hill)) - small.points(xy)[0]).max() < 0.6
