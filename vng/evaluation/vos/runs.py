"""Result folders of video object segmentation: where runs lie, and label maps read with every fault kept.

    RESULTS/<video>/<frame>.png                          one run; a pixel holds the number of an object, 0 is background
    RESULTS/<video>/objects.json                         {object id: number}, where ids are no numbers of their own
    RESULTS/points-<n>/seed-<s>/<video>/<frame>.png      runs of the Point-VOS benchmark

Frames are found by name. PNGs are 8 bits, with a palette or grey.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vng.dataset import Video
from vng.errors import DataError
from vng.evaluation.predictions import FrameFolder, Missing, check_results
from vng.frames import inside
from vng.label_maps import MAX_NUMBER, NUMBERS_FILE, object_numbers


@dataclass(frozen=True)
class Run:
    """One complete set of predictions; `points` and `seed` where its folder names them."""

    folder: Path
    points: int | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """How tables call it."""
        if self.points is None:
            return self.folder.name
        return f"{self.points} points" + ("" if self.seed is None else f", seed {self.seed}")


def plain_run(results: Path, video_ids: Collection[str]) -> Run:
    """RESULTS as one run; DataError where it is no folder, or holds the runs of a Point-VOS benchmark."""
    check_results(results, "vng propagate")
    if counts := _numbered(results, "points", video_ids):
        reason = f"runs over numbers of points lie here ({counts[0][1].name})"
        raise DataError(results, reason=reason, cure="use --protocol point-vos, or give the folder of one run")
    return Run(results)


def find_runs(results: Path, video_ids: Collection[str]) -> tuple[Run, ...]:
    """The runs of a Point-VOS benchmark by (points, seed), or RESULTS as one run where it has no points-<n> folder."""
    counts = _numbered(results, "points", video_ids) if results.is_dir() else []
    if not counts:
        return (plain_run(results, video_ids),)
    runs: list[Run] = []
    for points, folder in counts:
        seeds = _numbered(folder, "seed", video_ids)
        runs += [Run(path, points, seed) for seed, path in seeds] or [Run(folder, points)]
    return tuple(runs)


def _numbered(folder: Path, word: str, video_ids: Collection[str]) -> list[tuple[int, Path]]:
    """Folders `<word>-<number>` by number, unless a video has that name."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(rf"{word}-(\d+)", path.name)
        if match and path.is_dir() and path.name not in video_ids:
            number = int(match.group(1))
            if number in found:
                reason = f"{path.name} and {found[number].name} are the same number"
                raise DataError(folder, reason=reason, cure="keep one of them")
            found[number] = path
    return sorted(found.items())


class VideoPredictions(FrameFolder):
    """One run's label maps of one video, read one frame at a time.

    Attributes:
        numbers: object id -> pixel value.
    """

    def __init__(self, run: Run, video: Video, missing: Missing) -> None:
        folder, size = inside(run.folder, video.video_id), (video.height, video.width)
        super().__init__(folder, video.frame_names, size, missing, extra=(NUMBERS_FILE,))
        self.numbers = self._read_numbers(object_numbers(video))
        self._lost = bool(self.problems)  # what numbers mean is not known: one line says so

    def read(self, t: int, allowed: Collection[int] | None) -> np.ndarray | None:
        """Object numbers of frame t, uint8 [H, W]; zeros for a missing frame, None for one with a problem.

        Args:
            t: index into the video's frame names.
            allowed: numbers a pixel may have beside 0; None allows all.
        """
        labels = self.pixels(t)
        if labels is None:
            return None
        labels = labels.astype(np.uint8, copy=False)
        if allowed is None or self._lost or set(range(1, int(labels.max(initial=0)) + 1)) <= set(allowed):
            return labels
        strange = [int(v) for v in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)) if v]
        strange = [v for v in strange if v not in allowed]
        if not strange:
            return labels
        known = ", ".join(map(str, sorted(allowed))) or "none"
        reason = f"pixels of the numbers {strange}, which no object has (known: {known})"
        self._problem(self.path(t) or self.folder, reason, "write object numbers, 0 for background")
        return None

    def _read_numbers(self, expected: dict[str, int]) -> dict[str, int]:
        path = self.folder / NUMBERS_FILE
        if not path.exists():
            return expected
        try:
            said = json.loads(path.read_bytes())
        except (OSError, ValueError):
            said = None
        if not isinstance(said, dict) or not all(type(n) is int and 1 <= n <= MAX_NUMBER for n in said.values()):
            self._problem(path, f"expected {{object id: number in 1..{MAX_NUMBER}}}", "predict the video again")
        elif len(set(said.values())) != len(said):
            self._problem(path, "two objects have one number", "predict the video again")
        elif set(said) != set(expected):
            strange = sorted(set(said) ^ set(expected))
            self._problem(
                path, f"other objects than the dataset's: {strange[0]!r} is in one of them only", "predict this dataset"
            )
        else:
            return {i: int(said[i]) for i in expected}
        return expected
