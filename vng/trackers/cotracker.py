"""CoTracker (Karaev et al., ECCV 2024; CoTracker3) by its authors' package, online: windows of frames, half overlapping.

Shapes: P points, T frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vng.errors import UsageError
from vng.frames import Frames
from vng.models.loading import device_named
from vng.trackers import PointTracker, check_queries
from vng.trackers.installed import import_tracker, load_state

SOURCE = "https://github.com/facebookresearch/co-tracker"


@dataclass(frozen=True, kw_only=True)
class CoTrackerSettings:
    """Settings of the tracker."""

    support_grid: bool = True  # points of a grid are followed too, and dropped: they steady the others
    device: str | None = None  # None: a GPU if there is one


class CoTracker(PointTracker):
    """The tracker; see `vng.trackers.PointTracker` for the call.

    Args:
        checkpoint: the authors' file for the online model (scaled_online.pth).
        settings: None: the defaults.

    Raises:
        UsageError: the package is missing, or no checkpoint is given. DataError: a file that is no checkpoint.
    """

    threshold = 0.5  # the predictor's visibility is 0 or 1

    def __init__(self, checkpoint: str | None = None, settings: CoTrackerSettings | None = None) -> None:
        predictor = import_tracker("cotracker.predictor", "cotracker", SOURCE)
        if checkpoint is None:
            raise UsageError(
                "the tracker cotracker has no weights of its own; name its file, such as scaled_online.pth"
            )
        self.settings = settings or CoTrackerSettings()
        self._device = device_named(self.settings.device)
        state = load_state(checkpoint)
        self._predictor: Any = predictor.CoTrackerOnlinePredictor(checkpoint=None)
        self._predictor.model.load_state_dict(state)
        self._predictor.to(self._device)

    def __call__(self, frames: Frames, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """See `PointTracker`."""
        queries = check_queries(frames, queries)
        if not len(queries):
            return
        first, step = int(queries[:, 0].min()), int(self._predictor.step)
        asked = torch.from_numpy(queries - np.array([first, 0, 0], np.float32))[None].to(self._device)
        held: list[np.ndarray] = []  # the frames of one window
        begun = False
        for start in range(first, len(frames), step):
            held = held[step:]
            held += [frames[t] for t in range(start + len(held), min(start + 2 * step, len(frames)))]
            chunk = torch.from_numpy(np.stack(held)).permute(0, 3, 1, 2)[None].float().to(self._device)
            grid = self.settings.support_grid
            if not begun:
                self._predictor(chunk, is_first_step=True, queries=asked, add_support_grid=grid)
                begun = True
            tracks, visible = self._predictor(chunk, add_support_grid=grid)
            ends = start + len(held) >= len(frames)  # the frames that overlap the next window are refined there
            for t in range(start, len(frames) if ends else start + step):
                own = queries[:, 0]
                xy = np.where((own < t)[:, None], tracks[0, t - first].cpu().numpy(), queries[:, 1:])
                seen = np.where(own < t, visible[0, t - first].float().cpu().numpy(), own == t)
                yield t, xy.astype(np.float32), seen.astype(np.float32)
            if ends:
                return
