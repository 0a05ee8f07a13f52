"""A video file as `Frames`: exact frames by index, sought from the key frame before them (index: `film_index`).

Where a frame that was sought differs from its checksum in the index, the video is decoded from its first frame.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from vng.errors import DataError
from vng.frames.base import Frames, HeldSubset
from vng.frames.film_index import (
    MIRRORED,
    NO_TIME,
    TRANSPOSED,
    UPSIDE_DOWN,
    checksum,
    film_index,
    frames_in,
    index_place,
    keep_index,
    spread,
)

MOST_HELD = 32  # frames of a video file that a subset keeps in memory
_PLAYS = "check that it plays, or fetch it again"
NO_PLACE = -1


def _upright(frame: Any, turn: int) -> np.ndarray:
    """The pixels of a decoded frame as players show them."""
    image: np.ndarray = frame.to_ndarray(format="rgb24")
    if not turn:
        return image
    image = image.transpose(1, 0, 2) if turn & TRANSPOSED else image
    return np.ascontiguousarray(image[:: -1 if turn & UPSIDE_DOWN else 1, :: -1 if turn & MIRRORED else 1])


class VideoFile(Frames):
    """A video file, decoded with PyAV by exact frame index; `note` says where it seems damaged.

    Reading forwards streams. Reading elsewhere starts from the key frame before. Stepping backwards holds up to
    `MOST_HELD` of the frames on the way, so that none is decoded for each of them.

    Args:
        path: the file.
        index_folder: where its index is kept; None: in memory only.

    Raises:
        DataError: no film in it that can be decoded.
    """

    def __init__(self, path: Path, index_folder: Path | None = None) -> None:
        import av

        self.path = path
        try:
            self._index = film_index(path, index_folder)
        except (av.error.FFmpegError, IndexError) as error:
            raise DataError(path, reason=f"this video cannot be decoded ({error})", cure=_PLAYS) from error
        super().__init__([f"{i:06d}" for i in range(len(self._index.times))], str(path), self._index.fps)
        self.note = self._index.note
        self._seeks = self._index.ordered  # until a frame that was sought differs from its checksum
        self._container: Any = None
        self._decoder: Generator[tuple[int, Any]] | None = None
        self._next = 0
        self._last: tuple[int, np.ndarray] | None = None
        self._held: dict[int, np.ndarray] = {}  # frames before the last one read, when reading backwards

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first frame."""
        return self._index.height, self._index.width

    def subset(self, indices: Sequence[int]) -> Frames:
        """As in `Frames`; up to `MOST_HELD` frames are kept in memory, so that the file is decoded once."""
        return HeldSubset(self, indices) if len(indices) <= MOST_HELD else super().subset(indices)

    def read(self, indices: Sequence[int]) -> list[np.ndarray]:
        """As in `Frames`; the decoder and the frames that it holds are let go.

        Pictures that no other one refers to are decoded only where they are asked for.
        """
        self.close()
        found: dict[int, np.ndarray] = {}
        for start, group in groupby(sorted(set(indices)), self._index.start):
            wanted = frozenset(group)
            if not self._seeks or min(wanted) < 0 or max(wanted) >= len(self):
                break
            for place, frame in self._decode(start, wanted):
                if place in wanted:
                    found[place] = _upright(frame, self._index.turn)
                if found.keys() >= wanted:
                    break
            self._seeks = found.keys() >= wanted
        for index in sorted({*indices} - found.keys()):
            found[index] = self[index]
        self.close()
        return [found[index] for index in indices]

    def write_index(self, folder: Path) -> None:
        """Keep the index of this video in a folder of indexes."""
        keep_index(self._index, index_place(folder, self.path, self.path.stat().st_size))

    def close(self) -> None:
        """Let go of the decoder, its threads and the frames that it holds; reading opens the file again."""
        if self._decoder is not None:
            self._decoder.close()
        if self._container is not None:
            self._container.close()
        self._decoder, self._container, self._last, self._held = None, None, None, {}

    def _decode(self, start: int, wanted: frozenset[int] | None = None) -> Generator[tuple[int, Any]]:
        """Decoded frames and their indices, from frame `start` on; fewer where seeking is inexact.

        With `wanted`, pictures that no other one refers to are left out where they are not wanted.
        """
        import av

        sums = self._index.sums
        checked = bool(start) or wanted is not None
        try:
            stream = self._sought(start)
            for packet in stream.container.demux(stream):
                if wanted is not None:
                    place = NO_PLACE if packet.pts is None else self._places.get(packet.pts, NO_PLACE)
                    skipped = place not in wanted and place != NO_PLACE
                    stream.codec_context.skip_frame = "NONREF" if skipped else "DEFAULT"
                for frame in frames_in(packet) or ():
                    place = self._places.get(NO_TIME if frame.pts is None else frame.pts, NO_PLACE)
                    place = place if checked else self._next
                    # Before the key frame come pictures that refer to frames before it.
                    if place < start:
                        continue
                    if checked and (wanted is None or place in wanted) and checksum(frame) != sums[place]:
                        return
                    yield place, frame
        except (av.error.FFmpegError, IndexError) as error:
            if checked:
                return
            place_of_damage, reason = f"after frame {self._next}", f"this video is damaged ({error})"
            raise DataError(self.path, record=place_of_damage, reason=reason, cure="fetch it again") from error

    def _sought(self, start: int) -> Any:
        """The film's stream in a container that stands before frame `start`."""
        import av

        if self._container is None or not start:  # "the start" of a container may not be its first frame
            if self._container is not None:
                self._container.close()
            self._container = av.open(str(self.path), metadata_errors="replace")
            spread(self._container.streams[self._index.stream])
        stream = self._container.streams[self._index.stream]
        if start:
            self._container.seek(int(self._index.times[start]), stream=stream)
        stream.codec_context.skip_frame = "DEFAULT"
        return stream

    @cached_property
    def _places(self) -> dict[int, int]:
        """Time stamp -> index of the frame; empty where time stamps do not order the frames."""
        return {int(time): place for place, time in enumerate(self._index.times)} if self._index.ordered else {}

    def _read(self, index: int) -> np.ndarray:
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        if index in self._held:
            self._last = (index, self._held.pop(index))
            return self._last[1]
        back = self._last is not None and self._last[0] == index + 1
        self._held = {}
        start = self._index.start(index) if self._seeks else 0
        if self._decoder is None or not start <= self._next <= index:
            self._restart(start)
        image = self._forward(index, back)
        if image is None and start:
            self._seeks = False
            self._restart(0)
            image = self._forward(index, back)
        if image is None:
            reason = f"the video ends after {self._next} frames, its container lists {len(self)}"
            raise DataError(self.path, record=f"frame {index}", reason=reason, cure="re-encode the video")
        self._last = (index, image)
        return image

    def _restart(self, start: int) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._decoder, self._next = self._decode(start), start

    def _forward(self, index: int, back: bool) -> np.ndarray | None:
        """Decode up to frame `index`, holding those before it where the reader steps back; None if it does not come."""
        assert self._decoder is not None
        for place, frame in self._decoder:
            if place != self._next:  # a frame between is missing
                return None
            self._next += 1
            if place == index:
                return _upright(frame, self._index.turn)
            if back and place > index - MOST_HELD:
                self._held[place] = _upright(frame, self._index.turn)
        return None
