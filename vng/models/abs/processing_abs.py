"""Optical flow as an input of ABS: dense inverse search (OpenCV's DIS), or any function of two images.

Shapes: H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vng.frames.dense_flow import dense_flow

# Two images uint8 [H, W, 3] -> flow float32 [H, W, 2] from the first to the second, pixels.
FlowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]


def dis_flow(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Dense inverse search, of its fast kind."""
    return dense_flow(image, other, "fast")


def flow_map(image: np.ndarray, other: np.ndarray, flow: FlowFunction = dis_flow) -> np.ndarray:
    """Flow as the network takes it: float32 [3, H, W], x, y and length.

    The median motion is taken away, as most of it is the camera's, and the rest is scaled to its 95th percentile: the
    distance in time of two frames then matters little.
    """
    motion = flow(image, other)
    motion = motion - np.median(motion, (0, 1))
    length = np.hypot(motion[..., 0], motion[..., 1])
    scale = max(float(np.percentile(length, 95)), 1.0)
    return np.clip(np.stack([motion[..., 0], motion[..., 1], length]) / scale, -3, 3).astype(np.float32)
