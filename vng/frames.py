"""Frames of a video: a folder of images, a video file, an array or encoded images, read lazily by exact index.

Every source returns RGB uint8 [H, W, 3]. Frames are named by file stem; those of a video file by their 0-based index
in six digits, as in Point-VOS.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np

from vng.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v")
JPEG_QUALITY = 95
MOST_HELD = 32  # frames of a video file that a subset keeps in memory
T = TypeVar("T")


class Frames(ABC):
    """A video's frames, read one at a time.

    `frames[i]` is the i-th frame; iteration streams in time order and holds one frame at a time. All frames of a video
    have one size; a frame of another size raises DataError naming it.
    """

    def __init__(self, names: Sequence[str], source: str, fps: float = 0.0) -> None:
        self.names = list(names)
        self.source = source  # shown in errors
        self.fps = fps  # 0 where unknown

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[np.ndarray]:
        for index in range(len(self)):
            yield self[index]

    def __getitem__(self, index: int) -> np.ndarray:
        """RGB uint8 [H, W, 3]; raises IndexError outside the video, DataError for an unreadable frame."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.source}: frame {index} of {len(self)}")
        image = self._read(index)
        if image.shape[:2] != self.size:
            raise DataError(
                self.source,
                record=f"frame {self.names[index]}",
                field="size",
                reason="{}x{} pixels, the frames before it have {}x{}".format(*image.shape[:2], *self.size),
                cure="re-extract the frames of this video at one size",
            )
        return image

    @abstractmethod
    def _read(self, index: int) -> np.ndarray: ...

    def encoded(self, index: int) -> bytes:
        """The frame as image-file bytes: as the source stores it, else JPEG."""
        return encode_jpeg(self[index])

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first frame."""
        height, width = self._read(0).shape[:2]
        return height, width

    def subset(self, indices: Sequence[int]) -> Frames:
        """A view of some frames, in the order of `indices`."""
        return _Subset(self, indices)

    def index_of(self, name: str) -> int | None:
        """The index of the frame that an annotation names; None if there is none.

        Matched by name, else by number if the prefixes agree ("21" is "000021"). Names of OVIS ("img_0000001") count
        from 1; they also match decoded frames, which count from 0.
        """
        prefix, number = _split_name(name)
        if name in self._position or number is None:
            return self._position.get(name)
        if prefix == "img_" and prefix not in self._prefixes:
            prefix, number = "", number - 1
        return self._by_number.get((prefix, number))

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def _by_number(self) -> dict[tuple[str, int | None], int]:
        return {_split_name(name): index for index, name in enumerate(self.names)}

    @cached_property
    def _prefixes(self) -> set[str]:
        return {_split_name(name)[0] for name in self.names}


class _Subset(Frames):
    def __init__(self, parent: Frames, indices: Sequence[int]) -> None:
        super().__init__([parent.names[i] for i in indices], parent.source, parent.fps)
        self._parent, self._indices = parent, list(indices)

    def _read(self, index: int) -> np.ndarray:
        return self._parent[self._indices[index]]

    def encoded(self, index: int) -> bytes:
        return self._parent.encoded(self._indices[index])

    @cached_property
    def size(self) -> tuple[int, int]:
        return self._parent.size


class _HeldSubset(_Subset):
    """A few frames of a source that reads forwards only: read in one pass and kept in memory."""

    @cached_property
    def _held(self) -> dict[int, np.ndarray]:
        return {index: self._parent[index] for index in sorted(set(self._indices))}

    def _read(self, index: int) -> np.ndarray:
        return self._held[self._indices[index]]

    def encoded(self, index: int) -> bytes:
        return encode_jpeg(self._read(index))


class ImageFolder(Frames):
    """A folder of JPEG or PNG files, ordered by the number in their names."""

    def __init__(self, folder: Path, fps: float = 0.0) -> None:
        files = sorted((p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=_natural_key)
        if not files:
            raise DataError(folder, reason="no .jpg or .png files in this folder", cure="check the path")
        super().__init__([p.stem for p in files], str(folder), fps)
        self._files = files

    def _read(self, index: int) -> np.ndarray:
        return _decode(self._files[index].read_bytes(), str(self._files[index]))

    def encoded(self, index: int) -> bytes:
        return self._files[index].read_bytes()


class ImageFile(Frames):
    """One image file as a video of one frame."""

    def __init__(self, path: Path) -> None:
        super().__init__([path.stem], str(path))
        self._path = path

    def _read(self, index: int) -> np.ndarray:
        return _decode(self.encoded(index), self.source)

    def encoded(self, index: int) -> bytes:
        return self._path.read_bytes()


class EncodedFrames(Frames):
    """Images in memory as JPEG or PNG bytes."""

    def __init__(self, images: Sequence[bytes], names: Sequence[str], source: str, fps: float = 0.0) -> None:
        super().__init__(names, source, fps)
        self._images = images

    def _read(self, index: int) -> np.ndarray:
        return _decode(self._images[index], f"{self.source}: frame {self.names[index]}")

    def encoded(self, index: int) -> bytes:
        return self._images[index]


class ArrayFrames(Frames):
    """An array uint8 [T, H, W, 3], RGB."""

    def __init__(self, array: np.ndarray, names: Sequence[str] | None = None, fps: float = 0.0) -> None:
        if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise ValueError(f"frames must be uint8 [T, H, W, 3], got {array.dtype} {list(array.shape)}")
        super().__init__(names or [f"{i:06d}" for i in range(len(array))], "array", fps)
        self._array = array

    def _read(self, index: int) -> np.ndarray:
        return self._array[index]


class VideoFile(Frames):
    """A video file, decoded with PyAV by exact frame index.

    Reading forwards streams. Reading backwards starts again from the first frame, which is slow but exact: seeking by
    time stamp is inexact in files with variable frame rate. Stepping backwards restarts at every `MOST_HELD`th frame
    only, and holds the frames in between.
    """

    def __init__(self, path: Path) -> None:
        import av

        self.path = path
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                rate = float(stream.average_rate or 0)
                # Packets discarded by an edit list are never shown; cut clips and phone videos have them.
                count = sum(packet.size > 0 and not packet.is_discard for packet in container.demux(stream))
        except (av.error.FFmpegError, IndexError) as error:
            raise DataError(
                path, reason=f"this video cannot be opened ({error})", cure="check that it plays"
            ) from error
        if count == 0:
            raise DataError(path, reason="this video has no frames", cure="check that it plays")
        super().__init__([f"{i:06d}" for i in range(count)], str(path), rate)
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
        return _HeldSubset(self, indices) if len(indices) <= MOST_HELD else super().subset(indices)

    def _decode(self) -> Generator[np.ndarray]:
        import av

        try:
            with av.open(str(self.path)) as container:
                container.streams.video[0].thread_type = "AUTO"
                for frame in container.decode(video=0):
                    image = frame.to_ndarray(format="rgb24")
                    turns = round(getattr(frame, "rotation", 0) / 90) % 4
                    yield np.ascontiguousarray(np.rot90(image, turns)) if turns else image
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


def as_frames(video: str | Path | np.ndarray | Frames) -> Frames:
    """The frames of a video file, a folder of frames or uint8 [T, H, W, 3]; `Frames` are returned as they are."""
    if isinstance(video, np.ndarray):
        return ArrayFrames(video)
    return video if isinstance(video, Frames) else open_frames(Path(video))


def find_frames(root: Path, video: str) -> Path:
    """The path of a video's frames: `root/video/` or `root/video.mp4` (or another video suffix).

    The name comes from an annotation file; raises DataError if it leads out of `root`.
    """
    folder = inside(root, video)
    if folder.is_dir():
        return folder
    for suffix in VIDEO_SUFFIXES:
        candidate = folder.with_name(folder.name + suffix)
        if candidate.is_file():
            return candidate
    raise DataError(
        root,
        record=video,
        field="video_name",
        reason="no folder of frames and no video file of this name",
        cure="check --frames, or fetch it",
    )


def evenly_spaced(items: Sequence[T], count: int | None, *, single: Literal["first", "middle"] = "first") -> list[T]:
    """`count` items from first to last, evenly spaced, in order; all where there are fewer or `count` is None.

    `single` says which item stands for all where `count` is 1.
    """
    if count is None or len(items) <= count:
        return list(items)
    if count == 1 and single == "middle":
        return [items[(len(items) - 1) // 2]]
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, count).round()]


def inside(root: Path, name: str) -> Path:
    """`root / name`; raises DataError if `name` leads out of `root` or is not usable."""
    path = root / name
    parts = Path(name).parts
    if not parts or "\0" in name or Path(name).is_absolute() or ".." in parts:
        raise DataError(
            root,
            record=repr(name),
            field="name",
            reason="this name leads out of its folder",
            cure="rename it in the annotations",
        )
    return path


def encode_jpeg(image: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """RGB uint8 [H, W, 3] -> JPEG bytes."""
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _decode(data: bytes, source: str) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise DataError(source, reason="this image cannot be decoded", cure="fetch or extract it again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def frame_number(name: str) -> int | None:
    """The number at the end of a frame's name; None if there is none."""
    return _split_name(name)[1]


def _split_name(name: str) -> tuple[str, int | None]:
    """ "img_0000012" -> ("img_", 12); a name that does not end in digits has no number."""
    digits = re.search(r"\d+$", name)
    return (name[: digits.start()], int(digits.group())) if digits else (name, None)


def _natural_key(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.stem)
    return [(1, int(p), "") if p.isdigit() else (0, 0, p) for p in parts]
