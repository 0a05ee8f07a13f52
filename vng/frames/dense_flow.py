"""Dense optical flow between two frames, without weights (OpenCV's DIS: Kroeger et al., ECCV 2016).

Shapes: H x W pixels.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


@cache
def _dis(preset: str) -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(PRESETS[preset])


def dense_flow(before: np.ndarray, after: np.ndarray, preset: str = "medium") -> np.ndarray:
    """Flow float32 [H, W, 2], (x, y) pixels, from one frame to another; both uint8, grey [H, W] or RGB [H, W, 3]."""
    first, second = (x if x.ndim == 2 else cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (before, after))
    unset: Any = None  # OpenCV allocates the output
    return np.asarray(_dis(preset).calc(first, second, unset))


def moved_places(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel lies after a flow [H, W, 2]: x and y, float32 [H, W] each, as `cv2.remap` takes them."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return x + flow[..., 0], y + flow[..., 1]
