"""Trace recall and precision: the location task of Oops-QA (Voigtlaender et al., CVPR 2023, Sec. 5).

The answer to a question is a box on one frame, here the bounding box of a predicted mask. Recall is the share of the
mouse trace's pixels in the box; precision the share of the box in a square around the trace, whose side the paper
estimates from the trace's extent. Both count as met from one half on. All decisions: docs/protocols.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vng.dataset import Video, VideoObject
from vng.errors import DataError, Problem
from vng.evaluation.accumulator import Accumulator
from vng.evaluation.narrative.scores import DEEP_MODES, expression_frames, unexpected_expressions
from vng.evaluation.point_agreement import is_traced
from vng.evaluation.predictions import FrameFolder, Missing, check_results, unexpected_folders
from vng.evaluation.workers import VideoOutcome, gather, in_order, processes_for, score_videos
from vng.frames import inside
from vng.masks import RLE, decode, from_json
from vng.text_files import load_json

MEASURES = ("recall", "precision", "recall-met", "precision-met", "both-met")
MET = 0.5
QUESTION = "question of the video"
# side of the square, as coefficients of powers of the trace's extent; shares of the frame's shorter side
SIDE = (0.239715, 1.6737112, -0.42075962)

Box = tuple[int, int, int, int]  # top, left, bottom, right; half-open


@dataclass(frozen=True)
class Answer:
    """One question's measures, shares in [0, 1]."""

    video: str
    question: str
    frame: str
    recall: float
    precision: float

    @property
    def mean(self) -> float:
        """Mean of recall and precision."""
        return 0.5 * (self.recall + self.precision)

    @property
    def met(self) -> tuple[bool, bool]:
        """(recall, precision) as flags: whether each reaches one half."""
        return self.recall >= MET, self.precision >= MET


@dataclass
class TraceScore(Accumulator[Answer]):
    """Trace recall and precision, accumulated question by question.

    Attributes:
        notes: notes on unexpected files and folders, for predictions read from files.
    """

    _parts: dict[tuple[str, str], Answer] = field(default_factory=dict)
    notes: tuple[Problem, ...] = ()

    def add(
        self,
        video_id: str,
        question: str,
        trace: np.ndarray | RLE,
        prediction: np.ndarray | RLE,
        *,
        frame: str = "",
    ) -> None:
        """Add a question.

        Args:
            video_id, question: the question; it can be added only once.
            trace: [H, W], the pixels of the mouse trace.
            prediction: [H, W], a mask whose bounding box is the answer; an empty mask is no answer.
            frame: name of the frame, for tables.

        Raises:
            ValueError: a question added twice, sizes that differ, a trace without a pixel.
        """
        self._check_new((video_id, question), f"question {question!r} of video {video_id!r}")
        traced, answer = (decode(m) if isinstance(m, RLE) else np.asarray(m) != 0 for m in (trace, prediction))
        if traced.shape != answer.shape:
            raise ValueError(
                f"expected one size, got a trace of {list(traced.shape)} and a prediction of {list(answer.shape)}"
            )
        self._parts[video_id, question] = Answer(video_id, question, frame, *recall_and_precision(traced, answer))

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Answers sorted by video and question."""
        return tuple(self._parts[key] for key in sorted(self._parts))

    def compute(self) -> dict[str, float]:
        """The `MEASURES`, means over questions; NaN where there is none."""
        rows = [(a.recall, a.precision, *a.met, all(a.met)) for a in self.answers]
        means = np.array(rows, float).mean(0) if rows else np.full(len(MEASURES), np.nan)
        return {name: float(value) for name, value in zip(MEASURES, means, strict=True)}

    def as_json(self) -> dict[str, Any]:
        """`compute` (null for NaN) and {"questions": [...]}."""
        result = {k: None if np.isnan(v) else v for k, v in self.compute().items()}
        return result | {"questions": [asdict(answer) for answer in self.answers]}


def recall_and_precision(trace: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """Recall and precision of a predicted mask's bounding box; masks bool [H, W].

    Raises ValueError for a trace without a pixel.
    """
    rows, columns = np.nonzero(trace)
    if not len(rows):
        raise ValueError("the trace has no pixel")
    square = trace_square(trace)
    box = bounding_box(prediction)
    if box is None:
        return 0.0, 0.0
    top, left, bottom, right = box
    covered = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    height, width = min(bottom, square[2]) - max(top, square[0]), min(right, square[3]) - max(left, square[1])
    return float(covered.mean()), max(height, 0) * max(width, 0) / ((bottom - top) * (right - left))


def bounding_box(mask: np.ndarray) -> Box | None:
    """The bounding box of a mask [H, W]; None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def trace_square(trace: np.ndarray) -> Box:
    """The square around a trace [H, W] that is assumed to contain its object, clipped to the frame."""
    height, width = trace.shape
    rows, columns = np.nonzero(trace)
    y, x = round(float(rows.mean())), round(float(columns.mean()))
    shorter = min(height, width)
    extent = 2 * max(np.abs(rows - y).max(), np.abs(columns - x).max()) / shorter
    half = (SIDE[0] + SIDE[1] * extent + SIDE[2] * extent * extent) * shorter / 2
    return max(round(y - half), 0), max(round(x - half), 0), min(round(y + half), height), min(round(x + half), width)


def evaluate_questions(
    questions: Path,
    results: Path,
    missing: Missing = "error",
    *,
    strict: bool = False,
    processes: int | None = 1,
    progress: bool = False,
) -> TraceScore:
    """Score a folder `<results>/<video>/<question hash>/<frame>.png`; non-zero is predicted.

    Args:
        questions: the published file {video: [{question_hash, trace_frame, trace}]}.
        results: the predictions' folder.
        missing: whether a missing prediction is an error or an empty answer.
        strict: whether unexpected folders are errors; otherwise they are `TraceScore.notes`.
        processes: number of processes, each scoring one video at a time; None: chosen by the number of videos. Scores
            do not depend on it.
        progress: whether to show a progress bar over videos.

    Raises:
        DataErrors: all problems.
        WorkerDied: one of several processes was killed.
    """
    check_results(results)
    by_video: dict[str, list[dict[str, Any]]] = {}
    for video, item in read_questions(questions):
        by_video.setdefault(video, []).append(item)
    work = partial(_score_questions, questions=questions, results=results, missing=missing)
    used = processes_for(processes, len(by_video))
    outcomes = in_order(work, by_video.items(), used, progress, len(by_video))
    score = TraceScore()
    _, score.notes = gather(outcomes, score.merge, list[Problem](), results, by_video, strict)
    if not score.answers:
        raise DataError(questions, reason="no question in this file", cure="give the published file")
    return score


def _score_questions(
    task: tuple[str, list[dict[str, Any]]], questions: Path, results: Path, missing: Missing
) -> VideoOutcome[TraceScore]:
    """The outcome of one video's questions."""
    video, items = task
    outcome = VideoOutcome(TraceScore())
    for item in items:
        key = item["question_hash"]
        try:
            rle = question_trace(item)
            folder = question_folder(results, video, item, rle.size, missing)
            folder.missing([0])
            predicted = folder.pixels(0)
            outcome.problems += folder.problems
            if predicted is not None:
                outcome.score.add(video, key, rle, predicted, frame=folder.names[0])
        except ValueError as error:
            place = f"{video}: {key}"
            outcome.problems.append(
                Problem(str(questions), record=place, field="trace", reason=str(error), cure="leave out the question")
            )
        except DataError as error:
            outcome.problems.append(error.problem)
            return outcome
    outcome.notes = unexpected_folders(inside(results, video), [item["question_hash"] for item in items], QUESTION)
    return outcome


def question_trace(item: Mapping[str, Any]) -> RLE:
    """The trace of a published question; raises ValueError where it has none."""
    rle = from_json(item["trace"])
    if rle is None:
        raise ValueError("no trace")
    return rle


def question_folder(
    results: Path, video: str, item: Mapping[str, Any], size: tuple[int, int], missing: Missing
) -> FrameFolder:
    """The predicted frame of a published question, as frame 0; raises DataError for names outside the folder."""
    folder = inside(inside(results, video), item["question_hash"])
    return FrameFolder(folder, [str(item["trace_frame"]).removesuffix(".png")], size, missing, "question")


def read_questions(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The pairs (video, question) of a published file, in its order; raises DataError for any other file."""
    try:
        tree = load_json(path)
        questions = [(str(video), dict(item)) for video, items in tree.items() for item in items]
        for _, item in questions:
            _ = item["question_hash"], item["trace_frame"], item["trace"]
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        reason = f"not a readable file of location questions ({type(error).__name__})"
        cure = "give {video: [{question_hash, trace_frame, trace}]}"
        raise DataError(path, reason=reason, cure=cure) from error
    return questions


def evaluate_traced_expressions(
    videos: Iterable[Video],
    results: Path,
    missing: Missing = "error",
    *,
    strict: bool = False,
    processes: int = 1,
    progress: bool = False,
) -> TraceScore:
    """The same measures for a dataset made from mouse traces, whose expressions are the questions (our extension).

    A question is an expression and a frame on which its object's trace was drawn. A dataset holds the pointer's
    positions, not the line; they are used as the trace's pixels.

    Args:
        videos: a dataset converted from VidLN (`trace/...` objects).
        results: predictions `<results>/<video>/<expression>/<frame>.png`, non-zero is predicted.
        missing: whether a missing prediction is an error or an empty answer.
        strict, processes, progress: as `evaluate_questions`; unexpected files are notes, too.

    Raises:
        DataErrors: all problems. DataError: no object with a trace.
        WorkerDied: one of several processes was killed.
    """
    check_results(results)
    problems, video_ids = list[Problem](), set[str]()
    work = partial(_score_expressions, results=results, missing=missing)
    outcomes = score_videos(work, videos, problems, video_ids, processes, progress)
    score = TraceScore()
    dataset, score.notes = gather(outcomes, score.merge, problems, results, video_ids, strict)
    if not score.answers:
        raise DataError(
            dataset,
            field="objects.source",
            reason="no object made from a trace",
            cure="give a dataset from `vng convert vidln`",
        )
    return score


def _score_expressions(task: tuple[Video, bool], results: Path, missing: Missing) -> VideoOutcome[TraceScore]:
    """The outcome of one video's traced expressions; where scoring is off, predictions are only checked."""
    video, scoring = task
    outcome = VideoOutcome(TraceScore(), video.dataset)
    for index, expression in enumerate(video.expressions):
        item = video.object_by_id.get(expression.object_id)
        if item is None or not is_traced(item.source):
            continue
        try:
            frames = expression_frames(results, video, index, missing)
        except DataError as error:
            outcome.problems.append(error.problem)
            return outcome
        traced_frames = [int(t) for t in np.unique(item.points.frame)]
        frames.missing(traced_frames)
        answers = [(t, frames.pixels(t, DEEP_MODES)) for t in traced_frames]
        outcome.problems += frames.problems
        outcome.notes += frames.extras()
        for t, predicted in answers:
            if scoring and not outcome.problems and predicted is not None:
                trace, name = drawn_trace(item, t, (video.height, video.width)), video.frame_names[t]
                outcome.score.add(video.video_id, f"{index}/{name}", trace, predicted, frame=name)
    try:
        outcome.notes += unexpected_expressions(results, video)
    except DataError as error:
        outcome.problems.append(error.problem)
    return outcome


def drawn_trace(item: VideoObject, frame: int, size: tuple[int, int]) -> np.ndarray:
    """The pixels [H, W] of an object's trace in a frame."""
    mask = np.zeros(size, bool)
    columns, rows = np.rint(item.points.in_frame(frame).xy).astype(int).T
    mask[rows.clip(0, size[0] - 1), columns.clip(0, size[1] - 1)] = True
    return mask
