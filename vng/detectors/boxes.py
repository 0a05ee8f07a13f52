"""Boxes of detectors: from relative to pixel coordinates, and the best of many."""

from __future__ import annotations

import cv2
import numpy as np

from vng.detectors import Detections, DetectorSettings


def to_pixels(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes (x0, y0, x1, y1) in edges of pixels, float [D, 4] -> centres of first and last pixels, float32 [D, 4].

    They are cut to an image of height x width, and have at least one pixel.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    first = np.clip(boxes[:, :2], 0, [width - 1, height - 1])
    last = np.clip(boxes[:, 2:] - 1, first, [width - 1, height - 1])
    return np.concatenate([first, last], 1).astype(np.float32)


def from_centres(boxes: np.ndarray, height: float, width: float) -> np.ndarray:
    """Boxes (centre x, centre y, width, height) relative to an image -> (x0, y0, x1, y1) in edges of its pixels."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    half = boxes[:, 2:] / 2
    scale = np.array([width, height, width, height], np.float32)
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1) * scale


def best(boxes: np.ndarray, scores: np.ndarray, settings: DetectorSettings) -> np.ndarray:
    """Indices int [D'] of the detections that a detector keeps, the best first: high scores, no box twice.

    Args:
        boxes: float32 [D, 4] of pixels.
        scores: float32 [D].
        settings: least score, most detections, and overlap from which two boxes are one.
    """
    scores = np.nan_to_num(np.asarray(scores, np.float32))
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2] + 1], 1)
    kept = cv2.dnn.NMSBoxes(
        sizes.astype(float).tolist(), scores.tolist(), settings.least_score, settings.overlap, top_k=settings.most
    )
    return np.asarray(kept, int).reshape(-1)


def best_detections(boxes: np.ndarray, scores: np.ndarray, settings: DetectorSettings) -> Detections:
    """As `best`, the detections themselves; for engines without masks."""
    order = best(boxes, scores, settings)
    return Detections(boxes[order], np.asarray(scores, np.float32)[order])


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU in [0, 1] of boxes float32 [N, 4] and [M, 4] of pixels: float32 [N, M]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low + 1, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2] + 1).prod(-1) for boxes in (first, second)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared), np.float32)
