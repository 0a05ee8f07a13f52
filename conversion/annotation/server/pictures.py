"""Frames of clips as image files and as pixels, with a bounded memory of both."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from conversion.annotation.project import Project
from vng.errors import UsageError
from vng.frames import Frames, encode_jpeg

MOST_BYTES = 64 << 20  # of encoded frames
MOST_OPEN = 8  # videos
_KINDS = {b"\xff\xd8": "image/jpeg", b"\x89P": "image/png"}


class Pictures:
    """The frames of a project; usable from several threads, which read one at a time."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._open: OrderedDict[int, Frames] = OrderedDict()
        self._encoded: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def encoded(self, clip: int, frame: int) -> tuple[bytes, str]:
        """An image file and its media type; raises UsageError for a frame that is not there, DataError as `Frames`."""
        key = (clip, frame)
        with self._lock:
            if key not in self._encoded:
                frames = self._frames(clip, frame)
                data = frames.encoded(frame)
                self._encoded[key] = data if data[:2] in _KINDS else encode_jpeg(frames[frame])
                self._bytes += len(self._encoded[key])
                while self._bytes > MOST_BYTES and len(self._encoded) > 1:
                    self._bytes -= len(self._encoded.popitem(last=False)[1])
            self._encoded.move_to_end(key)
            data = self._encoded[key]
        return data, _KINDS[data[:2]]

    def pixels(self, clip: int, frame: int) -> np.ndarray:
        """uint8 [H, W, 3] of a frame, as the engines of a conversion see it; raises as `encoded`."""
        with self._lock:
            return self._frames(clip, frame)[frame]

    def _frames(self, clip: int, frame: int) -> Frames:
        """The frames of a clip, which has this one."""
        if clip not in self._open:
            self._open[clip] = self.project.frames(clip)
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(clip)
        if not 0 <= frame < len(self._open[clip]):
            raise UsageError(f"frame {frame} of {len(self._open[clip])}")
        return self._open[clip]
