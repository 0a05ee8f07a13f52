"""Scaling of an image to the input of a network, and of the network's output back to the image.

Each network adds its own padding and normalisation. Shapes: H x W image, h x w scaled image, P points, K objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Fit:
    """An image of height x width pixels, scaled to rows x columns."""

    height: int
    width: int
    rows: int
    columns: int

    @staticmethod
    def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
        """The size (rows, columns) at a scale, at least one pixel each."""
        return max(1, round(height * scale)), max(1, round(width * scale))

    @property
    def is_scaled(self) -> bool:
        """Whether the size changes."""
        return (self.rows, self.columns) != (self.height, self.width)

    def scale(self, array: np.ndarray) -> np.ndarray:
        """[H, W, ...] -> [h, w, ...]: area averages where it shrinks, bilinear where it grows."""
        if not self.is_scaled:
            return array
        interpolation = cv2.INTER_AREA if self.rows < self.height else cv2.INTER_LINEAR
        return cv2.resize(array, (self.columns, self.rows), interpolation=interpolation)

    def scale_points(self, xy: np.ndarray) -> np.ndarray:
        """Pixels (x, y) of the image [P, 2] -> pixels of the scaled image; pixel centres are whole numbers."""
        factor = np.array([self.columns / self.width, self.rows / self.height])
        return (np.asarray(xy, float).reshape(-1, 2) + 0.5) * factor - 0.5

    def unscale(self, values: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
        """float32 [h, w] -> float32 [H, W], bilinear; written in place where `into` is given."""
        if not self.is_scaled:
            if into is None:
                return np.ascontiguousarray(values)
            into[:] = values
            return into
        size = (self.width, self.height)
        return cv2.resize(np.ascontiguousarray(values), size, dst=into, interpolation=cv2.INTER_LINEAR)
