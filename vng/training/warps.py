"""Warps of the frames of training clips: affine maps and thin-plate splines, applied to pixels, masks and points.

STCN (released program): the same crop, flip and colours for all frames of a clip, and a small separate affine map for
each; a still image becomes a clip by larger affine maps and sometimes a thin-plate spline.
Shapes: P points, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator

FIXED_POINT_STEPS = 20
LEAST_UNBLURRED = 0.75  # smallest scale at which an image is not averaged first
FIELD_STEP = 8  # pixels between the positions where a spline is evaluated; it is interpolated in between
STEEPEST = 0.7  # largest gradient of a bend, pixels per pixel
GREY = (124, 116, 104)  # outside the frame: the mean colour, which the network subtracts


@dataclass(frozen=True)
class Warp:
    """A map of a frame onto a canvas: an affine map, then perhaps a bend."""

    matrix: np.ndarray  # float64 [2, 3], frame -> canvas
    size: tuple[int, int]  # (height, width) of the canvas
    bend: np.ndarray | None = None  # float32 [H, W, 2]: from each pixel to its unbent position

    def image(self, image: np.ndarray) -> np.ndarray:
        """uint8 [h, w, 3] -> uint8 [H, W, 3]."""
        matrix, scale = self.matrix, abs(np.linalg.det(self.matrix[:, :2])) ** 0.5
        # Warping samples single pixels, so an image that shrinks is averaged first, or it would flicker.
        if scale < LEAST_UNBLURRED:
            height, width = image.shape[:2]
            columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
            image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
            growth = np.diag([width / columns, height / rows])
            # Pixel centres are at integers: a pixel x of the smaller image lies at (x + 0.5) * growth - 0.5.
            shift = matrix[:, :2] @ (np.diag(growth) / 2 - 0.5) + matrix[:, 2]
            matrix = np.concatenate([matrix[:, :2] @ growth, shift[:, None]], 1)
        moved = cv2.warpAffine(image, matrix, self.size[::-1], flags=cv2.INTER_LINEAR, borderValue=GREY)
        return moved if self.bend is None else self._bent(moved, cv2.INTER_LINEAR, GREY)

    def labels(self, labels: np.ndarray, beyond: int = 0) -> np.ndarray:
        """uint8 classes [h, w] -> uint8 [H, W]; pixels from outside the frame become `beyond`."""
        moved = cv2.warpAffine(labels, self.matrix, self.size[::-1], flags=cv2.INTER_NEAREST, borderValue=beyond)
        return moved if self.bend is None else self._bent(moved, cv2.INTER_NEAREST, beyond)

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Pixels of the frame [P, 2] -> pixels of the canvas, exact; they may lie outside it."""
        straight = np.asarray(xy, np.float64).reshape(-1, 2) @ self.matrix[:, :2].T + self.matrix[:, 2]
        if self.bend is None or not len(straight):
            return straight.astype(np.float32)
        place = straight.astype(np.float32)
        for _ in range(FIXED_POINT_STEPS):  # place + bend(place) = straight
            shift = cv2.remap(self.bend, place[:, :1], place[:, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            place = (straight - shift[:, 0]).astype(np.float32)
        return place

    def _bent(self, canvas: np.ndarray, interpolation: int, beyond: int | tuple[int, int, int]) -> np.ndarray:
        assert self.bend is not None
        y, x = np.mgrid[: self.size[0], : self.size[1]].astype(np.float32)
        places = (x + self.bend[..., 0], y + self.bend[..., 1])
        return cv2.remap(canvas, *places, interpolation, borderMode=cv2.BORDER_CONSTANT, borderValue=beyond)


def inside(xy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Whether points [P, 2], rounded to pixels, lie on a canvas (height, width): bool [P]."""
    x, y = np.rint(xy).T
    return (x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0])


def affine(
    size: tuple[int, int], rng: np.random.Generator, degrees: float, scale: tuple[float, float], shear: float
) -> np.ndarray:
    """A random affine map [3, 3] about the middle of a canvas of `size`: turned, sheared (degrees), scaled."""
    turn, lean = np.radians(rng.uniform(-degrees, degrees)), np.radians(rng.uniform(-shear, shear))
    factor = rng.uniform(*scale)
    linear = factor * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = linear @ np.array([[1, np.tan(lean)], [0, 1]])
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    return _homogeneous(linear, middle - linear @ middle)


def crop(
    frame: tuple[int, int], size: tuple[int, int], share: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """A random piece of a frame (height, width), enlarged to a canvas: [3, 3].

    The piece has a `share` of the frame's area, and the canvas's aspect ratio up to a factor of 4/3 either way; if no
    such piece fits, it is the largest central one of the canvas's aspect ratio.
    """
    height, width = frame
    for _ in range(10):
        area = height * width * rng.uniform(*share)
        aspect = size[1] / size[0] * np.exp(rng.uniform(-1, 1) * np.log(4 / 3))
        piece = np.array([(area * aspect) ** 0.5, (area / aspect) ** 0.5])  # width, height
        if piece[0] <= width and piece[1] <= height:
            corner = rng.uniform(0, 1, 2) * (np.array([width, height]) - piece)
            break
    else:
        piece = np.array([size[1], size[0]]) * min(width / size[1], height / size[0])
        corner = (np.array([width, height]) - piece) / 2
    return enlarged(corner, piece, size)


def filling(frame: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A frame (height, width), scaled until it just covers a canvas, at a random place of it: [3, 3]."""
    sides = np.array(frame[::-1], float)
    piece = np.array(size[::-1]) * (sides / size[::-1]).min()
    return enlarged(rng.uniform(0, 1, 2) * (sides - piece), piece, size)


def enlarged(corner: np.ndarray, piece: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A piece (width, height) of a frame, cut at its corner (x, y) and scaled to a canvas of `size`: [3, 3]."""
    factor = np.array([size[1], size[0]]) / piece
    # Pixel centres are at integers: the corner of a canvas is at -0.5.
    return _homogeneous(np.diag(factor), -(corner - 0.5) * factor - 0.5)


def flip(size: tuple[int, int]) -> np.ndarray:
    """The horizontal flip of a canvas: [3, 3]."""
    return _homogeneous(np.diag([-1.0, 1.0]), np.array([size[1] - 1.0, 0.0]))


def thin_plate_bend(size: tuple[int, int], rng: np.random.Generator, scale: float, controls: int = 12) -> np.ndarray:
    """A random thin-plate spline: `controls` positions moved by Gaussian steps of `scale` times the canvas's sides.

    Returns:
        float32 [H, W, 2], see `Warp.bend`.
    """
    height, width = size
    sides = np.array([width, height], float)
    places = rng.uniform(0, 1, (controls, 2)) * sides
    shifts = rng.normal(0, scale, (controls, 2)) * sides
    y, x = (np.linspace(0, side - 1, max(2, side // FIELD_STEP)) for side in size)
    grid = np.stack(np.meshgrid(x, y), -1)
    spline = RBFInterpolator(places, shifts, kernel="thin_plate_spline")
    field = spline(grid.reshape(-1, 2)).reshape(grid.shape).astype(np.float32)
    steep = _steepness(field, x[1] - x[0], y[1] - y[0])
    # Steeper ones fold, and the search for a point's position would not converge.
    field *= min(1.0, STEEPEST / steep)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    step = [(n - 1) / max(side - 1, 1) for n, side in zip(field.shape[:2], size, strict=True)]
    return cv2.remap(field, columns * np.float32(step[1]), rows * np.float32(step[0]), cv2.INTER_LINEAR)


def _steepness(field: np.ndarray, step_x: float, step_y: float) -> float:
    """The largest difference of the shifts of two positions, for each pixel between them."""
    by_y, by_x = np.gradient(field, step_y, step_x, axis=(0, 1))
    return float(np.sqrt((by_y**2 + by_x**2).sum(-1)).max())


def _homogeneous(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, shift
    return matrix
