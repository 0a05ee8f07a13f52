"""Frames that a row names by path: opened when the first one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from vng.errors import DataError, Problem
from vng.frames import Frames, open_frames

FRAME_INDEX = "frame_index"  # folder of a dataset: indexes of the video files that its rows name


class LinkedFrames(Frames):
    """The frames of a row that lie in a folder or a video file of their own.

    Args:
        path: the folder of images, video file or image.
        names: of the row's frames; found among those of the path.
        video: the video's id, which errors name.
        index_folder: where the index of a video file is kept; None: in memory only.

    Raises:
        DataError: on first use, for a path that cannot be opened or lacks a frame.
    """

    def __init__(
        self, path: Path, names: Sequence[str], video: str, fps: float = 0.0, index_folder: Path | None = None
    ) -> None:
        super().__init__(names, str(path), fps)
        self._path, self._video, self._index_folder = path, video, index_folder

    @cached_property
    def _opened(self) -> Frames:
        frames = open_frames(self._path, self._index_folder)
        places = {name: frames.index_of(name) for name in self.names}
        if missing := [name for name, place in places.items() if place is None]:
            reason = f"no frame {missing[0]!r} ({len(missing)} missing)"
            raise DataError(self._path, record=self._video, field="frame_names", reason=reason)
        self.note = frames.note
        return frames.subset([place for place in places.values() if place is not None])

    @property
    def notes(self) -> tuple[Problem, ...]:
        return self._opened.notes

    @cached_property
    def size(self) -> tuple[int, int]:
        return self._opened.size

    def _read(self, index: int) -> np.ndarray:
        return self._opened[index]

    def read(self, indices: Sequence[int]) -> list[np.ndarray]:
        return self._opened.read(indices)

    def encoded(self, index: int) -> bytes:
        return self._opened.encoded(index)

    def write_index(self, folder: Path) -> None:
        self._opened.write_index(folder)

    def subset(self, indices: Sequence[int]) -> Frames:
        return self._opened.subset(indices)
