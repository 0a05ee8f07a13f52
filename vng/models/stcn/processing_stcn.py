"""STCN's input from images and points.

Shapes: P points, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vng.models.fit import Fit
from vng.models.transfer import pixel_statistics, to_device

MULTIPLE = 16  # sides the network takes


@dataclass(frozen=True)
class View(Fit):
    """A frame in the network's input: scaled, then padded with the mean colour, on both sides by default."""

    multiple: int = MULTIPLE  # the padded sides are multiples of this
    centred: bool = True  # False: padded below and to the right

    @staticmethod
    def of(height: int, width: int, short_side: int = 0) -> View:
        """The view of frames of height x width pixels; `short_side` 0 keeps their size."""
        scale = short_side / min(height, width) if short_side else 1.0
        return View(height, width, *Fit.scaled_size(height, width, scale))

    @property
    def padded(self) -> tuple[int, int]:
        """The size (rows, columns) of the network's input."""
        return -(-self.rows // self.multiple) * self.multiple, -(-self.columns // self.multiple) * self.multiple

    @property
    def _corner(self) -> tuple[int, int]:
        if not self.centred:
            return 0, 0
        return (self.padded[0] - self.rows) // 2, (self.padded[1] - self.columns) // 2

    def pad(self, array: np.ndarray, value: float) -> np.ndarray:
        """A scaled array [h, w, ...] -> [rows, columns, ...], filled with a value."""
        (top, left), (rows, columns) = self._corner, self.padded
        widths = [(top, rows - self.rows - top), (left, columns - self.columns - left)]
        return np.pad(array, widths + [(0, 0)] * (array.ndim - 2), constant_values=value)

    def image(self, image: np.ndarray, device: torch.device | None = None) -> Tensor:
        """uint8 [H, W, 3] -> float32 [1, 3, rows, columns] in 0..255, padded with the mean colour, on a device."""
        scaled = np.require(self.scale(image), requirements=["C", "W"])  # torch takes no read-only arrays
        pixels = to_device(torch.from_numpy(scaled), device or torch.device("cpu")).permute(2, 0, 1)
        (top, left), (rows, columns) = self._corner, self.padded
        canvas = (255 * pixel_statistics(pixels.device)[0]).expand(3, rows, columns).clone()
        canvas[:, top : top + self.rows, left : left + self.columns] = pixels
        return canvas[None]

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """[H, W] in [0, 1] -> float32 [rows, columns]."""
        return self.pad(self.scale(mask.astype(np.float32)), 0.0)

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Pixels of the frame [P, 2] -> pixels of the network's input; pixel centres are integers."""
        return self.scale_points(xy) + np.array(self._corner[::-1])

    def restore(self, probabilities: np.ndarray) -> np.ndarray:
        """[K, rows, columns] -> float32 [K, H, W]."""
        top, left = self._corner
        cut = probabilities[:, top : top + self.rows, left : left + self.columns]
        if not self.is_scaled:
            return np.ascontiguousarray(cut)
        scaled = [self.unscale(p) for p in cut]
        return np.stack(scaled) if scaled else np.zeros((0, self.height, self.width), np.float32)


def point_map(xy: np.ndarray, size: tuple[int, int], radius: float = 0.0) -> np.ndarray:
    """A mask that is one at the points alone (Point-VOS, App. D), or within `radius` pixels of them.

    Args:
        xy: float [P, 2], pixels; whatever lies outside the frame is left out.
        size: (height, width).

    Returns:
        float32 [H, W], 0 or 1.
    """
    height, width = size
    mask = np.zeros(size, np.float32)
    extent = int(np.ceil(radius))
    for x, y in np.asarray(xy, float).reshape(-1, 2):
        column, row = round(x), round(y)
        rows = np.arange(max(0, row - extent), min(height, row + extent + 1))
        columns = np.arange(max(0, column - extent), min(width, column + extent + 1))
        near = (rows[:, None] - row) ** 2 + (columns[None] - column) ** 2 <= radius**2
        mask[np.ix_(rows, columns)] = np.maximum(mask[np.ix_(rows, columns)], near)
    return mask
