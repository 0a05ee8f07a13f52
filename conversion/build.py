"""Run a conversion: video by video, in parallel processes, resumable, skipping bad records.

Annotation files are read once into a spool. Every video is one part of the dataset's writer, so that processes killed
at any moment can resume with identical output. Data that cannot be used is reported as a `Problem` in `problems.jsonl`.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from conversion.options import BuildOptions, Engines
from conversion.spool import Spool, SpoolWriter, is_intact, make_spool
from vng.dataset import FRAME_INDEX, Video
from vng.dataset_writer import DatasetWriter
from vng.errors import PROBLEMS_FILE, DataError, Problem, read_problems
from vng.frames import evenly_spaced
from vng.manifest import content_hash
from vng.processes import Processes, current_processes, limited_threads

SPOOL = "annotations.sqlite"
NARRATIVES, POINTS = "narratives", "points"  # kinds of records in a spool
# A full disk, too many open files, no memory: every further video would fail, too.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# Videos that a dry run converts: so many within the time, at least a few, and more where none can be converted.
SAMPLES, LEAST_TRIED, MOST_TRIED, TRIAL_SECONDS = 16, 5, 24, 20.0


Figures = dict[str, float]


@dataclass(frozen=True)
class BuildResult:
    """Totals of the dataset, the problems found, and figures of a report for people, where there is one."""

    totals: dict[str, int]
    problems: list[Problem]
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Estimated work of a conversion, from some of its videos, which were converted on trial."""

    videos: int
    records: int  # records of points or narratives in the annotations
    done: int  # videos that an earlier run has converted
    problems: tuple[Problem, ...]  # found while reading
    tried: int  # videos converted on trial
    converted: int  # of these, the ones that gave rows
    trial_problems: tuple[Problem, ...]  # found in these
    start_seconds: float  # reading the annotations, loading the engines
    seconds_per_video: float | None  # on this machine, one process; None where nothing is left to do
    bytes_per_video: float | None

    @property
    def nothing_to_convert(self) -> bool:
        """Whether there is no video, or none of those tried could be converted."""
        return not self.videos or (self.tried > 0 and not self.converted)

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the remaining time in seconds and size in bytes."""
        remaining = self.videos - self.done
        seconds = None if self.seconds_per_video is None else self.start_seconds + remaining * self.seconds_per_video
        size = None if self.bytes_per_video is None else remaining * self.bytes_per_video
        counts = {"problems": len(self.problems), "trial_problems": [str(p) for p in self.trial_problems]}
        return asdict(self) | counts | {"seconds_left": seconds, "bytes_left": size}


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """One conversion: its inputs, how they are read, and how the records of one video become rows."""

    kind: str
    title: str
    inputs: dict[str, Path]
    options: BuildOptions
    read: Callable[[SpoolWriter], None]
    make: Callable[[Spool, str, list[Problem]], list[Video]]
    nouns: str = ""
    having: str | None = None  # convert only videos that also have a record of this kind
    with_frames: bool = True  # whether rows carry pixels
    engines: Engines | None = None  # make the masks; None where masks come from the annotations
    # Lines of `decisions.jsonl` of one video, and a report written from a finished dataset, which returns its figures.
    explain: Callable[[Spool, str], list[dict[str, Any]]] | None = None
    report: Callable[[Path], Figures] | None = None
    more: dict[str, Any] = field(default_factory=dict)  # settings specific to this kind

    def settings(self) -> dict[str, Any]:
        """Everything but the frames that the result depends on, for the manifest; inputs by content, not by path."""
        hashes = {name: content_hash(path) for name, path in self.inputs.items()}
        settings: dict[str, Any] = {
            "conversion": self.kind,
            "inputs": hashes,
            "nouns": self.nouns,
            "with_frames": self.with_frames,
        }
        return settings | self.more | self.options.as_settings(self.engines)

    def videos(self, spool: Spool) -> Iterator[str]:
        """The videos to convert, in order."""
        return spool.videos(NARRATIVES, self.having, self.options.limit)


def run_conversion(conversion: Conversion, out: Path) -> BuildResult:
    """Run a conversion, resume an interrupted one, or repair a finished one whose shards were damaged.

    Under `torchrun` or `accelerate launch` every process calls this and takes its share of the videos; the output is
    identical for any number of processes.

    Raises:
        DataError: nothing could be converted, or `out` holds other files.
    """
    processes = current_processes()
    writer = DatasetWriter(out, conversion.settings(), processes=processes)
    with limited_threads(conversion.options.threads):
        if writer.complete:
            processes.on_main(lambda: _repair(conversion, writer))
        else:
            _convert(conversion, writer, processes)
    figures: Figures = {}
    if (report := conversion.report) is not None:
        processes.on_main(lambda: figures.update(report(out)))
    return BuildResult(writer.totals, read_problems(out / PROBLEMS_FILE), figures)


def _convert(conversion: Conversion, writer: DatasetWriter, processes: Processes) -> None:
    spool_path = writer.partial / SPOOL

    def read() -> None:
        if not is_intact(spool_path):
            make_spool(spool_path, conversion.read)

    processes.on_main(read)
    options = conversion.options
    with Spool(spool_path) as spool:
        if processes.is_main:
            writer.write(0, [], spool.problems())
        names = list(conversion.videos(spool))

        def work(place: int) -> None:
            if not writer.done(place + 1):
                rows, problems = _rows(conversion, spool, names[place], writer.out)
                writer.write(place + 1, rows, problems, _decisions(conversion, spool, names[place], problems))

        # Faulty data of a video is among its rows' problems; an error here concerns all of them.
        processes.each(len(names), work, "convert", options.progress, keep_going=False)
    masks = "" if conversion.engines is None else f"; masks by {options.segmenter}"
    description = f"Made by `vng convert {conversion.kind}`{masks}."
    writer.finish(1 + len(names), conversion.title, description)


def _rows(conversion: Conversion, spool: Spool, name: str, out: Path) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Rows of one video, and the problems found in it."""
    problems: list[Problem] = []
    rows = []
    embed = not conversion.options.link_frames
    try:
        for video in conversion.make(spool, name, problems):
            path = ""
            if not embed and video.frames is not None:
                path = os.path.relpath(Path(video.frames.source).resolve(), out.resolve())
                video.frames.write_index(out / FRAME_INDEX)
            if video.frames is not None:
                problems += video.frames.notes
            rows.append(video.as_row(embed=embed, frames_path=path))
    except DataError as error:
        problems.append(error.problem)
        rows = []
    except OSError as error:  # of this video's own files: a folder in place of a file, no permission
        if error.errno in _OF_THE_MACHINE:
            raise
        reason, cure = f"cannot be read ({error.strerror or error})", "check this file"
        problems.append(Problem(str(error.filename or name), record=name, reason=reason, cure=cure))
        rows = []
    return rows, problems


def _decisions(conversion: Conversion, spool: Spool, name: str, problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Why the objects of a video became what they are; [] where the video could not be converted."""
    if conversion.explain is None or any(problem.kind == "error" for problem in problems):
        return []
    return conversion.explain(spool, name)


def _repair(conversion: Conversion, writer: DatasetWriter) -> None:
    """Convert the videos of damaged shards again; where no shard is damaged, the annotations are not read."""
    broken = list(writer.broken_shards(progress=conversion.options.progress))
    if not broken:
        return
    with tempfile.TemporaryDirectory() as scratch, _scratch_spool(conversion, Path(scratch)) as spool:
        for shard in broken:
            bar = tqdm(shard.parts, desc=f"repair {shard.file}", unit="video", disable=not conversion.options.progress)
            names = {i: name for i, name in enumerate(conversion.videos(spool), 1) if i in shard.parts}
            writer.mend(shard, ((i, *_rows(conversion, spool, names[i], writer.out)) for i in bar))


@contextmanager
def _scratch_spool(conversion: Conversion, folder: Path) -> Iterator[Spool]:
    make_spool(folder / SPOOL, conversion.read)
    with Spool(folder / SPOOL) as spool:
        yield spool


def estimate_conversion(conversion: Conversion, out: Path) -> Estimate:
    """Estimate the work and time of `run_conversion`: converts some videos and discards them.

    Writes nothing to `out`. Raises DataError as `run_conversion` does.
    """
    writer = DatasetWriter(out, conversion.settings(), read_only=True)
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as scratch,
        _scratch_spool(conversion, Path(scratch)) as spool,
        limited_threads(conversion.options.threads),
    ):
        read_seconds = time.perf_counter() - start
        names = list(conversion.videos(spool))
        broken = [shard.parts for shard in writer.broken_shards()] if writer.complete else []
        remaining = [
            name
            for i, name in enumerate(names, 1)
            if (any(i in parts for parts in broken) if writer.complete else not writer.done(i))
        ]
        trial = _Trial(conversion, spool, Path(scratch) / "out")
        trial.run(remaining)
        return Estimate(
            videos=len(names),
            records=spool.count(conversion.having or NARRATIVES),
            done=len(names) - len(remaining),
            problems=tuple(spool.problems()),
            tried=trial.tried,
            converted=trial.converted,
            trial_problems=tuple(trial.problems),
            start_seconds=read_seconds + trial.start_seconds,
            seconds_per_video=float(np.mean(trial.seconds)) + trial.join_seconds if trial.seconds else None,
            bytes_per_video=float(np.mean(trial.sizes)) if trial.sizes else None,
        )


class _Trial:
    """Some videos of a conversion, converted into a scratch folder and timed.

    The first one loads modules and engines: its extra time counts once, not for every video.
    """

    def __init__(self, conversion: Conversion, spool: Spool, out: Path) -> None:
        self._conversion, self._spool, self._out = conversion, spool, out
        self.tried = self.converted = 0
        self.problems: list[Problem] = []
        self.seconds: list[float] = []
        self.sizes: list[int] = []
        self.start_seconds = self.join_seconds = 0.0

    def run(self, names: Sequence[str]) -> None:
        """Convert videos spread over all, until the time is up; more of them where none can be converted."""
        writer = DatasetWriter(self._out, {})
        spread = evenly_spaced(range(len(names)), SAMPLES)
        more = evenly_spaced(range(len(names)), MOST_TRIED)
        # Shuffled, so that those within the time are spread, too.
        order = [*np.random.default_rng(0).permutation(spread), *sorted({*more} - {*spread})]
        first, began = 0.0, time.perf_counter()
        for position in order:
            late = time.perf_counter() - began > TRIAL_SECONDS and self.tried >= LEAST_TRIED
            if self.converted and (late or self.tried >= len(spread)):
                break
            start = time.perf_counter()
            rows, problems = _rows(self._conversion, self._spool, names[position], self._out)
            writer.write(self.tried, rows, problems)
            seconds = time.perf_counter() - start
            self.problems += problems
            self.converted += bool(rows)
            if self.tried == 0:
                first = seconds
            else:
                self.seconds.append(seconds)
            self.sizes.append(writer.size(self.tried))
            self.tried += 1
        if self.tried and not self.seconds:  # of one video, the start cannot be told from the work
            self.seconds.append(first)
        self.start_seconds = max(0.0, first - float(np.mean(self.seconds or [first])))
        if self.converted:
            start = time.perf_counter()
            writer.finish(self.tried, "trial", "")
            self.join_seconds = (time.perf_counter() - start) / self.tried
