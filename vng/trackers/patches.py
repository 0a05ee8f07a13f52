"""Patches of an image around points.

Shapes: P points, n x n pixels of a patch.
"""

from __future__ import annotations

import cv2
import numpy as np


def cut_patches(image: np.ndarray, xy: np.ndarray, side: int, border: int) -> np.ndarray:
    """Patches around points [P, 2], bilinear: float32 [P, n, n] or [P, n, n, C], n odd (`side`, or one more).

    Args:
        image: [H, W] or [H, W, C].
        xy: pixels, centres at integer coordinates; they may lie outside.
        side: of a patch.
        border: what lies beyond the image: cv2.BORDER_REPLICATE, or cv2.BORDER_CONSTANT for zeros.
    """
    steps = np.arange(-(side // 2), side // 2 + 1, dtype=np.float32)
    shape = (len(xy), len(steps), len(steps))
    x = np.broadcast_to((xy[:, 0, None] + steps)[:, None], shape)
    y = np.broadcast_to((xy[:, 1, None] + steps)[:, :, None], shape)
    across, down = (np.ascontiguousarray(v.reshape(-1, len(steps)), np.float32) for v in (x, y))
    cut = cv2.remap(image, across, down, cv2.INTER_LINEAR, borderMode=border, borderValue=0)
    return cut.reshape(*shape, *image.shape[2:]).astype(np.float32)
