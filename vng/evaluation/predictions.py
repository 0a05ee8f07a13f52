"""A folder of predicted frames, one PNG a frame: read one at a time, with every fault kept."""

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
    """DataError where the folder of all predictions is not there; `command` makes such."""
    if not results.is_dir():
        raise DataError(results, reason="no such folder of predictions", cure=f"check --results, or run `{command}`")


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

    def pixels(self, t: int, modes: Collection[str] = MODES) -> np.ndarray | None:
        """What the PNG of frame t holds, [H, W]; zeros for a missing frame, None for one with a problem."""
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
    """A note on each path that is not hidden."""
    return [Problem(str(path), reason=reason, kind="note") for path in paths if not path.name.startswith(".")]


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
