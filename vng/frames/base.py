"""Frames of a video: an array, encoded images, a view of others; read lazily by exact index (files: `files`).

Every source returns RGB uint8 [H, W, 3]. Frames are named by file stem; those of a video file by their 0-based index
in six digits, as in Point-VOS.
"""

from __future__ import annotations

import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np
from PIL import Image

from vng.errors import DataError, Problem
from vng.frames.names import same_form, split_name
from vng.masks import MOST_PIXELS

JPEG_QUALITY = 95
FETCH = "fetch or extract it again"
T = TypeVar("T")


class Frames(ABC):
    """A video's frames, read one at a time.

    `frames[i]` is the i-th frame; iteration streams in time order and holds one frame at a time. All frames of a video
    have one size; a frame of another size raises DataError naming it.
    """

    note = ""  # what a user should know of these frames, such as that some are missing

    def __init__(self, names: Sequence[str], source: str, fps: float = 0.0) -> None:
        self.names = list(names)
        self.source = source  # shown in errors
        self.fps = fps  # 0 where unknown

    @property
    def notes(self) -> tuple[Problem, ...]:
        """`note` as problems of kind "note": one or none."""
        return (Problem(self.source, reason=self.note, kind="note"),) if self.note else ()

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

    def read(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Some frames in any order, each decoded once; nothing that reading needed is held afterwards."""
        found = {index: self[index] for index in sorted(set(indices))}
        return [found[index] for index in indices]

    @property
    def nbytes(self) -> int:
        """Bytes of images held in memory; 0 for files."""
        return 0

    def encoded(self, index: int) -> bytes:
        """The frame as image-file bytes: as the source stores it, else JPEG."""
        return encode_jpeg(self[index])

    def write_index(self, folder: Path) -> None:
        """Keep what makes reading quick in a folder of indexes; only video files need that."""
        return

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
        prefix, number = split_name(name)
        if same_form(name) in self._position or number is None:
            return self._position.get(same_form(name))
        if prefix == "img_" and prefix not in self._prefixes:
            prefix, number = "", number - 1
        return self._by_number.get((prefix, number))

    @cached_property
    def _position(self) -> dict[str, int]:
        return {same_form(name): index for index, name in enumerate(self.names)}

    @cached_property
    def _by_number(self) -> dict[tuple[str, int | None], int]:
        return {split_name(name): index for index, name in enumerate(self.names)}

    @cached_property
    def _prefixes(self) -> set[str]:
        return {split_name(name)[0] for name in self.names}


class _Subset(Frames):
    def __init__(self, parent: Frames, indices: Sequence[int]) -> None:
        super().__init__([parent.names[i] for i in indices], parent.source, parent.fps)
        self._parent, self._indices, self.note = parent, list(indices), parent.note

    @property
    def nbytes(self) -> int:
        return self._parent.nbytes

    def _read(self, index: int) -> np.ndarray:
        return self._parent[self._indices[index]]

    def read(self, indices: Sequence[int]) -> list[np.ndarray]:
        return self._parent.read([self._indices[index] for index in indices])

    def encoded(self, index: int) -> bytes:
        return self._parent.encoded(self._indices[index])

    def write_index(self, folder: Path) -> None:
        self._parent.write_index(folder)

    @cached_property
    def size(self) -> tuple[int, int]:
        return self._parent.size


class Backwards(Frames):
    """The frames from one of them back to the first, read one at a time."""

    def __init__(self, parent: Frames, last: int) -> None:
        super().__init__(parent.names[last::-1], parent.source, parent.fps)
        self._parent, self._last, self.note = parent, last, parent.note

    def _read(self, index: int) -> np.ndarray:
        return self._parent[self._last - index]

    @cached_property
    def size(self) -> tuple[int, int]:
        return self._parent.size


class HeldSubset(_Subset):
    """A few frames of a source that reads forwards only: read in one pass and kept in memory."""

    @cached_property
    def _held(self) -> dict[int, np.ndarray]:
        wanted = sorted(set(self._indices))
        return dict(zip(wanted, self._parent.read(wanted), strict=True))

    def _read(self, index: int) -> np.ndarray:
        return self._held[self._indices[index]]

    def encoded(self, index: int) -> bytes:
        return encode_jpeg(self._read(index))


class EncodedFrames(Frames):
    """Images in memory as JPEG or PNG bytes."""

    def __init__(self, images: Sequence[bytes], names: Sequence[str], source: str, fps: float = 0.0) -> None:
        super().__init__(names, source, fps)
        self._images = images

    def _read(self, index: int) -> np.ndarray:
        return decode_image(self._images[index], f"{self.source}: frame {self.names[index]}")

    @property
    def nbytes(self) -> int:
        return sum(map(len, self._images))

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

    @property
    def nbytes(self) -> int:
        return self._array.nbytes


def evenly_spaced(items: Sequence[T], count: int | None, *, single: Literal["first", "middle"] = "first") -> list[T]:
    """`count` items from first to last, evenly spaced, in order; all where there are fewer or `count` is None.

    `single` says which item stands for all where `count` is 1.
    """
    if count is None or len(items) <= count:
        return list(items)
    if count == 1 and single == "middle":
        return [items[(len(items) - 1) // 2]]
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, count).round()]


def encode_jpeg(image: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """RGB uint8 [H, W, 3] -> JPEG bytes."""
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def decode_image(data: bytes, source: str) -> np.ndarray:
    """The pixels of an image file, turned as its EXIF entry says; raises DataError for a broken or huge image."""
    check_image(data, source)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(source, reason="this image cannot be decoded", cure=FETCH)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def check_image(data: bytes, source: str) -> None:
    """Raise DataError for an image that is empty, of no known kind, too large, or cut short; pixels are not decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                pixels, whole = image.width * image.height, _is_whole(data) or _loads(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, Image.DecompressionBombError):
            raise DataError(source, reason=f"more than {MOST_PIXELS} pixels", cure="shrink it") from error
        raise DataError(source, reason="this image cannot be decoded", cure=FETCH) from error
    if pixels > MOST_PIXELS:
        raise DataError(source, reason=f"{pixels} pixels, at most {MOST_PIXELS} are read", cure="shrink it")
    if not whole:
        raise DataError(source, reason="this image is damaged: its end is missing", cure=FETCH)


def _is_whole(data: bytes) -> bool:
    """Whether a JPEG or PNG file has its end; True for other kinds."""
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")  # end of image after the last start of a scan
    return not data.startswith(b"\x89PNG") or b"IEND" in data[-64:]


def _loads(image: Image.Image) -> bool:
    """Whether all pixels of an image without an end mark are there."""
    try:
        image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True
