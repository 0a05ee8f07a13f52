"""Folders of predicted frames, one PNG per frame: read one at a time, with all problems collected."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from vng.errors import DataError, DataErrors, Problem
from vng.label_maps import MODES, read_label_map

Missing = Literal["error", "empty"]
PREDICT = "predict it, or use --missing empty"


def check_results(results: Path, command: str = "vng predict") -> None:
    """Raise DataError where the folder of all predictions does not exist; `command` is the one that writes it."""
    if not results.is_dir():
        raise DataError(results, reason="no such folder of predictions", cure=f"check --results, or run `{command}`")


class FrameFolder:
    """The PNGs of one video, or of one expression of it.

    Problems are added to `problems`, so that the caller can report all of them together.

    Args:
        folder: may not exist.
        names: names of the video's frames.
        size: height and width of its frames.
        missing: whether a missing frame is a problem or counts as empty.
        unit: the word for the video or expression in messages.
        extra: names of further files that belong in the folder.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        size: tuple[int, int],
        missing: Missing,
        unit: str = "video",
        extra: Collection[str] = (),
    ) -> None:
        self.folder, self.names, self.size = folder, names, size
        self.problems: list[Problem] = []
        self._missing, self._unit = missing, unit
        self._files = sorted(folder.iterdir()) if folder.is_dir() else []
        self._extra = extra
        self._paths = self.paths_by_frame({path.stem: path for path in self._files if path.suffix.lower() == ".png"})

    def paths_by_frame(self, pngs: Mapping[str, Path]) -> dict[int, Path]:
        """Frame index -> its file, from all PNGs by name without suffix."""
        return {t: pngs[name] for t, name in enumerate(self.names) if name in pngs}

    def path(self, t: int) -> Path | None:
        """The file of frame t, or None."""
        return self._paths.get(t)

    def missing(self, frames: Collection[int], cure: str = PREDICT) -> None:
        """Add problems for those of these frames that are missing; a single one where the video has no frame at all.

        A single missing frame is named by its file.
        """
        missing_frames = sorted(t for t in frames if t not in self._paths)
        if not missing_frames or self._missing == "empty":
            return
        pngs = [path.name for path in self._files if path.suffix.lower() == ".png"]
        if self._paths or (len(missing_frames) == 1 and not pngs):
            for t in missing_frames:
                self._problem(self.folder / f"{self.names[t]}.png", "this prediction is missing", cure)
            return
        reason = f"no prediction of this {self._unit} ({len(missing_frames)} frames expected)"
        if pngs:
            reason = f"no file has the name of a frame: expected {self.names[missing_frames[0]]}.png, got {pngs[0]}"
            cure = "name predictions after the frames"
        self._problem(self.folder, reason, cure)

    def extras(self) -> list[Problem]:
        """Notes on files that belong to no frame; none where all files are misnamed, which `missing` reports."""
        if not self._paths and self._missing == "error":
            return []
        used = set(self._paths.values())
        unexpected = [path for path in self._files if path not in used and path.name not in self._extra]
        return notes(unexpected, f"no frame of the {self._unit} has this name; skipped")

    def pixels(self, t: int, modes: Collection[str] = MODES) -> np.ndarray | None:
        """The pixels [H, W] of frame t's PNG; zeros for a missing frame, None for one with a problem."""
        path = self.path(t)
        if path is None:
            return np.zeros(self.size, np.uint8) if self._missing == "empty" else None
        try:
            return read_label_map(path, self.size, modes, noun="prediction", cure="predict it again")
        except DataError as error:
            self.problems.append(error.problem)
            return None

    def _problem(self, path: Path, reason: str, cure: str) -> None:
        self.problems.append(Problem(str(path), reason=reason, cure=cure))


def notes(paths: Iterable[Path], reason: str) -> list[Problem]:
    """One note for each path that is not hidden."""
    return [Problem(str(path), reason=reason, kind="note") for path in paths if not path.name.startswith(".")]


def unexpected_folders(folder: Path, expected: Collection[str], unit: str) -> list[Problem]:
    """Notes on folders that are not `expected`, and on PNGs, which belong in one of them."""
    if not folder.is_dir():
        return []
    paths = [path for path in sorted(folder.iterdir()) if path.name not in expected]
    unexpected = [path for path in paths if path.is_dir() or path.suffix.lower() == ".png"]
    return notes(unexpected, f"no {unit} has this name; skipped")


def raise_problems(problems: Sequence[Problem], extra: Sequence[Problem], strict: bool) -> None:
    """Raise DataErrors of both lists where there is a problem or, with `strict`, anything extra."""
    if problems or (strict and extra):
        raise DataErrors([*problems, *extra])
