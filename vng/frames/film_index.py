"""An index of the frames of a video file: made by decoding it once, kept in a folder of indexes.

A container's time stamps say where to seek, but not reliably which frame comes out. So the index has the time stamp and
a checksum of every frame; a frame that was sought is compared with its checksum (`video_file`).
"""

from __future__ import annotations

import gc
import hashlib
import io
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vng.errors import DataError
from vng.masks import MOST_PIXELS

THREADS = 4  # of a decoder, on every machine: the frames of a damaged video depend on it
MISSING_SHARE = 0.05  # of the frames that a container announces; with more missing, its video may be damaged
REMEMBERED = 4096  # indexes in memory, some 4 KB each
ENDS = 1 << 16  # bytes at the start and the end of a file that tell it from others
ROWS = 8  # every eighth row of a frame goes into its checksum
TRANSPOSED, UPSIDE_DOWN, MIRRORED = 4, 2, 1
NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True, kw_only=True)
class FilmIndex:
    """The film of a video file, as it decodes: T frames in the order in which they are shown."""

    stream: int  # index of the stream that is the film
    fps: float
    note: str  # where the file seems damaged
    height: int  # of an upright frame
    width: int
    turn: int  # of the decoded frames
    times: np.ndarray  # int64 [T], presentation time stamps; NO_TIME where a frame has none
    keys: np.ndarray  # bool [T], frames from which decoding can start
    sums: np.ndarray  # uint32 [T], checksums

    @cached_property
    def ordered(self) -> bool:
        """Whether time stamps tell the frames apart, in their order."""
        return bool((self.times != NO_TIME).all() and (np.diff(self.times) > 0).all())

    @cached_property
    def starts(self) -> np.ndarray:
        """Frames to seek to, ascending; the first frame alone where time stamps do not order the frames."""
        return np.unique(np.append(np.flatnonzero(self.keys) if self.ordered else [], 0).astype(np.int64))

    def start(self, index: int) -> int:
        """The last frame to seek to for frame `index`."""
        return int(self.starts[np.searchsorted(self.starts, index, side="right") - 1])

    def to_bytes(self) -> bytes:
        """The index as a NumPy archive."""
        buffer = io.BytesIO()
        numbers = np.array([self.stream, self.height, self.width, self.turn], np.int64)
        np.savez(
            buffer,
            numbers=numbers,
            fps=np.array(self.fps, np.float64),
            note=np.frombuffer(self.note.encode(), np.uint8),
            times=self.times,
            keys=self.keys,
            sums=self.sums,
        )
        return buffer.getvalue()

    @staticmethod
    def from_file(path: Path) -> FilmIndex | None:
        """The index in a file; None where there is none that can be used."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                stream, height, width, turn = (int(value) for value in arrays["numbers"])
                index = FilmIndex(
                    stream=stream,
                    fps=float(arrays["fps"]),
                    note=bytes(arrays["note"]).decode(errors="replace"),
                    height=height,
                    width=width,
                    turn=turn,
                    times=arrays["times"],
                    keys=arrays["keys"],
                    sums=arrays["sums"],
                )
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None
        shapes = {index.times.shape, index.keys.shape, index.sums.shape}
        kinds = (index.times.dtype, index.keys.dtype, index.sums.dtype) == (np.int64, np.bool_, np.uint32)
        pixels = height * width if min(stream, height - 1, width - 1) >= 0 else 0
        usable = shapes == {(len(index.times),)} and kinds and 0 < pixels <= MOST_PIXELS and np.isfinite(index.fps)
        usable &= 0 <= turn < 8
        return index if usable else None


def film_index(path: Path, folder: Path | None = None) -> FilmIndex:
    """The index of a video file: the one kept in `folder`, or a new one, which is then kept there if it can be.

    An index is named by the content of the video, so that it stays right where files are moved, copied or replaced.

    Raises:
        DataError: no film in the file that can be decoded.
    """
    state = path.stat()
    return _film_index(path, state.st_mtime_ns, state.st_size, folder)


@lru_cache(maxsize=REMEMBERED)
def _film_index(path: Path, changed: int, size: int, folder: Path | None) -> FilmIndex:
    """As `film_index`; `changed` and `size` tell a file from a later one of the same name."""
    place = None if folder is None else index_place(folder, path, size)
    kept = None if place is None or not place.is_file() else FilmIndex.from_file(place)
    if kept is not None:
        return kept
    index = _film_index(path, changed, size, None) if folder is not None else _scanned(path)
    if place is not None:
        keep_index(index, place)
    return index


def keep_index(index: FilmIndex, place: Path) -> None:
    """Write an index, if its folder can be written."""
    temporary = place.with_suffix(f".{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(index.to_bytes())
        os.replace(temporary, place)
    except OSError:  # a folder that others own, a full disk: the index is made again next time
        return


def index_place(folder: Path, path: Path, size: int) -> Path:
    """Where the index of a video lies in a folder of indexes."""
    with path.open("rb") as file:
        digest = hashlib.sha256(str(size).encode() + file.read(ENDS))
        file.seek(max(0, size - ENDS))
        digest.update(file.read(ENDS))
    name = digest.hexdigest()[:32]
    return folder / name[:2] / f"{name}.npz"


def _scanned(path: Path) -> FilmIndex:
    """The index of a video file, by decoding all of it.

    Packets are no measure: they may hold pictures that are never shown (edit lists, leading pictures of a clip that was
    cut without re-encoding), and a damaged file ends early.
    """
    import av

    times: list[int] = []
    keys: list[bool] = []
    sums: list[int] = []
    with av.open(str(path), metadata_errors="replace") as container:
        stream = film_of(container)
        if stream.codec_context is None:
            raise DataError(path, reason="its kind of video cannot be decoded here", cure="re-encode it as H.264")
        if stream.codec_context.width * stream.codec_context.height > MOST_PIXELS:
            raise DataError(path, reason=f"frames of more than {MOST_PIXELS} pixels", cure="shrink it")
        spread(stream)
        faulty, size = 0, (0, 0)
        for packet in container.demux(stream):
            frames = frames_in(packet)
            faulty += frames is None
            for frame in frames or ():
                size = size if times else (frame.height, frame.width)
                times.append(NO_TIME if frame.pts is None else frame.pts)
                keys.append(frame.key_frame)
                sums.append(checksum(frame))
                faulty += frame.is_corrupt
        rate = stream.average_rate or Fraction(0)
        seconds, position = _seconds(container, stream), stream.index  # not to be read from a closed container
    if not times:
        raise DataError(path, reason="this video has no frames", cure="check that it plays")
    turn = _turn(path, position)
    height, width = size[::-1] if turn & TRANSPOSED else size
    note = f"{faulty} of its frames are damaged" if faulty else ""
    if (1 - MISSING_SHARE) * float(seconds * rate) - 1 > len(times):
        told = f"its container announces {float(seconds):.1f} s at {float(rate):g} frames a second"
        note = "; ".join(part for part in (note, f"{told}, {len(times)} frames were found") if part)
    return FilmIndex(
        stream=position,
        fps=float(rate),
        note=note and f"{note}; it may be cut short or damaged",
        height=height,
        width=width,
        turn=turn,
        times=np.array(times, np.int64),
        keys=np.array(keys, bool),
        sums=np.array(sums, np.uint32),
    )


def frames_in(packet: Any) -> list[Any] | None:
    """The frames that a packet completes; None where it is damaged: the packets after it may be whole."""
    import av

    try:
        return list(packet.decode())
    except av.error.FFmpegError:
        return None


def checksum(frame: Any) -> int:
    """A checksum of some rows of a decoded frame, from its first plane (the brightness, or packed colours)."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height : ROWS, : frame.width]
    return zlib.crc32(rows.tobytes())


def spread(stream: Any) -> None:
    """Let a decoder use several threads."""
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = THREADS


def film_of(container: Any) -> Any:
    """The stream of an open container that is the film: not a cover picture; raises IndexError without one."""
    import av

    films = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    best = container.streams.best("video")
    return best if best in films else films[0]


def _seconds(container: Any, stream: Any) -> Fraction:
    """The duration that the container announces for its film; 0 where it does not."""
    import av

    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    if len(container.streams) == 1 and container.duration:
        return Fraction(container.duration, av.time_base)
    parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # of Matroska
    return Fraction(0) if parts is None else 3600 * int(parts[1]) + 60 * int(parts[2]) + Fraction(parts[3])


def turn_of(frame: Any) -> int:
    """How players turn or mirror a decoded frame, by its display matrix: some of TRANSPOSED, UPSIDE_DOWN, MIRRORED.

    The matrix (ISO/IEC 14496-12, 8.3.2.3) takes a row vector (x, y, 1); here its entries are 0 or of one size, so
    that it is one of the eight turns and mirrors of a rectangle. Others are rounded to these.
    """
    matrix = next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), b"")
    if len(matrix) < 36:
        return 0
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    turn = 0
    if abs(a) + abs(d) < abs(b) + abs(c):
        turn, a, d = TRANSPOSED, c, b
    return turn | (UPSIDE_DOWN if d < 0 else 0) | (MIRRORED if a < 0 else 0)


def _turn(path: Path, stream: int) -> int:
    """The turn of a film, of which the first frame stands for all.

    Looking for the matrix makes a cycle of references, which would keep the frame, its decoder and its threads until
    the next garbage collection; it is collected here, where it is young.
    """
    import av

    with av.open(str(path), metadata_errors="replace") as container:
        turn = turn_of(next(container.decode(container.streams[stream])))
    gc.collect(0)
    return turn
