"""Points followed by pyramidal Lucas-Kanade flow (OpenCV), without weights.

A point is visible while the flow back leads to where it came from (Kalal et al., ICPR 2010), and while its surroundings
look as they did. A lost point moves with its neighbours until its surroundings are found again near by.
Shapes: P points, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from vng.errors import UsageError
from vng.frames import Frames
from vng.trackers import PointTracker, check_queries
from vng.trackers.patches import cut_patches

NEIGHBOURS = 5  # visible points whose median motion a lost point takes
CHANGED = 0.92  # correlation above which a patch replaces the remembered one, so that slow change is followed


@dataclass(frozen=True, kw_only=True)
class LucasKanadeSettings:
    """Settings of the tracker, pixels at 240 rows; raises UsageError for values out of range."""

    window: int = 15  # side of the compared window
    levels: int = 3  # of the pyramid above the image
    tolerance: float = 1.0  # most distance between a point and where the flow back leads
    likeness: float = 0.6  # least correlation of a point's surroundings with the remembered ones
    patch: int = 13  # side of the surroundings
    search: int = 14  # how far around its expected place a lost point is looked for
    found: float = 0.95  # least correlation to be found again

    def __post_init__(self) -> None:
        for name, least in (("window", 3), ("patch", 3), ("levels", 0), ("search", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)}: expected {least} or more")
        if not self.tolerance > 0:
            raise UsageError(f"tolerance={self.tolerance}: expected a distance above 0")


class LucasKanadeTracker(PointTracker):
    """The tracker; see `vng.trackers.PointTracker` for the call."""

    threshold = 0.5

    def __init__(self, settings: LucasKanadeSettings | None = None) -> None:
        self.settings = settings or LucasKanadeSettings()

    def __call__(self, frames: Frames, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """See `PointTracker`."""
        queries = check_queries(frames, queries)
        if not len(queries):
            return
        own, xy = queries[:, 0].astype(int), queries[:, 1:].copy()
        visible = np.zeros(len(queries), bool)
        patches = _Patches(len(queries), self._scaled(self.settings.patch, frames.size))
        before: np.ndarray | None = None
        for t in range(int(own.min()), len(frames)):
            image = cv2.cvtColor(frames[t], cv2.COLOR_RGB2GRAY)
            if before is not None:
                followed = own < t
                self._step(before, image, xy, visible, followed, patches)
            starting = own == t
            visible |= starting
            patches.keep(image, xy, starting)
            before = image
            yield t, xy.copy(), visible.astype(np.float32)

    def _scaled(self, length: float, size: tuple[int, int]) -> int:
        """Pixels at 240 rows -> an odd number of pixels of frames of this size, not less."""
        return max(int(length * min(size) / 240) | 1, int(length) | 1)

    def _step(
        self,
        before: np.ndarray,
        image: np.ndarray,
        xy: np.ndarray,
        visible: np.ndarray,
        followed: np.ndarray,
        patches: _Patches,
    ) -> None:
        """Move the followed points from one frame to the next, in place."""
        seen = np.flatnonzero(visible & followed)
        lost = np.flatnonzero(~visible & followed)
        places = xy.copy()
        if len(seen):
            new, kept = self._flow(before, image, xy[seen])
            kept &= patches.likeness(image, new, seen) >= self.settings.likeness
            places[seen[kept]], visible[seen[~kept]] = new[kept], False
            lost = np.concatenate([lost, seen[~kept]])
        sure = np.flatnonzero(visible & followed)
        motion = places[sure] - xy[sure]
        for p in lost:
            places[p] = xy[p] + _motion_of_neighbours(xy[p], xy[sure], motion)
            found = self._found_again(image, places[p], int(p), patches)
            if found is not None:
                places[p], visible[p] = found, True
        xy[:] = places
        patches.renew(image, xy, np.flatnonzero(visible & followed))

    def _flow(self, before: np.ndarray, image: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points [P, 2] -> their places in the next image, and whether to trust them, bool [P]."""
        side = self._scaled(self.settings.window, image.shape[:2])
        options = {"winSize": (side, side), "maxLevel": self.settings.levels}
        start = np.ascontiguousarray(xy[:, None], np.float32)
        there, ok, _ = cv2.calcOpticalFlowPyrLK(before, image, start, None, **options)  # type: ignore[call-overload]
        back, ok_back, _ = cv2.calcOpticalFlowPyrLK(image, before, there, None, **options)  # type: ignore[call-overload]
        off = np.linalg.norm(back - start, axis=2)[:, 0]
        kept = (ok[:, 0] == 1) & (ok_back[:, 0] == 1)
        kept &= off <= self.settings.tolerance * max(1.0, min(image.shape[:2]) / 240)
        return there[:, 0], kept & _inside(there[:, 0], image.shape[:2])

    def _found_again(self, image: np.ndarray, place: np.ndarray, p: int, patches: _Patches) -> np.ndarray | None:
        """Where a lost point's surroundings lie near a place [2]; None where nothing is alike enough."""
        reach = self._scaled(self.settings.search, image.shape[:2])
        patch = patches.of(p)
        half = patch.shape[0] // 2
        x, y = (round(float(v)) for v in place)
        left, top = max(0, x - reach - half), max(0, y - reach - half)
        window = image[top : max(0, y + reach + half + 1), left : max(0, x + reach + half + 1)]
        if min(window.shape, default=0) < patch.shape[0] or patch.std() < 2:
            return None
        scores = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
        row, column = np.unravel_index(int(scores.argmax()), scores.shape)
        if scores[row, column] < self.settings.found:
            return None
        return np.array([left + column + half, top + row + half], np.float32)


class _Patches:
    """The surroundings of points, grey [side, side] each, by which they are known again."""

    def __init__(self, count: int, side: int) -> None:
        self._side = side
        self._kept = np.zeros((count, side, side), np.float32)

    def of(self, p: int) -> np.ndarray:
        """The remembered surroundings of a point, uint8."""
        return np.clip(np.rint(self._kept[p]), 0, 255).astype(np.uint8)

    def keep(self, image: np.ndarray, xy: np.ndarray, which: np.ndarray) -> None:
        """Remember the surroundings of some points (bool [P], or indices)."""
        if np.any(which):
            self._kept[which] = self._cut(image, xy[which])

    def likeness(self, image: np.ndarray, xy: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Correlation [len(which)] of what lies at places with what is remembered; flat surroundings: by brightness."""
        now, then = self._cut(image, xy), self._kept[which]
        flat = np.maximum(now.std((1, 2)), then.std((1, 2))) < 4
        a, b = now - now.mean((1, 2), keepdims=True), then - then.mean((1, 2), keepdims=True)
        correlation = (a * b).sum((1, 2)) / np.sqrt((a**2).sum((1, 2)) * (b**2).sum((1, 2))).clip(1e-6)
        brightness = 1 - np.abs(now.mean((1, 2)) - then.mean((1, 2))) / 40
        return np.where(flat, brightness, np.minimum(correlation, 0.5 + brightness))

    def renew(self, image: np.ndarray, xy: np.ndarray, which: np.ndarray) -> None:
        """Take over the surroundings of visible points that have changed little."""
        if len(which):
            self.keep(image, xy, which[self.likeness(image, xy[which], which) >= CHANGED])

    def _cut(self, image: np.ndarray, xy: np.ndarray) -> np.ndarray:
        return cut_patches(image, xy, self._side, cv2.BORDER_REPLICATE)


def _inside(xy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return (xy >= -0.5).all(1) & (xy[:, 0] < size[1] - 0.5) & (xy[:, 1] < size[0] - 0.5)


def _motion_of_neighbours(place: np.ndarray, others: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The median motion [2] of the nearest visible points; none without any."""
    if not len(others):
        return np.zeros(2, np.float32)
    nearest = np.argsort(np.linalg.norm(others - place, axis=1), kind="stable")[:NEIGHBOURS]
    return np.median(motion[nearest], axis=0)
