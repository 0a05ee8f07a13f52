"""TAPIR (Doersch et al., ICCV 2023) by its authors' package, in windows; each begins with the query's own frame.

TAPIR compares a query's features with every frame by itself before it refines, so a window needs the query's frame but
not the frames between.
Shapes: P points, T frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from vng.errors import UsageError
from vng.frames import Frames
from vng.models.loading import device_named
from vng.trackers import PointTracker, check_queries
from vng.trackers.installed import import_tracker, load_state

SOURCE = "https://github.com/google-deepmind/tapnet"


@dataclass(frozen=True, kw_only=True)
class TapirSettings:
    """Settings of the tracker; raises UsageError for a window below 1."""

    window: int = 32  # frames at a time
    side: int = 256  # of the square that frames are scaled to, as published
    device: str | None = None  # None: a GPU if there is one

    def __post_init__(self) -> None:
        for name in ("window", "side"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)}: expected 1 or more")


class TapirTracker(PointTracker):
    """The tracker; see `vng.trackers.PointTracker` for the call.

    Args:
        checkpoint: the authors' PyTorch file (bootstapir_checkpoint_v2.pt).
        settings: None: the defaults.

    Raises:
        UsageError: the package is missing, or no checkpoint is given. DataError: a file that is no checkpoint.
    """

    threshold = 0.5

    def __init__(self, checkpoint: str | None = None, settings: TapirSettings | None = None) -> None:
        module = import_tracker("tapnet.torch.tapir_model", "tapnet", SOURCE)
        if checkpoint is None:
            raise UsageError("the tracker tapir has no weights of its own; name its file, bootstapir_checkpoint_v2.pt")
        self.settings = settings or TapirSettings()
        self._device = device_named(self.settings.device)
        self._model: Any = module.TAPIR(pyramid_level=1)
        self._model.load_state_dict(load_state(checkpoint))
        self._model.to(self._device).eval()

    def __call__(self, frames: Frames, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """See `PointTracker`."""
        queries = check_queries(frames, queries)
        if not len(queries):
            return
        own = queries[:, 0].astype(int)
        first, side = int(own.min()), self.settings.side
        starts = {int(t): self._scaled(frames[int(t)]) for t in np.unique(own)}
        scale = np.array([side / frames.size[1], side / frames.size[0]], np.float32)
        for start in range(first, len(frames), self.settings.window):
            times = range(start, min(start + self.settings.window, len(frames)))
            window = np.stack([self._scaled(frames[t]) for t in times])
            xy = np.repeat(queries[None, :, 1:], len(times), 0)
            seen = np.zeros((len(times), len(queries)), np.float32)
            for begin, image in starts.items():
                members = np.flatnonzero(own == begin)
                if begin < times[-1] + 1:
                    places, visible = self._run(np.concatenate([image[None], window]), queries[members, 1:] * scale)
                    xy[:, members], seen[:, members] = places / scale, visible
            for i, t in enumerate(times):
                followed = own < t
                places = np.where(followed[:, None], xy[i], queries[:, 1:]).astype(np.float32)
                yield t, places, np.where(followed, seen[i], own == t).astype(np.float32)

    def _scaled(self, image: np.ndarray) -> np.ndarray:
        side = self.settings.side
        return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)

    @torch.inference_mode()
    def _run(self, window: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frames [1 + T, s, s, 3], the query's first, and points [P, 2] -> places [T, P, 2], visibility [T, P]."""
        video = torch.from_numpy(window).to(self._device).float() / 255 * 2 - 1
        asked = torch.from_numpy(np.concatenate([np.zeros((len(xy), 1)), xy[:, ::-1]], 1).astype(np.float32))
        output = self._model(video[None], asked[None].to(self._device))
        hidden, unsure = output["occlusion"][0].sigmoid(), output["expected_dist"][0].sigmoid()
        visible = ((1 - hidden) * (1 - unsure)).T
        return output["tracks"][0].transpose(0, 1)[1:].cpu().numpy(), visible[1:].cpu().numpy()
