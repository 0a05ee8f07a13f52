"""Labelled points in frames, and sampling of points in masks.

A point is (x, y) in one frame, with pixel centres at integer coordinates, and a label.
Shapes: P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POSITIVE, NEGATIVE, AMBIGUOUS = 1, 0, -1
OTHERS = ("points", "never")  # whether segmenters take other objects' positives as negatives (traces excepted)
BACKGROUND = -1  # owner of a click on no object
# Least distance of annotated points of one label, in pixels at this image height (Point-VOS, Sec. 3.1).
POINT_DISTANCE, DISTANCE_ROWS = 20.0, 480
POINT_FRAMES = 10  # annotated frames of a video (Point-VOS, Sec. 3.2)


@dataclass(frozen=True)
class Points:
    """Points of one object over a video."""

    frame: np.ndarray  # int32 [P], index into the video's frame names
    xy: np.ndarray  # float32 [P, 2], pixels
    label: np.ndarray  # int8 [P], POSITIVE, NEGATIVE or AMBIGUOUS

    @staticmethod
    def of_lists(frame: Sequence[int], xy: Sequence[tuple[float, float]], label: Sequence[int]) -> Points:
        """Points from lists of equal length."""
        return Points(np.array(frame), np.array(xy), np.array(label))

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", np.asarray(self.frame, np.int32).reshape(-1))
        object.__setattr__(self, "xy", np.asarray(self.xy, np.float32).reshape(-1, 2))
        object.__setattr__(self, "label", np.asarray(self.label, np.int8).reshape(-1))
        if not len(self.frame) == len(self.xy) == len(self.label):
            raise ValueError(f"points: {len(self.frame)} frames, {len(self.xy)} positions, {len(self.label)} labels")

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, index: np.ndarray) -> Points:
        """The points selected by a mask or index array [P]."""
        return Points(self.frame[index], self.xy[index], self.label[index])

    def in_frame(self, frame: int) -> Points:
        """The points of one frame."""
        return self[self.frame == frame]

    def of(self, label: int) -> Points:
        """The points with one label."""
        return self[self.label == label]

    @staticmethod
    def none() -> Points:
        """No points."""
        return Points(np.empty(0), np.empty((0, 2)), np.empty(0))

    @staticmethod
    def concatenate(parts: list[Points]) -> Points:
        """The points of all parts, in order."""
        if not parts:
            return Points.none()
        return Points(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("frame", "xy", "label")))


@dataclass(frozen=True)
class PointPrompts:
    """Prompts of a segmenter for one object in one frame.

    `trace` marks positives from a mouse trace: unverified pointer positions, about a quarter of them off the object
    (FIELD.md, trace quality). `box` and `mask` are used by engines that support them and ignored by others.
    Raises ValueError for an invalid box or mask.
    """

    positive: np.ndarray  # float32 [P, 2], (x, y) pixels
    negative: np.ndarray  # float32 [N, 2]
    trace: bool = False
    box: np.ndarray | None = None  # float32 [4], (x0, y0, x1, y1): centres of the first and last pixels
    mask: np.ndarray | None = None  # float32 [H, W] in [0, 1]: probabilities of a first guess; bool is accepted too

    def __post_init__(self) -> None:
        object.__setattr__(self, "positive", np.asarray(self.positive, np.float32).reshape(-1, 2))
        object.__setattr__(self, "negative", np.asarray(self.negative, np.float32).reshape(-1, 2))
        if self.box is not None:
            object.__setattr__(self, "box", _checked_box(self.box))
        if self.mask is not None:
            object.__setattr__(self, "mask", _checked_mask(self.mask))


def _checked_box(value: object) -> np.ndarray:
    box = np.asarray(value, np.float32)
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < box[:2]).any():
        raise ValueError(f"box: expected x0 <= x1 and y0 <= y1 in (x0, y0, x1, y1), got {box.tolist()}")
    return box


def _checked_mask(value: object) -> np.ndarray:
    mask = np.asarray(value, np.float32)
    if mask.ndim != 2 or not ((mask >= 0) & (mask <= 1)).all():
        ends = f", {mask.min():g} to {mask.max():g}" if mask.size else ""
        raise ValueError(f"mask: expected [H, W] in [0, 1], got shape {mask.shape}{ends}")
    return mask


def trim_trace(points: np.ndarray, keep: float) -> np.ndarray:
    """The share `keep` of a mouse trace's points [P, 2] nearest its median, in order; all if fewer than four."""
    if len(points) < 4:
        return points
    distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    return points[distance <= np.quantile(distance, keep)]


def medoids(points: np.ndarray, count: int, iterations: int = 10) -> np.ndarray:
    """At most `count` of the points [P, 2], each nearest the mean of a cluster, in order.

    k-means, started at points evenly spread over the order (for a mouse trace: over time), so deterministic. Unlike
    farthest points, which select outliers, these follow the density of the points.
    """
    if len(points) <= count:
        return points
    means = points[np.linspace(0, len(points) - 1, count).round().astype(int)]
    for _ in range(iterations):
        nearest = np.linalg.norm(points[:, None] - means, axis=-1).argmin(1)
        means = np.stack([points[nearest == k].mean(0) if (nearest == k).any() else means[k] for k in range(count)])
    return points[np.unique(np.linalg.norm(points[:, None] - means, axis=-1).argmin(0))]


@dataclass(frozen=True)
class Click:
    """One click in an interaction that covers all objects of an image."""

    y: float  # pixels
    x: float
    time: int  # number of earlier clicks, on any object
    owner: int  # index of its object, or BACKGROUND


def point_distance(height: int, distance: float = POINT_DISTANCE) -> float:
    """The least distance of points, in pixels of an image of this height."""
    return distance * height / DISTANCE_ROWS


def sample_in_mask(mask: np.ndarray, count: int, min_distance: float, rng: np.random.Generator) -> np.ndarray:
    """Draw up to `count` random foreground pixels at least `min_distance` pixels apart.

    Point-VOS, Sec. 3.1: random positions, d = 20 pixels; fewer points where not all fit.

    Args:
        mask: bool [H, W].
        count: maximum number of points.
        min_distance: pixels, Euclidean; 0: distinct pixels only.
        rng: the source of randomness.

    Returns:
        float32 [P, 2] of (x, y), P <= count; empty for an empty mask.
    """
    rows, columns = np.nonzero(mask)
    order = rng.permutation(len(rows))
    rows, columns = rows[order], columns[order]
    free, place = np.ones(mask.shape, bool), 0
    chosen: list[tuple[int, int]] = []
    while len(chosen) < count and (place := _next_free(free, rows, columns, place)) < len(rows):
        chosen.append((columns[place], rows[place]))
        take_surroundings(free, int(columns[place]), int(rows[place]), min_distance)
    return np.asarray(chosen, np.float32).reshape(-1, 2)


def take_surroundings(free: np.ndarray, x: int, y: int, distance: float) -> None:
    """Clear a pixel, and all that are nearer to it than `distance`, in a map bool [H, W], in place."""
    reach = int(np.ceil(distance))
    top, left = max(0, y - reach), max(0, x - reach)
    near = free[top : y + reach + 1, left : x + reach + 1]
    down, across = (np.arange(n, dtype=np.float32) for n in near.shape)
    near &= np.hypot(across - (x - left), (down - (y - top))[:, None]) >= distance
    free[y, x] = False


def _next_free(free: np.ndarray, rows: np.ndarray, columns: np.ndarray, place: int) -> int:
    """The first place from `place` on whose pixel is free; the number of pixels if there is none."""
    size = 256
    while place < len(rows):
        hits = np.flatnonzero(free[rows[place : place + size], columns[place : place + size]])
        if len(hits):
            return place + int(hits[0])
        place, size = place + size, 2 * size
    return len(rows)


def read_at(mask: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """The values of a map [H, W] at points [P, 2], nearest pixel; raises ValueError for a point outside."""
    height, width = mask.shape
    columns, rows = np.rint(np.asarray(xy).reshape(-1, 2)).astype(int).T
    outside = (columns < 0) | (rows < 0) | (columns >= width) | (rows >= height)
    if outside.any():
        x, y = np.asarray(xy).reshape(-1, 2)[outside][0]
        raise ValueError(f"point ({x:g}, {y:g}) is outside the frame of {width}x{height} pixels")
    return mask[rows, columns]


def agreement(mask: np.ndarray, xy: np.ndarray, label: np.ndarray) -> tuple[int, int]:
    """Numbers of positive and negative points: those that a mask [H, W] puts on the right side, and all.

    Ambiguous points are not counted.
    """
    decided = np.asarray(label) != AMBIGUOUS
    if not decided.any():
        return 0, 0
    inside = read_at(mask, np.asarray(xy)[decided]).astype(bool)
    return int((inside == (np.asarray(label)[decided] == POSITIVE)).sum()), int(decided.sum())
