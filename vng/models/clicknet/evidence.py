"""Evidence of clicks without learned weights: Euclidean and geodesic distances to them, and the distance to their hull.

All maps have a grid of cells of `CELL` x `CELL` pixels. Distances are in pixels (geodesic ones in pixels of a uniform
surface) and at most `FAR`, which also means that there is no such click.

Shapes: B images, N objects (of all images), P points, h x w cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

CELL = 4
FAR = 400.0
CONTRAST = 2.0  # a colour change of one Lab unit costs as much as a path of this many pixels
OBSTACLE = 20.0  # an outline makes a path longer by this factor at most
SWEEPS = 2  # rounds of four raster scans; a third changes almost nothing


def cells_of(points: Tensor, height: int, width: int, cell: int = CELL) -> Tensor:
    """The cell index (row * w + column), long [..., P], under each point [..., P, 2] (x, y) in pixels."""
    column = ((points[..., 0] + 0.5) / cell).long().clamp(0, width - 1)
    row = ((points[..., 1] + 0.5) / cell).long().clamp(0, height - 1)
    return row * width + column


def nearest(points: Tensor, valid: Tensor, height: int, width: int) -> Tensor:
    """Euclidean distance of every cell's centre to the nearest valid point: [N, P, 2], bool [N, P] -> [N, h, w]."""
    if not points.shape[1]:
        return points.new_full((len(points), height, width), FAR)
    y, x = (torch.arange(n, device=points.device) * CELL + (CELL - 1) / 2 for n in (height, width))
    dx, dy = (x - points[..., :1]) ** 2, (y - points[..., 1:]) ** 2
    dx = dx.masked_fill(~valid[..., None], FAR**2)
    squared = (dy[..., :, None] + dx[..., None, :]).amin(1)
    return squared.sqrt().clamp(max=FAR)


def density(points: Tensor, valid: Tensor, height: int, width: int, spread: float = 10.0) -> Tensor:
    """Share of the valid points around every cell, Gaussian with `spread` pixels, float [N, h, w] in [0, 1]."""
    y, x = (torch.arange(n, device=points.device) * CELL + (CELL - 1) / 2 for n in (height, width))
    across = torch.exp(-((x - points[..., :1]) ** 2) / (2 * spread**2)) * valid[..., None]
    down = torch.exp(-((y - points[..., 1:]) ** 2) / (2 * spread**2))
    total = torch.einsum("nph,npw->nhw", down, across)
    return total / valid.sum(1).clamp(min=1)[:, None, None]


def hull(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Signed distance to the convex hull of points [P, 2], negative within, float32 [h, w]; FAR without points."""
    if not len(points):
        return np.full((height, width), FAR, np.float32)
    inside_hull = np.zeros((height + 2, width + 2), np.uint8)  # with a border, so that there always is an outside
    corners = cv2.convexHull(((points + 0.5) / CELL - 0.5).astype(np.float32))
    cv2.fillConvexPoly(inside_hull, np.rint(corners).astype(np.int32) + 1, 1)
    outside = cv2.distanceTransform(1 - inside_hull, cv2.DIST_L2, 3)
    inside = cv2.distanceTransform(inside_hull, cv2.DIST_L2, 3)
    return np.minimum((outside - inside)[1:-1, 1:-1] * CELL, FAR)


def lab_cells(image: np.ndarray) -> np.ndarray:
    """Mean Lab of every cell, uint8 [H, W, 3] -> float32 [h, w, 3]; H and W are multiples of CELL."""
    height, width = image.shape[0] // CELL, image.shape[1] // CELL
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def seeds(points: Tensor, valid: Tensor, height: int, width: int) -> np.ndarray:
    """The cells under valid points, bool [N, h, w]."""
    marked = np.zeros((len(points), height * width), bool)
    cells = cells_of(points, height, width).cpu().numpy()
    row, column = np.nonzero(valid.cpu().numpy())
    marked[row, cells[row, column]] = True
    return marked.reshape(-1, height, width)


Steps = tuple[np.ndarray, np.ndarray, np.ndarray]  # to the next row: straight, from the left, from the right


@dataclass(frozen=True)
class Ground:
    """The cost of a path from cell to neighbouring cell in B images.

    Attributes:
        down: float32 [h - 1, B, w (- 1)] each. right: float32 [w - 1, B, h (- 1)] each.
    """

    down: Steps
    right: Steps

    @staticmethod
    def of_colours(lab: np.ndarray) -> Ground:
        """A path costs its length and the colour change along it; lab float32 [B, h, w, 3]."""

        def cost(here: np.ndarray, there: np.ndarray, length: float) -> np.ndarray:
            return np.sqrt(((there - here) ** 2).sum(-1)) * np.float32(CONTRAST) + np.float32(length * CELL)

        return Ground(_steps(lab.transpose(1, 0, 2, 3), cost), _steps(lab.transpose(2, 0, 1, 3), cost))

    @staticmethod
    def of_outlines(outline: np.ndarray) -> Ground:
        """A path costs its length, and more where outlines are likely; outline float32 [B, h, w] in [0, 1]."""

        def cost(here: np.ndarray, there: np.ndarray, length: float) -> np.ndarray:
            return (1 + np.float32(OBSTACLE) * np.maximum(here, there)) * np.float32(length * CELL)

        return Ground(_steps(outline.transpose(1, 0, 2), cost), _steps(outline.transpose(2, 0, 1), cost))

    def ways(self, seeds: np.ndarray) -> np.ndarray:
        """The cost of the cheapest path from the seeds bool [N, h, w] of B images in order: float32 [N, h, w].

        Raster scans down, up, right and left (Toivanen 1996) process all N maps at once, so that another object costs
        almost nothing.
        """
        images, (rows, columns) = self.down[0].shape[1], seeds.shape[1:]
        start = np.where(seeds, np.float32(0), np.float32(FAR)).reshape(images, -1, rows, columns)
        distance = np.ascontiguousarray(start.transpose(2, 0, 1, 3))  # the axis of a scan comes first
        for _ in range(SWEEPS):
            _scan(distance, self.down)
            across = np.ascontiguousarray(distance.transpose(3, 1, 2, 0))
            _scan(across, self.right)
            distance = np.ascontiguousarray(across.transpose(3, 1, 2, 0))
        return np.ascontiguousarray(distance.transpose(1, 2, 0, 3)).reshape(seeds.shape)

    def beside(self, other: Ground) -> Ground:
        """The costs of both as one of 2 * B images, so that one run of scans serves both."""

        def joined(ours: Steps, theirs: Steps) -> Steps:
            straight, from_left, from_right = (np.concatenate(pair, 1) for pair in zip(ours, theirs, strict=True))
            return straight, from_left, from_right

        return Ground(joined(self.down, other.down), joined(self.right, other.right))


def _steps(values: np.ndarray, cost: Callable[[np.ndarray, np.ndarray, float], np.ndarray]) -> Steps:
    """Costs between neighbours along the first axis of values [rows, B, columns, ...]."""
    straight = cost(values[:-1], values[1:], 1.0)
    from_left = cost(values[:-1, :, :-1], values[1:, :, 1:], 2**0.5)
    from_right = cost(values[:-1, :, 1:], values[1:, :, :-1], 2**0.5)
    return straight, from_left, from_right


def _scan(distance: np.ndarray, steps: Steps) -> None:
    """Propagate distances [rows, B, M, columns] from row to row, down and then up, in place."""
    straight, from_left, from_right = (cost[:, :, None] for cost in steps)  # of an image, for all its M maps
    for i in range(1, len(distance)):
        before, here = distance[i - 1], distance[i]
        np.minimum(here, before + straight[i - 1], out=here)
        np.minimum(here[..., 1:], before[..., :-1] + from_left[i - 1], out=here[..., 1:])
        np.minimum(here[..., :-1], before[..., 1:] + from_right[i - 1], out=here[..., :-1])
    for i in range(len(distance) - 2, -1, -1):
        before, here = distance[i + 1], distance[i]
        np.minimum(here, before + straight[i], out=here)
        np.minimum(here[..., :-1], before[..., 1:] + from_left[i], out=here[..., :-1])
        np.minimum(here[..., 1:], before[..., :-1] + from_right[i], out=here[..., 1:])
