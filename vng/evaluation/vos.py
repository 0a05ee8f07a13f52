"""Scores of video object segmentation: DAVIS 2016 and 2017, YouTube-VOS, Point-VOS (every decision: docs/protocols.md).

`evaluate_vos` reads each video once, for any number of runs, one frame at a time: memory does not grow with a video's
length, and a true mask is decoded once however many runs are scored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vng.dataset import Video
from vng.errors import DataError, DataErrors, Problem
from vng.evaluation.metrics import Statistics, boundary_f, jaccard, statistics
from vng.evaluation.unsupervised import UNSUPERVISED, score_proposals
from vng.evaluation.vos_results import Missing, Run, VideoPredictions, find_runs, object_numbers, plain_run
from vng.evaluation.vos_targets import LeftOut, Protocol, Target, Targets
from vng.masks import decode

__all__ = ["ObjectScore", "Protocol", "Run", "VosScores", "evaluate_vos", "find_runs", "object_numbers", "plain_run"]


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
    """What one run scores under one protocol."""

    run: Run
    protocol: Protocol
    objects: tuple[ObjectScore, ...]
    left_out: tuple[LeftOut, ...] = ()

    def statistics(self, score: ObjectScore) -> tuple[Statistics, Statistics]:
        """(J, F) of one object over its frames."""
        official = self.protocol.official
        return statistics(np.array(score.j), official), statistics(np.array(score.f), official)

    def summary(self, objects: Sequence[ObjectScore] | None = None) -> Summary:
        """Means over these objects, pooled whatever their sequence; all by default. NaN where there is none."""
        rows = [self.statistics(score) for score in (self.objects if objects is None else objects)]
        means = []
        for which in (0, 1):
            table = np.array([(r[which].mean, r[which].recall, r[which].decay) for r in rows]).reshape(-1, 3)
            means.append(Statistics(*(float(v) for v in (table.mean(0) if len(table) else np.full(3, np.nan)))))
        return Summary(len(rows), *means)

    @property
    def sequences(self) -> dict[str, list[ObjectScore]]:
        """Video -> its objects, in the order scored."""
        found: dict[str, list[ObjectScore]] = {}
        for score in self.objects:
            found.setdefault(score.video, []).append(score)
        return found

    def overall(self, seen: Collection[str]) -> Overall:
        """G over seen and unseen categories."""
        known = [s for s in self.objects if s.category in seen]
        new = [s for s in self.objects if s.category not in seen]
        return Overall(self.summary(known), self.summary(new))


@dataclass(frozen=True)
class Overall:
    """YouTube-VOS: the objects of seen and of unseen categories."""

    seen: Summary
    unseen: Summary

    @property
    def g(self) -> float:
        """Mean of J seen, F seen, J unseen, F unseen; NaN where one of the two has no object."""
        return 0.5 * (self.seen.jf + self.unseen.jf)


def evaluate_vos(
    videos: Iterable[Video], runs: Sequence[Run], protocol: Protocol, missing: Missing = "error"
) -> tuple[VosScores, ...]:
    """Score runs against true masks.

    Args:
        videos: the truth.
        runs: folders of predictions (`plain_run`, `find_runs`).
        protocol: which objects and frames count.
        missing: whether a prediction that is not there is an error or an empty mask.

    Returns:
        One VosScores a run, in order.

    Raises:
        DataErrors: every missing, unreadable, mis-sized or mis-numbered prediction of all runs at once.
        DataError: no object to score, or a video on which the official program fails (official protocols).
    """
    scores: list[list[ObjectScore]] = [[] for _ in runs]
    left_out: list[LeftOut] = []
    problems: list[Problem] = []
    source = ""
    for video in videos:
        source = video.dataset
        targets = protocol.targets(video)
        left_out += targets.left_out
        readers = _open(video, runs, missing, problems)
        if len(readers) == len(runs):
            if protocol.name == UNSUPERVISED:
                rows = _score_proposals(video, targets, readers, protocol)
            else:
                rows = _score_video(video, targets, readers, scoring=not problems)
            problems += [problem for reader in readers for problem in reader.problems]
            for i in range(len(runs)):
                scores[i] += rows[i]
    if problems:
        raise DataErrors(problems)
    if not scores or not scores[0]:
        first = f" ({left_out[0].video}: {left_out[0].reason})" if left_out else ""
        reason = f"no object to score under {protocol.name}{first}"
        raise DataError(source, "", "objects", reason, "give a dataset with true masks; docs/protocols.md")
    return tuple(VosScores(run, protocol, tuple(rows), tuple(left_out)) for run, rows in zip(runs, scores, strict=True))


def _open(video: Video, runs: Sequence[Run], missing: Missing, problems: list[Problem]) -> list[VideoPredictions]:
    readers = []
    for run in runs:
        try:
            readers.append(VideoPredictions(run, video, missing))
        except DataError as error:  # a name that leads out of the folder, too many objects
            problems.append(error.problem)
    return readers


def _score_video(
    video: Video, targets: Targets, readers: Sequence[VideoPredictions], scoring: bool
) -> list[list[ObjectScore]]:
    """Scores of a video's targets, a list for each reader; nothing is measured once something is wrong, only read."""
    wanted = [frozenset(target.frames) for target in targets.scored]
    frames = sorted(frozenset().union(*wanted))
    merged = any(target.merged for target in targets.scored)
    for reader in readers:
        reader.missing(frames)
    values: list[list[list[tuple[float, float]]]] = [[[] for _ in targets.scored] for _ in readers]
    for t in frames:
        there = [k for k, its in enumerate(wanted) if t in its]
        truths = _truths(targets.scored, there, t) if scoring else {}
        for reader, rows in zip(readers, values, strict=True):
            labels = reader.read(t, None if merged else _allowed(targets, reader))
            scoring = scoring and not reader.problems
            if labels is None or not scoring:
                continue
            for k in there:
                rows[k].append(_score(truths[k], labels, targets.scored[k], reader))
    if not scoring:
        return [[] for _ in readers]
    return [object_scores(video, targets, rows) for rows in values]


def _score_proposals(
    video: Video, targets: Targets, readers: Sequence[VideoPredictions], protocol: Protocol
) -> list[list[ObjectScore]]:
    """As `_score_video`, of proposals that are matched to objects."""
    values = score_proposals(video, targets, readers, protocol.void, protocol.official) if targets.scored else None
    return [[] for _ in readers] if values is None else [object_scores(video, targets, rows) for rows in values]


def object_scores(video: Video, targets: Targets, rows: Sequence[Sequence[tuple[float, float]]]) -> list[ObjectScore]:
    """Scores of a video's targets, given (J, F) of each on its frames."""
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


def _truths(targets: Sequence[Target], there: Sequence[int], t: int) -> dict[int, np.ndarray]:
    masks = {k: targets[k].masks[t] for k in there}
    return {k: decode(rle) for k, rle in masks.items() if rle is not None}


def _allowed(targets: Targets, reader: VideoPredictions) -> Collection[int]:
    if targets.highest is not None:
        return range(1, targets.highest + 1)
    return reader.numbers.values()


def _score(truth: np.ndarray, labels: np.ndarray, target: Target, reader: VideoPredictions) -> tuple[float, float]:
    number = reader.numbers[target.object_id] if target.number is None and not target.merged else target.number
    predicted = labels != 0 if target.merged else labels == number
    gt, pred = truth[None], predicted[None]
    return float(jaccard(gt, pred)[0]), float(boundary_f(gt, pred)[0])


def on_frames(scores: VosScores, chosen: Mapping[str, Collection[str]]) -> VosScores:
    """The same scores over these frames only (video -> frame names); objects without one of them are dropped."""
    objects = []
    for score in scores.objects:
        keep = [i for i, name in enumerate(score.frames) if name in chosen[score.video]]
        if keep:
            frames = tuple(score.frames[i] for i in keep)
            j, f = tuple(score.j[i] for i in keep), tuple(score.f[i] for i in keep)
            objects.append(replace(score, frames=frames, j=j, f=f))
    return replace(scores, objects=tuple(objects))
