"""Scoring of videos by several processes on one machine; results keep the order of the videos.

Processes are started by a server without threads (`forkserver`; `spawn` where there is none): a fork of this process
could inherit a lock that is never released.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Generic, TypeVar

from vng.dataset import Video
from vng.errors import Problem, VngError
from vng.evaluation.predictions import raise_problems, unexpected_folders

MOST = 8  # processes at most, unless more are requested
WORTH = 4  # videos per process that justify starting it
PRELOADED = ["vng.evaluation.vos.scores", "vng.evaluation.narrative.scores"]
DIED = "a process was killed while it scored a video; nothing was written; if memory ran out, use fewer --processes"

Item = TypeVar("Item")
Result = TypeVar("Result")


Score = TypeVar("Score")


class WorkerDied(VngError):  # noqa: N818
    """A process was killed while it worked."""


def processes_for(requested: int | None, videos: int | None) -> int:
    """Number of processes to start, at most one per video.

    By default one for every four videos, but at most one per core, and 8.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if requested is None:
        requested = min(MOST, cores) if videos is None else min(MOST, cores, videos // WORTH)
    return max(1, requested if videos is None else min(requested, videos))


def known_length(items: Iterable[object]) -> int | None:
    """Number of items; None where they would have to be iterated to count them."""
    return len(items) if isinstance(items, Sequence) else None


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    processes: int = 1,
    progress: bool = False,
    total: int | None = None,
) -> Iterator[Result]:
    """The results of `function` for each item, in order; with one process it runs in this process.

    Items are read only a few ahead of the results, so that memory does not grow with their number.

    Args:
        function: called for each item; with several processes it, the items and the results are pickled.
        items: one per video.
        processes: number of processes.
        progress: whether to show a progress bar over results, out of `total`.

    Raises:
        WorkerDied: a process was killed. Otherwise any error that `function` raises.
    """
    if processes == 1:
        _keep_memory()
    results = map(function, items) if processes == 1 else _in_processes(function, items, processes)
    if not progress:
        return results
    from tqdm import tqdm

    return iter(tqdm(results, total=total, desc="evaluate", unit="video"))


def score_videos(
    score: Callable[[tuple[Video, bool]], Result],
    videos: Iterable[Video],
    problems: Sequence[Problem],
    video_ids: set[str],
    processes: int = 1,
    progress: bool = False,
) -> Iterator[Result]:
    """The results of `score` for each video, in order; it gets the video without its pixels, and whether to measure.

    Args:
        score: as the function of `in_order`.
        videos: the ground truth.
        problems: problems so far, extended by the caller: once there is one, the remaining videos are only checked.
        video_ids: filled with the ids of the videos.
        processes, progress: as `in_order`.
    """

    def tasks() -> Iterator[tuple[Video, bool]]:
        for video in videos:
            video_ids.add(video.video_id)
            yield replace(video, frames=None), not problems

    return in_order(score, tasks(), processes, progress, known_length(videos))


@dataclass
class VideoOutcome(Generic[Score]):
    """Outcome of one video: its part of a score, problems, and notes."""

    score: Score
    dataset: str = ""
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)


def collect(
    outcomes: Iterable[VideoOutcome[Score]], take: Callable[[Score], object], problems: list[Problem]
) -> tuple[str, list[Problem]]:
    """Collect the parts of all videos, in order.

    Args:
        outcomes: one per video.
        take: called with the part of each video.
        problems: extended with the problems of each video (`score_videos` checks it).

    Returns:
        The name of the dataset, and the notes of all videos.
    """
    dataset, notes = "", list[Problem]()
    for outcome in outcomes:
        dataset = outcome.dataset
        problems += outcome.problems
        notes += outcome.notes
        take(outcome.score)
    return dataset, notes


def gather(
    outcomes: Iterable[VideoOutcome[Score]],
    take: Callable[[Score], object],
    problems: list[Problem],
    results: Path,
    video_ids: Collection[str],
    strict: bool,
    unit: str = "video",
) -> tuple[str, tuple[Problem, ...]]:
    """As `collect`, for one folder of predictions; adds notes on folders that belong to none of the videos.

    Args:
        outcomes, take, problems: as `collect`.
        results: the predictions' folder.
        video_ids: ids of the videos; may still grow while videos are scored.
        strict: whether notes are errors.
        unit: the word for a video in notes.

    Raises:
        DataErrors: all problems.
    """
    dataset, notes = collect(outcomes, take, problems)
    notes += unexpected_folders(results, video_ids, unit)
    raise_problems(problems, notes, strict)
    return dataset, tuple(notes)


def _in_processes(function: Callable[[Item], Result], items: Iterable[Item], processes: int) -> Iterator[Result]:
    pending: deque[Future[Result]] = deque()
    earlier = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(processes, _context(), initializer=_begin)
    try:
        for item in items:
            with _without_main_module():
                pending.append(executor.submit(function, item))
            if len(pending) > 2 * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise WorkerDied(DIED) from error
    # Ctrl-C, or the caller stopped reading: end the workers instead of waiting for them
    except BaseException:
        for process in set(multiprocessing.active_children()) - earlier:
            process.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Keep new processes from running the caller's script again.

    `multiprocessing` imports the main module in every process. Workers need nothing of it, and a script without an
    `if __name__ == "__main__"` guard would start over in each of them.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    for name in hidden:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


def _context() -> multiprocessing.context.BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def prepare(requested: int | None) -> None:
    """Start the server of processes in the background where several processes are likely."""
    if processes_for(requested, None) > 1 and "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver

        _context()
        forkserver.ensure_running()


def _begin() -> None:
    """Set up a new process: Ctrl-C ends it silently (the parent prints the message), and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    import cv2

    cv2.setNumThreads(1)
    _keep_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _keep_memory() -> None:
    """Let the C library keep the memory that label maps free instead of returning it (saves a sixth of the time).

    glibc keeps twice the size of the largest block ever freed to the system; elsewhere this does nothing.
    """
    import numpy as np

    np.empty(16 << 20, np.uint8)  # freed at once, never written to


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
