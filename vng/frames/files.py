"""Files of videos: a folder of images, one image, a video file; opened as `Frames`."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vng.errors import DataError, UsageError
from vng.frames.base import FETCH, ArrayFrames, Frames, HeldSubset, check_image, decode_image
from vng.frames.names import existing
from vng.masks import MOST_PIXELS

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v")
CHECK_PATH = "check the path"
_DECIMAL = re.compile(r"(\D*)(\d+(?:\.\d+)?)")  # a frame's name that ends in a number
MOST_HELD = 32  # frames of a video file that a subset keeps in memory
MISSING_SHARE = 0.05  # of the frames that a container announces; with more missing, its video may be damaged


class ImageFolder(Frames):
    """A folder of JPEG or PNG files, ordered by the numbers in their names.

    Hidden files, such as the companions "._00000.jpg" that macOS writes, are not frames. Names that are all decimal
    numbers ("0.25") are ordered by value.

    Raises:
        DataError: no image, a folder in place of an image, or two files of one frame.
    """

    def __init__(self, folder: Path, fps: float = 0.0) -> None:
        files = visible_files(folder, IMAGE_SUFFIXES)
        if not files:
            raise DataError(folder, reason="no .jpg or .png files in this folder", cure=CHECK_PATH)
        by_name: dict[str, Path] = {}
        for file in _ordered(files):
            if file.is_dir():
                raise DataError(file, reason="expected an image, got a folder", cure=FETCH)
            if file.stem in by_name:
                reason = f"{by_name[file.stem].name} and {file.name} are of one frame"
                raise DataError(folder, record=f"frame {file.stem}", reason=reason, cure="keep one of the two")
            by_name[file.stem] = file
        super().__init__(list(by_name), str(folder), fps)
        self._files = list(by_name.values())

    def _read(self, index: int) -> np.ndarray:
        return decode_image(self._files[index].read_bytes(), str(self._files[index]))

    def encoded(self, index: int) -> bytes:
        return _whole(self._files[index])


class ImageFile(Frames):
    """One image file as a video of one frame."""

    def __init__(self, path: Path) -> None:
        super().__init__([path.stem], str(path))
        self._path = path

    def _read(self, index: int) -> np.ndarray:
        return decode_image(self._path.read_bytes(), self.source)

    def encoded(self, index: int) -> bytes:
        return _whole(self._path)


def _whole(path: Path) -> bytes:
    """The content of an image file that can be decoded, as far as its header and its end tell."""
    check_image(data := path.read_bytes(), str(path))
    return data


def visible_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of a folder with one of these suffixes (".png"), sorted by name; hidden ones are left out."""
    files = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entry for entry in files if entry.suffix.lower() in suffixes)


def _ordered(files: Sequence[Path]) -> list[Path]:
    """Files by the numbers in their names: whole numbers, or decimal ones where all names end in one."""
    parts = [_DECIMAL.fullmatch(file.stem) for file in files]
    places = [(part[1], Decimal(part[2])) for part in parts if part is not None]
    # "1.2" and "1.20" are chapter and frame, not decimal numbers: their values repeat.
    decimal = any("." in str(value) for _, value in places)
    if decimal and len(set(places)) == len(files):
        return [file for _, file in sorted(zip(places, files, strict=True))]
    return sorted(files, key=_natural_key)


def _natural_key(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.stem)
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts]


@dataclass(frozen=True)
class _Contents:
    """The film of a video file, as it decodes."""

    stream: int  # index of the stream that is the film
    count: int
    fps: float
    note: str


@lru_cache(maxsize=256)
def _contents(path: Path, changed: int, size: int) -> _Contents:
    """The film of a video file; `changed` and `size` tell a file from a later one of the same name.

    Frames are counted by decoding, without their pixels: packets may hold pictures that are never shown (edit lists,
    leading pictures of a clip that was cut without re-encoding), and a damaged file ends early.
    """
    import av

    with av.open(str(path), metadata_errors="replace") as container:
        stream = film_of(container)
        if stream.codec_context is None:
            raise DataError(path, reason="its kind of video cannot be decoded here", cure="re-encode it as H.264")
        if stream.codec_context.width * stream.codec_context.height > MOST_PIXELS:
            raise DataError(path, reason=f"frames of more than {MOST_PIXELS} pixels", cure="shrink it")
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"skip_loop_filter": "all"}  # of no effect on their number
        count = faulty = 0
        for frame in container.decode(stream):
            count += 1
            faulty += frame.is_corrupt
        rate = stream.average_rate or Fraction(0)
        seconds, index = _seconds(container, stream), stream.index  # not to be read from a closed container
    note = f"{faulty} of its frames are damaged" if faulty else ""
    if (1 - MISSING_SHARE) * float(seconds * rate) - 1 > count:
        told = f"its container announces {float(seconds):.1f} s at {float(rate):g} frames a second"
        note = "; ".join(part for part in (note, f"{told}, {count} frames were found") if part)
    return _Contents(index, count, float(rate), note and f"{note}; it may be cut short or damaged")


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


def _upright(frame: Any) -> np.ndarray:
    """The pixels of a decoded frame as players show them: turned or mirrored by its display matrix.

    The matrix (ISO/IEC 14496-12, 8.3.2.3) takes a row vector (x, y, 1); here its entries are 0 or of one size, so
    that it is one of the eight turns and mirrors of a rectangle. Others are rounded to these.
    """
    image: np.ndarray = frame.to_ndarray(format="rgb24")
    matrix = next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), b"")
    if len(matrix) < 36:
        return image
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
    if abs(int(a)) + abs(int(d)) < abs(int(b)) + abs(int(c)):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


class VideoFile(Frames):
    """A video file, decoded with PyAV by exact frame index; `note` says where it seems damaged.

    Reading forwards streams. Reading backwards starts again from the first frame, which is slow but exact: seeking by
    time stamp is inexact in files with variable frame rate. Stepping backwards restarts at every `MOST_HELD`th frame
    only, and holds the frames in between.

    Raises:
        DataError: no film in it that can be decoded.
    """

    def __init__(self, path: Path) -> None:
        import av

        self.path = path
        try:
            state = path.stat()
            contents = _contents(path, state.st_mtime_ns, state.st_size)
        except (av.error.FFmpegError, IndexError) as error:
            reason = f"this video cannot be decoded ({error})"
            raise DataError(path, reason=reason, cure="check that it plays, or fetch it again") from error
        if contents.count == 0:
            raise DataError(path, reason="this video has no frames", cure="check that it plays")
        super().__init__([f"{i:06d}" for i in range(contents.count)], str(path), contents.fps)
        self.note = contents.note
        self._stream = contents.stream
        self._decoder: Iterator[np.ndarray] | None = None
        self._next = 0
        self._last: tuple[int, np.ndarray] | None = None
        self._held: dict[int, np.ndarray] = {}  # frames before the last one read, when reading backwards

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first frame; closes the file again."""
        for image in (decoder := self._decode()):
            decoder.close()
            return int(image.shape[0]), int(image.shape[1])
        raise DataError(self.path, reason="no frame of this video can be decoded", cure="check that it plays")

    def subset(self, indices: Sequence[int]) -> Frames:
        """As in `Frames`; up to `MOST_HELD` frames are kept in memory, so that the file is decoded once."""
        return HeldSubset(self, indices) if len(indices) <= MOST_HELD else super().subset(indices)

    def _decode(self) -> Generator[np.ndarray]:
        import av

        try:
            with av.open(str(self.path), metadata_errors="replace") as container:
                stream: Any = container.streams[self._stream]
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    yield _upright(frame)
        except av.error.FFmpegError as error:
            place = f"after frame {self._next}"
            raise DataError(
                self.path, record=place, reason=f"this video is damaged ({error})", cure="fetch it again"
            ) from error

    def _read(self, index: int) -> np.ndarray:
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        if index in self._held:
            self._last = (index, self._held.pop(index))
            return self._last[1]
        stepping_back = self._last is not None and self._last[0] == index + 1
        self._held = {}
        if self._decoder is None or index < self._next:
            self._decoder, self._next = self._decode(), 0
        for image in self._decoder:
            self._next += 1
            if self._next > index:
                self._last = (index, image)
                return image
            if stepping_back and self._next > index - MOST_HELD + 1:
                self._held[self._next - 1] = image
        raise DataError(
            self.path,
            record=f"frame {index}",
            reason=f"the video ends after {self._next} frames, its container lists {len(self)}",
            cure="re-encode the video",
        )


def open_frames(path: Path) -> Frames:
    """Open a folder of images, a video file or one image; raises DataError if none can be opened."""
    if path.is_dir():
        return ImageFolder(path)
    if path.is_file():
        return ImageFile(path) if path.suffix.lower() in IMAGE_SUFFIXES else VideoFile(path)
    raise DataError(path, reason="no such folder or video file", cure="check the path")


def as_frames(video: str | Path | np.ndarray | Sequence[np.ndarray] | Frames) -> Frames:
    """The frames of a video file, a folder of frames, or uint8 [T, H, W, 3], RGB, as an array or a list of frames.

    `Frames` are returned as they are. Raises UsageError for anything else.
    """
    if isinstance(video, Frames):
        return video
    if isinstance(video, (str, Path)):
        return open_frames(Path(video).expanduser())
    frames = list(video) if isinstance(video, (list, tuple)) else video
    try:
        if isinstance(frames, list) and frames and all(isinstance(frame, np.ndarray) for frame in frames):
            return ArrayFrames(np.stack(frames))
        if isinstance(frames, np.ndarray):
            return ArrayFrames(frames)
        reason = f"got a value of type {type(video).__name__}"
    except ValueError as error:
        reason = str(error)
    raise UsageError(f"video: expected a path, uint8 [T, H, W, 3] (RGB), a list of its frames, or Frames; {reason}")


def find_frames(root: Path, video: str) -> Path:
    """The path of a video's frames: `root/video/` or `root/video.mp4` (or another video suffix).

    The name comes from an annotation file; raises DataError if it leads out of `root`.
    """
    folder = existing(root, video)
    if folder.is_dir():
        return folder
    for suffix in VIDEO_SUFFIXES:
        candidate = existing(root, video + suffix)
        if candidate.is_file():
            return candidate
    raise DataError(
        root,
        record=video,
        field="video_name",
        reason="no folder of frames and no video file of this name",
        cure="check --frames, or fetch it",
    )
