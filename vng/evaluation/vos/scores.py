"""Scores of video object segmentation: DAVIS 2016 and 2017, YouTube-VOS, Point-VOS (all decisions: docs/protocols.md).

`evaluate_vos` reads each video once, for any number of runs, a few frames at a time: memory does not grow with a
video's length, and a true mask is packed once for all runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from vng.dataset import Video
from vng.errors import DataError, Problem
from vng.evaluation.metrics import Statistics, paired_scores, shapes_of, statistics, tolerance
from vng.evaluation.predictions import Missing, raise_problems, unexpected_folders
from vng.evaluation.shapes import Shapes, of_labels
from vng.evaluation.vos.proposals import UNSUPERVISED, score_proposals
from vng.evaluation.vos.runs import Run, VideoPredictions, find_runs, plain_run
from vng.evaluation.vos.targets import LeftOut, Protocol, Targets
from vng.evaluation.workers import VideoOutcome, collect, score_videos
from vng.label_maps import object_numbers

__all__ = ["ObjectScore", "Protocol", "Run", "VosScores", "evaluate_vos", "find_runs", "object_numbers", "plain_run"]

AT_ONCE = 4  # frames scored together


@dataclass(frozen=True)
class ObjectScore:
    """One object's scores on each frame that counts; J and F in [0, 1]."""

    video: str
    object_id: str
    category: str
    frames: tuple[str, ...]
    j: tuple[float, ...]
    f: tuple[float, ...]

    @property
    def jf(self) -> float:
        """Mean of J and F over the frames."""
        return 0.5 * (float(np.mean(self.j)) + float(np.mean(self.f)))


@dataclass(frozen=True)
class Summary:
    """Means over objects of their mean, recall and decay."""

    objects: int
    j: Statistics
    f: Statistics

    @property
    def jf(self) -> float:
        """J&F: the mean of the means of J and F."""
        return 0.5 * (self.j.mean + self.f.mean)


@dataclass(frozen=True)
class VosScores:
    """Scores of one run under one protocol."""

    run: Run
    protocol: Protocol
    objects: tuple[ObjectScore, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[Problem, ...] = ()  # unexpected files and folders among the predictions

    def statistics(self, score: ObjectScore) -> tuple[Statistics, Statistics]:
        """(J, F) of one object over its frames."""
        official = self.protocol.official
        return statistics(np.array(score.j), official), statistics(np.array(score.f), official)

    def summary(self, objects: Sequence[ObjectScore] | None = None) -> Summary:
        """Means over these objects, pooled over sequences; all by default. NaN where there is none."""
        rows = [self.statistics(score) for score in (self.objects if objects is None else objects)]
        means = []
        for which in (0, 1):
            table = np.array([(r[which].mean, r[which].recall, r[which].decay) for r in rows]).reshape(-1, 3)
            means.append(Statistics(*(float(v) for v in (table.mean(0) if len(table) else np.full(3, np.nan)))))
        return Summary(len(rows), *means)

    @property
    def sequences(self) -> dict[str, list[ObjectScore]]:
        """Video -> its objects, in the order of scoring."""
        objects_by_video: dict[str, list[ObjectScore]] = {}
        for score in self.objects:
            objects_by_video.setdefault(score.video, []).append(score)
        return objects_by_video

    def overall(self, seen: Collection[str]) -> Overall:
        """Summaries of seen and unseen categories, for G."""
        of_seen = [s for s in self.objects if s.category in seen]
        of_unseen = [s for s in self.objects if s.category not in seen]
        return Overall(self.summary(of_seen), self.summary(of_unseen))


@dataclass(frozen=True)
class Overall:
    """YouTube-VOS: summaries of the objects of seen and of unseen categories."""

    seen: Summary
    unseen: Summary

    @property
    def g(self) -> float:
        """Mean of J seen, F seen, J unseen, F unseen; NaN where one of the two has no object."""
        return 0.5 * (self.seen.jf + self.unseen.jf)


@dataclass
class _RunRows:
    """Outcome of one video for each run: its scores, empty once there is a problem, and notes."""

    rows: list[list[ObjectScore]]
    left_out: tuple[LeftOut, ...]
    notes: list[list[Problem]]


def evaluate_vos(
    videos: Iterable[Video],
    runs: Sequence[Run],
    protocol: Protocol,
    missing: Missing = "error",
    *,
    strict: bool = False,
    processes: int = 1,
    progress: bool = False,
) -> tuple[VosScores, ...]:
    """Score runs against true masks.

    Args:
        videos: the ground truth.
        runs: folders of predictions (`plain_run`, `find_runs`).
        protocol: which objects and frames count.
        missing: whether a missing prediction is an error or an empty mask.
        strict: whether unexpected files and folders are errors; otherwise they are `VosScores.notes`.
        processes: number of processes, each scoring one video at a time; scores do not depend on it.
        progress: whether to show a progress bar over videos.

    Returns:
        One VosScores per run, in order.

    Raises:
        DataErrors: all missing, unreadable, mis-sized or mis-numbered predictions of all runs.
        DataError: no object to score, or a video on which the official program fails (official protocols).
        WorkerDied: one of several processes was killed.
    """
    notes: list[list[Problem]] = [[] for _ in runs]
    scores: list[list[ObjectScore]] = [[] for _ in runs]
    problems, left_out, video_ids = list[Problem](), list[LeftOut](), set[str]()

    def take(part: _RunRows) -> None:
        left_out.extend(part.left_out)
        for i, run_notes in enumerate(part.notes):
            notes[i] += run_notes
            scores[i] += part.rows[i]

    work = partial(_evaluate_video, runs=runs, protocol=protocol, missing=missing)
    source, _ = collect(score_videos(work, videos, problems, video_ids, processes, progress), take, problems)
    for run, run_notes in zip(runs, notes, strict=True):
        run_notes += unexpected_folders(run.folder, video_ids, "video of the dataset")
    raise_problems(problems, [note for run_notes in notes for note in run_notes], strict)
    if not scores or not scores[0]:
        first = f" ({left_out[0].video}: {left_out[0].reason})" if left_out else ""
        reason = f"no object to score under {protocol.name}{first}"
        raise DataError(
            source, field="objects", reason=reason, cure="give a dataset with true masks; docs/protocols.md"
        )
    return tuple(
        VosScores(run, protocol, tuple(rows), tuple(left_out), tuple(run_notes))
        for run, rows, run_notes in zip(runs, scores, notes, strict=True)
    )


def _evaluate_video(
    task: tuple[Video, bool], runs: Sequence[Run], protocol: Protocol, missing: Missing
) -> VideoOutcome[_RunRows]:
    """The outcome of one video, given without its pixels; where scoring is off, predictions are only checked."""
    video, scoring = task
    targets = protocol.targets(video)
    part = _RunRows([[] for _ in runs], targets.left_out, [[] for _ in runs])
    outcome = VideoOutcome(part, video.dataset)
    readers = _open(video, runs, missing, outcome.problems)
    if len(readers) == len(runs):
        scoring = scoring and not outcome.problems
        if protocol.name == UNSUPERVISED:
            rows = score_proposals(video, targets, readers, protocol, scoring)
            part.rows = [object_scores(video, targets, run_rows) for run_rows in rows or []]
        else:
            part.rows = _score_video(video, targets, readers, scoring)
        part.rows = part.rows or [[] for _ in runs]
        outcome.problems += [problem for reader in readers for problem in reader.problems]
        part.notes = [reader.extras() for reader in readers]
    return outcome


def _open(video: Video, runs: Sequence[Run], missing: Missing, problems: list[Problem]) -> list[VideoPredictions]:
    readers = []
    for run in runs:
        try:
            readers.append(VideoPredictions(run, video, missing))
        except DataError as error:  # a name that points outside the folder, or too many objects
            problems.append(error.problem)
    return readers


def _score_video(
    video: Video, targets: Targets, readers: Sequence[VideoPredictions], scoring: bool
) -> list[list[ObjectScore]]:
    """Scores of a video's targets, a list for each reader; once there is a problem, files are only checked."""
    counted = [frozenset(target.frames) for target in targets.scored]
    frames = sorted(frozenset().union(*counted))
    for reader in readers:
        reader.missing(frames)
    values: list[list[list[tuple[float, float]]]] = [[[] for _ in targets.scored] for _ in readers]
    for begin in range(0, len(frames), AT_ONCE):
        batch = frames[begin : begin + AT_ONCE]
        pairs = [(i, k) for i, t in enumerate(batch) for k, target_frames in enumerate(counted) if t in target_frames]
        truths = _truths(video, targets, [(batch[i], k) for i, k in pairs]) if scoring else None
        for reader, rows in zip(readers, values, strict=True):
            maps = [labels for t in batch if (labels := reader.read(t, _allowed(targets, reader))) is not None]
            scoring = scoring and not reader.problems and len(maps) == len(batch)
            if truths is None or not scoring:
                continue
            predicted = _predicted(maps, targets, pairs, reader)
            j, f = paired_scores(truths, predicted, [(n, n) for n in range(len(pairs))])
            for n, (_, k) in enumerate(pairs):
                rows[k].append((float(j[n]), float(f[n])))
    if not scoring:
        return [[] for _ in readers]
    return [object_scores(video, targets, rows) for rows in values]


def object_scores(video: Video, targets: Targets, rows: Sequence[Sequence[tuple[float, float]]]) -> list[ObjectScore]:
    """Scores of a video's targets from (J, F) of each on its frames."""
    return [
        ObjectScore(
            video.video_id,
            target.object_id,
            target.category,
            tuple(video.frame_names[t] for t in target.frames),
            tuple(j for j, _ in row),
            tuple(f for _, f in row),
        )
        for target, row in zip(targets.scored, rows, strict=True)
    ]


def _truths(video: Video, targets: Targets, pairs: Sequence[tuple[int, int]]) -> Shapes:
    """True masks of (frame, target)."""
    masks = [rle for t, k in pairs if (rle := targets.scored[k].masks[t]) is not None]
    return shapes_of(masks, (video.height, video.width))


def _allowed(targets: Targets, reader: VideoPredictions) -> Collection[int] | None:
    if any(target.merged for target in targets.scored):
        return None
    if targets.highest is not None:
        return range(1, targets.highest + 1)
    return reader.numbers.values()


def _predicted(
    maps: Sequence[np.ndarray], targets: Targets, pairs: Sequence[tuple[int, int]], reader: VideoPredictions
) -> Shapes:
    """Predicted masks of (index of the map, target)."""
    if any(target.merged for target in targets.scored):
        return shapes_of([maps[i] for i, _ in pairs], reader.size)
    numbers = [reader.numbers[item.object_id] if item.number is None else item.number for item in targets.scored]
    return of_labels(maps, [(i, numbers[k]) for i, k in pairs], tolerance(*reader.size))


def on_frames(scores: VosScores, chosen: Mapping[str, Collection[str]]) -> VosScores:
    """The same scores over these frames only (video -> frame names); objects without any of them are dropped."""
    objects = []
    for score in scores.objects:
        keep = [i for i, name in enumerate(score.frames) if name in chosen[score.video]]
        if keep:
            frames = tuple(score.frames[i] for i in keep)
            j, f = tuple(score.j[i] for i in keep), tuple(score.f[i] for i in keep)
            objects.append(replace(score, frames=frames, j=j, f=f))
    return replace(scores, objects=tuple(objects))
