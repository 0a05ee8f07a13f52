"""A folder of predicted frames, one PNG a frame: read one at a time, with every fault kept."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from vng.errors import DataError, DataErrors, Problem

Missing = Literal["error", "empty"]
LABELS = ("P", "L", "1")  # modes of Pillow: palette, grey of 8 bits, of one bit
PREDICT = "predict it, or use --missing empty"


def check_results(results: Path, command: str = "vng predict") -> None:
    """DataError where the folder of all predictions is not there; `command` makes such."""
    if not results.is_dir():
        raise DataError(results, "", "", "no such folder of predictions", f"check --results, or run `{command}`")


class FrameFolder:
    """The PNGs of one video, or of one expression of it.

    Whatever is wrong is added to `problems`, so that the caller can tell all of it at once.

    Args:
        folder: may be absent.
        names: of the video's frames.
        size: height and width of its frames.
        missing: whether a frame that is not there is a problem or empty.
        what: how a message calls that of which nothing is there.
        extra: names of files that belong there beside PNGs of frames.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        size: tuple[int, int],
        missing: Missing,
        what: str = "video",
        extra: Collection[str] = (),
    ) -> None:
        self.folder, self.names, self.size = folder, names, size
        self.problems: list[Problem] = []
        self._missing, self._what = missing, what
        self._files = sorted(folder.iterdir()) if folder.is_dir() else []
        self._extra = extra
        self._there = self.found({path.stem: path for path in self._files if path.suffix.lower() == ".png"})

    def found(self, pngs: Mapping[str, Path]) -> dict[int, Path]:
        """Index of a frame -> its file, given all PNGs by name without suffix."""
        return {t: pngs[name] for t, name in enumerate(self.names) if name in pngs}

    def path(self, t: int) -> Path | None:
        """The file of frame t, or None."""
        return self._there.get(t)

    def missing(self, frames: Collection[int], cure: str = PREDICT) -> None:
        """Report what is not there of these frames; where none of the video's frames is there, that is one problem.

        A single frame is named by its file.
        """
        absent = sorted(t for t in frames if t not in self._there)
        if not absent or self._missing == "empty":
            return
        pngs = [path.name for path in self._files if path.suffix.lower() == ".png"]
        if self._there or (len(absent) == 1 and not pngs):
            for t in absent:
                self._problem(self.folder / f"{self.names[t]}.png", "this prediction is missing", cure)
            return
        reason = f"no prediction of this {self._what} ({len(absent)} frames wanted)"
        if pngs:
            reason = f"no file has the name of a frame: wanted {self.names[absent[0]]}.png, found {pngs[0]}"
            cure = "name predictions as the frames are named"
        self._problem(self.folder, reason, cure)

    def extras(self) -> list[Problem]:
        """Notes of what lies here and belongs to no frame; none where all files are misnamed, which `missing` tells."""
        if not self._there and self._missing == "error":
            return []
        used = set(self._there.values())
        strange = [path for path in self._files if path not in used and path.name not in self._extra]
        return notes(strange, f"no frame of the {self._what} has this name; it is not read")

    def pixels(self, t: int, modes: Collection[str] = LABELS) -> np.ndarray | None:
        """What the PNG of frame t holds, [H, W]; zeros for a missing frame, None for one with a problem."""
        path = self.path(t)
        if path is None:
            return np.zeros(self.size, np.uint8) if self._missing == "empty" else None
        try:
            return read_png(path, self.size, modes)
        except ValueError as error:
            reason, _, cure = str(error).partition("; ")
            self._problem(path, reason, cure)
            return None

    def _problem(self, path: Path, reason: str, cure: str) -> None:
        self.problems.append(Problem(str(path), "", "", reason, cure))


def notes(paths: Iterable[Path], reason: str) -> list[Problem]:
    """A note on each path that is not hidden."""
    return [Problem(str(path), "", "", reason, "", "note") for path in paths if not path.name.startswith(".")]


def strange_folders(folder: Path, known: Collection[str], what: str) -> list[Problem]:
    """Notes on folders that are not `known`, and on PNGs, which belong deeper."""
    if not folder.is_dir():
        return []
    found = [p for p in sorted(folder.iterdir()) if p.name not in known and (p.is_dir() or p.suffix.lower() == ".png")]
    return notes(found, f"no {what} has this name; it is not read")


def raise_problems(problems: Sequence[Problem], extra: Sequence[Problem], strict: bool) -> None:
    """Raise DataErrors of all of both where there is a problem, or, if `strict`, anything extra."""
    if problems or (strict and extra):
        raise DataErrors([*problems, *extra])


def read_png(path: Path, size: tuple[int, int], modes: Collection[str] = LABELS) -> np.ndarray:
    """A PNG's pixels, [H, W]: of a palette the numbers, not the colours.

    Raises:
        ValueError: "reason; cure" for a file that does not open or fit, or that is in none of Pillow's `modes`.
    """
    try:
        plain = _plain_pixels(path.read_bytes(), size)
        if plain is not None:
            return plain
        with Image.open(path) as image:
            mode, bands, shape = image.mode, len(image.getbands()), (image.height, image.width)
            pixels = np.asarray(image) if mode in modes and shape == size else None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError("this prediction cannot be read; predict it again") from error
    if shape != size:
        reason = f"prediction of {shape[0]}x{shape[1]}, the frame has {size[0]}x{size[1]}"
        raise ValueError(f"{reason}; resize predictions to the frame")
    if pixels is None:
        wanted = f"one channel, got {bands}" if bands > 1 else "a palette or grey PNG of 8 bits"
        raise ValueError(f"expected {wanted} (mode {mode}); write object numbers")
    return pixels


def _plain_pixels(content: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """Pixels of a PNG of 8 bits whose rows are stored unfiltered, as those of palettes are; None for any other file.

    Half the time of Pillow, which is left to say what is wrong with a file.
    """
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    if (height, width) != size or depth != 8 or colour not in (0, 3) or interlaced:
        return None
    place, streams = 33, []
    while content[place + 4 : place + 8] != b"IEND":
        if place + 12 > len(content):
            return None
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] == b"IDAT":
            streams.append(content[place + 8 : end])
        place = end + 4
    wanted, packed = height * (width + 1), b"".join(streams)
    if len(packed) > wanted:
        return None
    try:
        rows = zlib.decompress(packed, bufsize=wanted)  # at once: a buffer that grows costs half as much again
    except zlib.error:
        return None
    if len(rows) != wanted:
        return None
    table = np.frombuffer(rows, np.uint8).reshape(height, width + 1)
    return None if table[:, 0].any() else table[:, 1:]
