"""Files of videos: a folder of images, one image, a video file (`video_file`); opened as `Frames`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np

from vng.errors import DataError, UsageError
from vng.frames.base import FETCH, ArrayFrames, Frames, check_image, decode_image
from vng.frames.names import existing
from vng.frames.video_file import VideoFile

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v")
CHECK_PATH = "check the path"
_DECIMAL = re.compile(r"(\D*)(\d+(?:\.\d+)?)")  # a frame's name that ends in a number


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


def open_frames(path: Path, index_folder: Path | None = None) -> Frames:
    """Open a folder of images, a video file or one image; raises DataError if none can be opened.

    The index of a video file is kept in `index_folder`.
    """
    if path.is_dir():
        return ImageFolder(path)
    if path.is_file():
        return ImageFile(path) if path.suffix.lower() in IMAGE_SUFFIXES else VideoFile(path, index_folder)
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
