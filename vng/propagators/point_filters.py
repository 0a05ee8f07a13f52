"""Which tracked points SAM-PT believes: not those at the border, nor those whose surroundings have changed.

Shapes: P points, H x W pixels, n x n pixels of a patch.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from vng.frames import Frames
from vng.trackers import PointTracker
from vng.trackers.patches import cut_patches

BORDER = 0.01  # share of width and height that counts as outside the frame


def in_frame(xy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bool [P]: points [P, 2] that lie inside a frame of size (height, width), not within 1 % of its border."""
    share = xy / np.array([size[1], size[0]], np.float32)
    return np.asarray(((share >= BORDER) & (share <= 1 - BORDER)).all(1))


class PatchFiltered(PointTracker):
    """A tracker whose points are rejected for good once their surroundings differ from those of their query.

    Similarity: exp(-d / (2 n^2)), d the distance of the two patches' Lab colours. As in the authors' program, red and
    blue change places before the colours are compared.

    Args:
        tracker: the tracker.
        side: n, of a patch.
        least: similarity at or below which a point is rejected, in the direction of time of the call.
    """

    def __init__(self, tracker: PointTracker, side: int, least: float) -> None:
        self._tracker, self._side, self._least = tracker, side, least
        self.threshold = tracker.threshold

    def __call__(self, frames: Frames, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """See `PointTracker`."""
        queries = np.asarray(queries, np.float32)
        rejected = np.zeros(len(queries), bool)
        reference: np.ndarray | None = None
        for t, xy, visibility in self._tracker(frames, queries):
            starting = queries[:, 0] == t
            patches = _patches(frames[t], xy, self._side)
            reference = np.zeros_like(patches) if reference is None else reference
            reference[starting] = patches[starting]
            distance = np.linalg.norm(patches - reference, axis=1)
            alike = np.exp(-distance / (2 * self._side**2)) > self._least
            rejected |= (visibility > self.threshold) & ~alike & ~starting
            yield t, xy, np.where(rejected, 0, visibility).astype(np.float32)


def _patches(image: np.ndarray, xy: np.ndarray, side: int) -> np.ndarray:
    """Colours float32 [P, n * n * 3] around points; 0 outside the frame."""
    lab = cv2.cvtColor(image[..., ::-1].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return cut_patches(lab, xy, side, cv2.BORDER_CONSTANT).reshape(len(xy), -1)
