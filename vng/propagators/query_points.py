"""Query points of a mask: where SAM-PT lets points start (SAM-PT, Sec. 3.1; details: docs/sam-pt.md).

Shapes: P points, H x W pixels. Points are whole pixels (x, y).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from vng.errors import one_of

MOST_PIXELS = 1800  # of a mask, drawn at random, among which medoids are sought
ERODED = (0.06, 0.02, 0.01)  # shares of a mask's diagonal by which it is eroded before corners are sought, in turn
LEAST_LEFT = 10  # pixels that must remain
QUALITY = 0.001  # of a corner, as a share of the best one's


def select_points(
    mask: np.ndarray, count: int, method: str, rng: np.random.Generator, image: np.ndarray | None = None
) -> np.ndarray:
    """`count` points [count, 2] of a mask bool [H, W]; none for an empty mask.

    Args:
        mask: where points may lie.
        count: number of points; a mask of fewer pixels gives some of them several times.
        method: of `METHODS`.
        rng: the source of randomness.
        image: uint8 [H, W, 3], for methods that look for corners.

    Raises:
        UsageError: an unknown method.
    """
    pixels = np.argwhere(mask)[:, ::-1]
    if not len(pixels) or not count:
        return np.empty((0, 2), np.float32)
    chosen = METHODS[one_of(method, METHODS, "selection of points")](mask, pixels, count, rng, image)
    return chosen.astype(np.float32)


def k_medoids(points: np.ndarray, count: int, iterations: int = 300) -> np.ndarray:
    """Indices [count] of medoids of points [N, 2], N >= count: assignment and update in turn, until nothing changes.

    It begins with the points that are nearest to all others.
    """
    distance = np.linalg.norm(points[:, None].astype(np.float32) - points[None], axis=2)
    chosen = np.argpartition(distance.sum(1), count - 1)[:count]
    for _ in range(iterations):
        nearest, before = distance[:, chosen].argmin(1), chosen.copy()
        for k in range(count):
            members = np.flatnonzero(nearest == k)
            if not len(members):
                continue
            cost = distance[np.ix_(members, members)].sum(1)
            own = np.flatnonzero(members == chosen[k])
            if not len(own) or cost.min() < cost[own[0]]:
                chosen[k] = members[cost.argmin()]
        if (chosen == before).all():
            break
    return chosen


def _repeated(pixels: np.ndarray, count: int) -> np.ndarray:
    return np.tile(pixels, (-(-count // len(pixels)), 1))[:count]


def _random(
    mask: np.ndarray, pixels: np.ndarray, count: int, rng: np.random.Generator, image: np.ndarray | None
) -> np.ndarray:
    return _repeated(pixels, count) if len(pixels) < count else pixels[rng.permutation(len(pixels))[:count]]


def _medoids(
    mask: np.ndarray, pixels: np.ndarray, count: int, rng: np.random.Generator, image: np.ndarray | None
) -> np.ndarray:
    if len(pixels) < count:
        return _repeated(pixels, count)
    drawn = pixels[rng.permutation(len(pixels))[:MOST_PIXELS]]
    return drawn[k_medoids(drawn, count)]


def _corners(
    mask: np.ndarray, pixels: np.ndarray, count: int, rng: np.random.Generator, image: np.ndarray | None
) -> np.ndarray:
    """Corners by quality; medoids where there are too few."""
    if image is None:
        return _medoids(mask, pixels, count, rng, image)
    inner = _eroded(mask)
    spread = np.argwhere(inner)
    diagonal = float(np.hypot(*(spread.max(0) - spread.min(0))))
    found = cv2.goodFeaturesToTrack(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), count, QUALITY, diagonal / count, mask=inner.astype(np.uint8)
    )
    corners = np.empty((0, 2)) if found is None else found[:, 0]
    more = count - len(corners)
    return np.concatenate([corners, _medoids(mask, pixels, more, rng, image)]) if more else corners


def _eroded(mask: np.ndarray) -> np.ndarray:
    spread = np.argwhere(mask)
    diagonal = float(np.hypot(*(spread.max(0) - spread.min(0))))
    for share in ERODED:
        side = int(diagonal * share)
        kernel = np.ones((side, side), np.uint8)  # of no side: OpenCV takes 3 x 3
        inner = cv2.erode(mask.astype(np.uint8), kernel).astype(bool)
        if inner.sum() >= LEAST_LEFT:
            return inner
    return mask.astype(bool)


def _mixed(
    mask: np.ndarray, pixels: np.ndarray, count: int, rng: np.random.Generator, image: np.ndarray | None
) -> np.ndarray:
    """A quarter medoids, a third corners, the rest random."""
    medoid, corner = count // 4, count // 3
    shares = ((_medoids, medoid), (_corners, corner), (_random, count - medoid - corner))
    parts = [select(mask, pixels, share, rng, image) for select, share in shares if share]
    return np.concatenate(parts)


Select = Callable[[np.ndarray, np.ndarray, int, np.random.Generator, "np.ndarray | None"], np.ndarray]
METHODS: dict[str, Select] = {
    "kmedoids": _medoids,
    "shi-tomasi": _corners,
    "random": _random,
    "mixed": _mixed,
}
