"""Videos scored by several processes on one machine; results come in the order of the videos, whatever the number.

Processes are started by a server without threads (`forkserver`; `spawn` where there is none): a fork of this process could
inherit a lock that nobody will ever open.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Generic, TypeVar

from vng.dataset import Video
from vng.errors import Problem, VngError
from vng.evaluation.predictions import raise_problems, strange_folders

MOST = 8  # processes that are started unasked
WORTH = 4  # videos for which another process is worth its start
PRELOADED = ["vng.evaluation.vos.scores", "vng.evaluation.narrative.scores"]
DIED = "a process was killed while it scored a video; nothing was written; was memory short? try fewer --processes"

Item = TypeVar("Item")
Result = TypeVar("Result")


Score = TypeVar("Score")


class WorkerDied(VngError):  # noqa: N818
    """A process ended in the middle of its work."""


def processes_for(asked: int | None, videos: int | None) -> int:
    """How many to start: as many as asked, else one for four videos, at most one a core and 8; never more than videos."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if asked is None:
        asked = min(MOST, cores) if videos is None else min(MOST, cores, videos // WORTH)
    return max(1, asked if videos is None else min(asked, videos))


def known_length(items: Iterable[object]) -> int | None:
    """Number of items, None where only going through them tells."""
    return len(items) if isinstance(items, Sequence) else None


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    processes: int = 1,
    progress: bool = False,
    total: int | None = None,
) -> Iterator[Result]:
    """`function` of each item, in order; one process is this one.

    Items are asked for when they are wanted, a few ahead of the results, so that memory does not grow with their number.

    Args:
        function: what each process calls; with several processes it, the items and the results are pickled.
        items: one a video.
        processes: how many.
        progress: a bar that counts results, of `total`.

    Raises:
        WorkerDied: a process was killed. Otherwise what `function` raises.
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
    known: set[str],
    processes: int = 1,
    progress: bool = False,
) -> Iterator[Result]:
    """`score` of each video, in order; it gets the video without its pixels, and whether to measure or only to read.

    Args:
        score: as the function of `in_order`.
        videos: the truth.
        problems: what is wrong so far, which the caller adds to: once it holds something, the rest is only read.
        known: takes the ids of the videos.
        processes, progress: as `in_order`.
    """

    def tasks() -> Iterator[tuple[Video, bool]]:
        for video in videos:
            known.add(video.video_id)
            yield replace(video, frames=None), not problems

    return in_order(score, tasks(), processes, progress, known_length(videos))


@dataclass
class VideoOutcome(Generic[Score]):
    """What came of one video: its part of a score, and what is wrong or strange."""

    score: Score
    dataset: str = ""
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)


def collect(
    found: Iterable[VideoOutcome[Score]], take: Callable[[Score], object], problems: list[Problem]
) -> tuple[str, list[Problem]]:
    """Take the parts of all videos, in order.

    Args:
        found: one a video.
        take: takes the part of a video.
        problems: takes what is wrong (`score_videos` looks at it).

    Returns:
        What the dataset is called, and the notes of all videos.
    """
    dataset, notes = "", list[Problem]()
    for outcome in found:
        dataset = outcome.dataset
        problems += outcome.problems
        notes += outcome.notes
        take(outcome.score)
    return dataset, notes


def gather(
    found: Iterable[VideoOutcome[Score]],
    take: Callable[[Score], object],
    problems: list[Problem],
    results: Path,
    known: Collection[str],
    strict: bool,
    what: str = "video",
) -> tuple[str, tuple[Problem, ...]]:
    """As `collect`, of one folder of predictions: folders in it that are no video of `known` are notes, too.

    Args:
        found, take, problems: as `collect`.
        results: the predictions' folder.
        known: ids of the videos; it may still grow while videos are scored.
        strict: whether notes are errors.
        what: how a note calls what has no such folder.

    Raises:
        DataErrors: all that is wrong at once.
    """
    dataset, notes = collect(found, take, problems)
    notes += strange_folders(results, known, what)
    raise_problems(problems, notes, strict)
    return dataset, tuple(notes)


def _in_processes(function: Callable[[Item], Result], items: Iterable[Item], processes: int) -> Iterator[Result]:
    pending: deque[Future[Result]] = deque()
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(processes, _context(), initializer=_begin)
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) > 2 * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise WorkerDied(DIED) from error
    except BaseException:  # Ctrl-C, or nobody wants the rest: nobody waits for what is being done
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _context() -> multiprocessing.context.BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def prepare(asked: int | None) -> None:
    """Let the server of processes start while this process does something else, where it is likely to be wanted."""
    if processes_for(asked, None) > 1 and "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver

        _context()
        forkserver.ensure_running()


def _begin() -> None:
    """In a new process: Ctrl-C ends it without a word, the parent has one; and nothing outlives the parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    import cv2

    cv2.setNumThreads(1)
    _keep_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _keep_memory() -> None:
    """Have the C library keep what label maps free, instead of asking for it anew page by page (a sixth of the time).

    glibc keeps twice the size of the largest block that was ever freed to the system; elsewhere this does nothing.
    """
    import numpy as np

    np.empty(16 << 20, np.uint8)  # freed at once, and never touched


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
