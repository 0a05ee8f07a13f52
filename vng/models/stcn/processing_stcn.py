"""Images and points as STCN takes them.

Shapes: P points, H x W pixels.
"""

from __future__ import annotations

import numpy as np


def point_map(xy: np.ndarray, size: tuple[int, int], radius: float = 0.0) -> np.ndarray:
    """A mask that is one at the points alone (Point-VOS, App. D), or within `radius` pixels of them.

    Args:
        xy: float [P, 2], pixels; places outside the frame leave nothing.
        size: (height, width).

    Returns:
        float32 [H, W], 0 or 1.
    """
    height, width = size
    drawn = np.zeros(size, np.float32)
    reach = int(np.ceil(radius))
    for x, y in np.asarray(xy, float).reshape(-1, 2):
        column, row = round(x), round(y)
        rows = np.arange(max(0, row - reach), min(height, row + reach + 1))
        columns = np.arange(max(0, column - reach), min(width, column + reach + 1))
        near = (rows[:, None] - row) ** 2 + (columns[None] - column) ** 2 <= radius**2
        drawn[np.ix_(rows, columns)] = np.maximum(drawn[np.ix_(rows, columns)], near)
    return drawn
