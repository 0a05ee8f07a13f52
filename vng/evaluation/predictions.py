"""Predicted frames, as PNGs or in a compact file: read one at a time, with all problems collected."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from vng.compact_results import SUFFIX, TrackResult, Unit, VideoResult, compact_path, read_compact
from vng.errors import DataError, DataErrors, Problem
from vng.frames import inside
from vng.label_maps import MODES, read_label_map
from vng.masks import RLE, area, decode, empty

Missing = Literal["error", "empty"]
PREDICT = "predict it, or use --missing empty"


def check_results(results: Path, command: str = "vng predict") -> None:
    """Raise DataError where the folder of all predictions does not exist; `command` is the one that writes it."""
    if not results.is_dir():
        raise DataError(results, reason="no such folder of predictions", cure=f"check --results, or run `{command}`")


class PredictedFrames:
    """The predicted frames of one video, or of one expression of it.

    Problems are added to `problems`, so that the caller can report all of them together.

    Args:
        place: the file or folder, for messages.
        names: names of the video's frames.
        size: height and width of its frames.
        missing: whether a missing frame is a problem or counts as empty.
        unit: the word for the video or expression in messages.

    Attributes:
        at_once: how many frames are best scored together.
    """

    at_once = 4

    def __init__(self, place: Path, names: Sequence[str], size: tuple[int, int], missing: Missing, unit: str) -> None:
        self.place, self.names, self.size = place, names, size
        self.problems: list[Problem] = []
        self._missing, self._unit = missing, unit

    def missing(self, frames: Collection[int], cure: str = PREDICT) -> None:
        """Add problems for those of these frames that are missing; a single one where the video has no frame at all."""
        raise NotImplementedError

    def extras(self) -> list[Problem]:
        """Notes on predictions that belong to no frame."""
        raise NotImplementedError

    def pixels(self, t: int, modes: Collection[str] = MODES) -> np.ndarray | None:
        """The pixels [H, W] of frame t; zeros for a missing frame, None for one with a problem."""
        raise NotImplementedError

    def mask(self, t: int, modes: Collection[str] = MODES) -> np.ndarray | RLE | None:
        """As `pixels`, where only zero and non-zero matter; an RLE where the file has one."""
        return self.pixels(t, modes)

    def path(self, t: int) -> Path | None:
        """The file that holds frame t alone, or None."""
        return None

    def problem(self, path: Path, reason: str, cure: str, record: str = "") -> None:
        """Add a problem."""
        self.problems.append(Problem(str(path), record=record, reason=reason, cure=cure))


class FrameFolder(PredictedFrames):
    """Frames as PNGs of one folder, which may not exist; `extra` are names of further files that belong in it."""

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        size: tuple[int, int],
        missing: Missing,
        unit: str = "video",
        extra: Collection[str] = (),
    ) -> None:
        super().__init__(folder, names, size, missing, unit)
        self._files = sorted(folder.iterdir()) if folder.is_dir() else []
        self._extra = extra
        self._paths = self.paths_by_frame({path.stem: path for path in self._files if path.suffix.lower() == ".png"})

    def paths_by_frame(self, pngs: Mapping[str, Path]) -> dict[int, Path]:
        """Frame index -> its file, from all PNGs by name without suffix."""
        return {t: pngs[name] for t, name in enumerate(self.names) if name in pngs}

    def path(self, t: int) -> Path | None:
        return self._paths.get(t)

    def missing(self, frames: Collection[int], cure: str = PREDICT) -> None:
        missing_frames = sorted(t for t in frames if t not in self._paths)
        if not missing_frames or self._missing == "empty":
            return
        pngs = [path.name for path in self._files if path.suffix.lower() == ".png"]
        if self._paths or (len(missing_frames) == 1 and not pngs):
            for t in missing_frames:  # a single missing frame is named by its file
                self.problem(self.place / f"{self.names[t]}.png", "this prediction is missing", cure)
            return
        reason = f"no prediction of this {self._unit} ({len(missing_frames)} frames expected)"
        if pngs:
            reason = f"no file has the name of a frame: expected {self.names[missing_frames[0]]}.png, got {pngs[0]}"
            cure = "name predictions after the frames"
        self.problem(self.place, reason, cure)

    def extras(self) -> list[Problem]:
        """Notes on files that belong to no frame; none where all files are misnamed, which `missing` reports."""
        if not self._paths and self._missing == "error":
            return []
        used = set(self._paths.values())
        unexpected = [path for path in self._files if path not in used and path.name not in self._extra]
        return notes(unexpected, f"no frame of the {self._unit} has this name; skipped")

    def pixels(self, t: int, modes: Collection[str] = MODES) -> np.ndarray | None:
        path = self.path(t)
        if path is None:
            return np.zeros(self.size, np.uint8) if self._missing == "empty" else None
        try:
            return read_label_map(path, self.size, modes, noun="prediction", cure="predict it again")
        except DataError as error:
            self.problems.append(error.problem)
            return None


class CompactFrames(PredictedFrames):
    """Frames of a compact file.

    Args:
        place, names, size, missing, unit: see `PredictedFrames`.
        result: the file's content.
        numbers: the tracks that belong to the prediction: name -> value of its pixels.
        record: what messages call the prediction in the file.
    """

    at_once = 24  # masks stay encoded

    def __init__(
        self,
        place: Path,
        names: Sequence[str],
        size: tuple[int, int],
        missing: Missing,
        unit: str,
        *,
        result: VideoResult,
        numbers: Mapping[str, int],
        record: str = "",
    ) -> None:
        super().__init__(place, names, size, missing, unit)
        self._record = record
        self._values = [numbers[name] for name in result.tracks if name in numbers]
        tracks = [track for name, track in result.tracks.items() if name in numbers]
        self._unexpected = [name for name in result.frame_names if name not in set(names)]
        if result.size != size:
            reason = f"masks of {result.size[0]}x{result.size[1]}, the video has {size[0]}x{size[1]}"
            self.problem(place, reason, "predict the video again", record)
            tracks = []
        index = {name: t for t, name in enumerate(result.frame_names)}
        if result.unit == "expression" and not tracks:
            index = {}
        self._masks = {t: _masks_of(tracks, index[name]) for t, name in enumerate(names) if name in index}

    def missing(self, frames: Collection[int], cure: str = PREDICT) -> None:
        if self._missing == "empty" or self.problems:
            return
        absent = sorted(t for t in frames if not self._has(t))
        if len(absent) == len(frames) and len(absent) > 1:
            reason = f"no prediction of this {self._unit} ({len(absent)} frames expected)"
            self.problem(self.place, reason, cure, self._record)
            return
        for t in absent:
            record = " ".join(part for part in (self._record, f"frame {self.names[t]}") if part)
            self.problem(self.place, "this prediction is missing", cure, record)

    def extras(self) -> list[Problem]:
        if not self._unexpected:
            return []
        reason = f"frame {self._unexpected[0]!r} is not in the video ({len(self._unexpected)} such frames); skipped"
        return [Problem(str(self.place), record=self._record, reason=reason, kind="note")]

    def pixels(self, t: int, modes: Collection[str] = MODES) -> np.ndarray | None:
        if not self._has(t):
            return np.zeros(self.size, np.uint8) if self._missing == "empty" and not self.problems else None
        pixels, filled = np.zeros(self.size, np.uint8), 0
        for value, rle in zip(self._values, self._masks[t], strict=True):
            if rle is not None and area(rle):
                pixels[decode(rle)] = value
                filled += area(rle)
        if filled != np.count_nonzero(pixels):
            self.problem(self.place, "two objects share pixels", "write disjoint masks", f"frame {self.names[t]}")
            return None
        return pixels

    def mask(self, t: int, modes: Collection[str] = MODES) -> np.ndarray | RLE | None:
        if self._has(t) and len(self._values) == 1:
            return self._masks[t][0]
        if not self._has(t) and self._missing == "empty" and not self.problems:
            return empty(*self.size)
        return self.pixels(t, modes)

    def _has(self, t: int) -> bool:
        """Whether frame t was predicted; a video without objects has a prediction without a pixel."""
        return t in self._masks and (not self._masks[t] or any(rle is not None for rle in self._masks[t]))


def _masks_of(tracks: Sequence[TrackResult], t: int) -> list[RLE | None]:
    return [track.masks[t] for track in tracks]


def compact_result(folder: Path, video_id: str, unit: Unit) -> VideoResult | None:
    """The content of a video's compact file; None where there is none. The files read last are kept.

    Raises:
        DataError: a damaged file, one of something else, or PNGs beside it.
    """
    path = compact_path(folder, video_id)
    if not path.is_file():
        return None
    if inside(folder, video_id).is_dir():
        raise DataError(path, reason="beside it lies a folder of PNGs of the same video", cure="keep one of the two")
    state = path.stat()
    result = _kept(path, state.st_mtime_ns, state.st_size)
    if result.unit != unit:
        cure = f"give results of {'`vng predict`' if unit == 'expression' else '`vng propagate`'}"
        raise DataError(path, reason=f"a file of {result.unit}s, expected one of {unit}s", cure=cure)
    return result


@lru_cache(maxsize=2)
def _kept(path: Path, _changed: int, _bytes: int) -> VideoResult:
    return read_compact(path)


def notes(paths: Iterable[Path], reason: str) -> list[Problem]:
    """One note for each path that is not hidden."""
    return [Problem(str(path), reason=reason, kind="note") for path in paths if not path.name.startswith(".")]


def unexpected_folders(folder: Path, expected: Collection[str], unit: str) -> list[Problem]:
    """Notes on folders and compact files that are not `expected`, and on PNGs, which belong in one of the folders."""
    if not folder.is_dir():
        return []
    paths = [path for path in sorted(folder.iterdir()) if path.name not in expected]
    unexpected = [
        path
        for path in paths
        if path.is_dir()
        or path.suffix.lower() == ".png"
        or (path.suffix == SUFFIX and path.name.removesuffix(SUFFIX) not in expected)
    ]
    return notes(unexpected, f"no {unit} has this name; skipped")


def raise_problems(problems: Sequence[Problem], extra: Sequence[Problem], strict: bool) -> None:
    """Raise DataErrors of both lists where there is a problem or, with `strict`, anything extra."""
    if problems or (strict and extra):
        raise DataErrors([*problems, *extra])
