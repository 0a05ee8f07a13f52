"""Result folders of video object segmentation: finding runs, and reading label maps with all problems collected.

    RESULTS/<video>.parquet                              one run: the masks of all objects (`vng/compact_results.py`)
    RESULTS/<video>/<frame>.png                          or a PNG a frame: object numbers, 0 is background
    RESULTS/<video>/objects.json                         {object id: number}, where ids are not numbers in 1..254
    RESULTS/points-<n>/seed-<s>/<video>/<frame>.png      runs of the Point-VOS benchmark

Frames are matched by name. PNGs have 8 bits, with a palette or grey.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vng.compact_results import compact_path
from vng.dataset import Video
from vng.errors import DataError, Problem
from vng.evaluation.predictions import (
    PREDICT,
    CompactFrames,
    FrameFolder,
    Missing,
    PredictedFrames,
    check_results,
    compact_result,
)
from vng.frames import inside
from vng.label_maps import MAX_NUMBER, NUMBERS_FILE, object_numbers
from vng.masks import area
from vng.text_files import load_json


@dataclass(frozen=True)
class Run:
    """One complete set of predictions; `points` and `seed` where its folder is named after them."""

    folder: Path
    points: int | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """Its name in tables."""
        if self.points is None:
            return self.folder.name
        return f"{self.points} points" + ("" if self.seed is None else f", seed {self.seed}")


def plain_run(results: Path, video_ids: Collection[str]) -> Run:
    """RESULTS as one run; raises DataError where it is not a folder, or has the runs of a Point-VOS benchmark."""
    check_results(results, "vng propagate")
    if counts := _numbered(results, "points", video_ids):
        reason = f"this folder has runs over numbers of points ({counts[0][1].name})"
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
    folders: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(rf"{word}-(\d+)", path.name)
        if match and path.is_dir() and path.name not in video_ids:
            number = int(match.group(1))
            if number in folders:
                reason = f"{path.name} and {folders[number].name} have the same number"
                raise DataError(folder, reason=reason, cure="keep one of them")
            folders[number] = path
    return sorted(folders.items())


class VideoPredictions:
    """Label maps of one video in one run, read one frame at a time.

    Attributes:
        numbers: object id -> pixel value.
    """

    def __init__(self, run: Run, video: Video, missing: Missing) -> None:
        folder, self.size = inside(run.folder, video.video_id), (video.height, video.width)
        self.numbers = object_numbers(video)
        self._numbers_unknown = False  # reported as one problem
        result = compact_result(run.folder, video.video_id, "object")
        self._frames: PredictedFrames
        if result is None:
            self._frames = FrameFolder(folder, video.frame_names, self.size, missing, extra=(NUMBERS_FILE,))
            self.numbers = self._read_numbers(folder / NUMBERS_FILE, self.numbers)
            self._numbers_unknown = bool(self.problems)
        else:
            path = compact_path(run.folder, video.video_id)
            self._frames = CompactFrames(
                path, video.frame_names, self.size, missing, "video", result=result, numbers=self.numbers
            )
            for name, track in result.tracks.items():
                if name not in self.numbers and any(rle is not None and area(rle) for rle in track.masks):
                    self._frames.problem(path, "the dataset has no such object", "predict this dataset", repr(name))

    @property
    def problems(self) -> list[Problem]:
        """Problems so far."""
        return self._frames.problems

    @property
    def place(self) -> Path:
        """The folder of the video, or its compact file."""
        return self._frames.place

    def missing(self, frames: Collection[int], cure: str = PREDICT) -> None:
        """See `PredictedFrames`."""
        self._frames.missing(frames, cure)

    def extras(self) -> list[Problem]:
        """See `PredictedFrames`."""
        return self._frames.extras()

    def path(self, t: int) -> Path | None:
        """The file that holds frame t alone, or None."""
        return self._frames.path(t)

    def read(self, t: int, allowed: Collection[int] | None) -> np.ndarray | None:
        """Object numbers of frame t, uint8 [H, W]; zeros for a missing frame, None for one with a problem.

        Args:
            t: index into the video's frame names.
            allowed: pixel values allowed besides 0; None allows all.
        """
        labels = self._frames.pixels(t)
        if labels is None:
            return None
        labels = labels.astype(np.uint8, copy=False)
        if allowed is None or self._numbers_unknown or set(range(1, int(labels.max(initial=0)) + 1)) <= set(allowed):
            return labels
        values = [int(v) for v in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)) if v]
        unexpected = [v for v in values if v not in allowed]
        if not unexpected:
            return labels
        numbers = ", ".join(map(str, sorted(allowed))) or "none"
        reason = f"pixels with the numbers {unexpected}, which no object has (objects: {numbers})"
        self._frames.problem(self.path(t) or self.place, reason, "write object numbers, 0 for background")
        return None

    def _read_numbers(self, path: Path, expected: dict[str, int]) -> dict[str, int]:
        if not path.exists():
            return expected
        try:
            numbers = load_json(path)
        except DataError:
            numbers = None
        if not isinstance(numbers, dict) or not all(type(n) is int and 1 <= n <= MAX_NUMBER for n in numbers.values()):
            self._frames.problem(path, f"expected {{object id: number in 1..{MAX_NUMBER}}}", "predict the video again")
        elif len(set(numbers.values())) != len(numbers):
            self._frames.problem(path, "two objects have the same number", "predict the video again")
        elif set(numbers) != set(expected):
            differing = sorted(set(numbers) ^ set(expected))
            reason = f"objects differ from the dataset's: {differing[0]!r} is in only one of them"
            self._frames.problem(path, reason, "predict this dataset")
        else:
            return {i: int(numbers[i]) for i in expected}
        return expected
