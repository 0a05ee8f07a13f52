"""The official Video Narrative Grounding score, equal to the publisher's eval_vng.py.

Decisions: J and F of an expression are means over the frames whose true mask is not null, the first and last included;
an empty true mask counts (an empty prediction scores 1 there). The result is the mean over *all expressions pooled*,
and J&F the mean of J and F. Predictions are compact files `<results>/<video>.parquet`, or
`<results>/<video>/<expression>/<frame>.png`, single channel, non-zero = object.

Frames are matched by name. Where no file has a frame's name, files are numbered as by the official reader (from 0, or
from 1 when there is no 0). The official reader shifts all frames by one when only frame 0 is missing; here that is a
missing frame.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vng.compact_results import compact_path
from vng.dataset import Video
from vng.errors import DataError, Problem
from vng.evaluation.metrics import frame_scores
from vng.evaluation.predictions import (
    PREDICT,
    CompactFrames,
    FrameFolder,
    Missing,
    PredictedFrames,
    check_results,
    compact_result,
    raise_problems,
    unexpected_folders,
)
from vng.evaluation.workers import VideoOutcome, gather, score_videos
from vng.frames import inside
from vng.label_maps import MODES
from vng.masks import RLE
from vng.narratives import Expression

DEEP_MODES = (*MODES, "I;16", "I")  # also 16-bit grey
UNIT = "expression of the video"

# Chooses the object that an expression's prediction is scored against; None skips the expression.
TruthOf = Callable[[Video, Expression], str | None]


@dataclass(frozen=True, kw_only=True)
class ExpressionScore:
    """J and F of one expression in [0, 1]: means over its annotated frames, and the values of each frame."""

    video: str
    expression: int
    noun: str
    object_id: str
    j: float
    f: float
    frames: int
    frame_names: tuple[str, ...] = ()  # the frames that count, in time order
    j_frames: tuple[float, ...] = ()
    f_frames: tuple[float, ...] = ()


@dataclass(frozen=True)
class NarrativeScores:
    """The pooled score and its expressions; shares in [0, 1]."""

    expressions: tuple[ExpressionScore, ...]
    notes: tuple[Problem, ...] = ()  # unexpected files and folders among the predictions

    @property
    def j(self) -> float:
        """Mean J over all expressions."""
        return float(np.mean([score.j for score in self.expressions])) if self.expressions else float("nan")

    @property
    def f(self) -> float:
        """Mean F over all expressions."""
        return float(np.mean([score.f for score in self.expressions])) if self.expressions else float("nan")

    @property
    def jf(self) -> float:
        """J&F."""
        return 0.5 * (self.j + self.f)

    def line(self) -> str:
        """The printed line, in per cent."""
        figures = "  ".join(
            f"{name} {100 * value:.2f}" for name, value in (("J&F", self.jf), ("J", self.j), ("F", self.f))
        )
        return f"{figures}  ({len(self.expressions)} expressions)"

    def as_json(self) -> dict[str, Any]:
        """{"J&F", "J", "F", "expressions": [...]}, shares in [0, 1]."""
        return {"J&F": self.jf, "J": self.j, "F": self.f, "expressions": [asdict(s) for s in self.expressions]}


def own_object(_video: Video, expression: Expression) -> str | None:
    """The object of an expression: the official protocol."""
    return expression.object_id


def other_object(video: Video, expression: Expression) -> str | None:
    """Another object named in the same video, the next one in order: a control for the influence of the words.

    None where the video names no other object.
    """
    named = list(dict.fromkeys(e.object_id for e in video.expressions))
    if len(named) < 2:
        return None
    return named[(named.index(expression.object_id) + 1) % len(named)]


def evaluate_narrative(
    videos: Iterable[Video],
    results: Path,
    missing: Missing = "error",
    truth_of: TruthOf = own_object,
    *,
    strict: bool = False,
    processes: int = 1,
    progress: bool = False,
) -> NarrativeScores:
    """Score a folder of predictions.

    Args:
        videos: the ground truth.
        results: the predictions' folder, in the official layout.
        missing: whether a missing prediction is an error or an empty mask.
        truth_of: chooses the object that an expression is scored against.
        strict: whether unexpected files and folders are errors; otherwise they are `NarrativeScores.notes`.
        processes: number of processes, each scoring one video at a time; scores do not depend on it.
        progress: whether to show a progress bar over videos.

    Raises:
        DataErrors: all missing, unreadable or mis-sized predictions.
        WorkerDied: one of several processes was killed.
    """
    check_results(results)
    rows, problems, video_ids = list[ExpressionScore](), list[Problem](), set[str]()
    work = partial(_evaluate_video, results=results, missing=missing, truth_of=truth_of)
    outcomes = score_videos(work, videos, problems, video_ids, processes, progress)
    _, notes = gather(outcomes, rows.extend, problems, results, video_ids, strict, "video of the dataset")
    return NarrativeScores(tuple(rows), notes)


def _evaluate_video(
    task: tuple[Video, bool], results: Path, missing: Missing, truth_of: TruthOf
) -> VideoOutcome[list[ExpressionScore]]:
    """The outcome of one video, given without its pixels; where scoring is off, predictions are only checked."""
    video, scoring = task
    outcome = VideoOutcome(list[ExpressionScore](), video.dataset)
    try:
        folder, compact = inside(results, video.video_id), compact_result(results, video.video_id, "expression")
    except DataError as error:
        outcome.problems.append(error.problem)
        return outcome
    targets = {index: truth_of(video, expression) for index, expression in enumerate(video.expressions)}
    to_score = {index: annotated for index, target in targets.items() if (annotated := _annotated(video, target))}
    outcome.notes = unexpected_expressions(results, video)
    found = compact is not None or any((folder / str(index)).is_dir() for index in to_score)
    if to_score and missing == "error" and not found:
        reason = f"no prediction of this video ({len(to_score)} expressions expected)"
        outcome.problems.append(Problem(str(folder), reason=reason, cure=PREDICT))
        return outcome
    for index, annotated in to_score.items():
        frames = expression_frames(results, video, index, missing)
        frames.missing([t for t, _ in annotated])
        scores = _score(frames, annotated, scoring and not outcome.problems)
        outcome.problems += frames.problems
        outcome.notes += frames.extras()
        if scores is not None:
            outcome.score.append(_expression_score(video, index, str(targets[index]), annotated, *scores))
    return outcome


def _annotated(video: Video, target: str | None) -> list[tuple[int, RLE]]:
    truth = () if target is None else video.object_by_id[target].segmentations
    return [(t, rle) for t, rle in enumerate(truth) if rle is not None]


def expression_frames(results: Path, video: Video, index: int, missing: Missing) -> PredictedFrames:
    """The predicted masks of one expression, given by its number.

    Raises:
        DataError: an id that leads out of the folder, or a damaged compact file.
    """
    folder, size = inside(results, video.video_id) / str(index), (video.height, video.width)
    result = compact_result(results, video.video_id, "expression")
    if result is None:
        return NumberedFrames(folder, video.frame_names, size, missing, "expression")
    return CompactFrames(
        compact_path(results, video.video_id),
        video.frame_names,
        size,
        missing,
        "expression",
        result=result,
        numbers={str(index): 1},
        record=f"expression {index}",
    )


def unexpected_expressions(results: Path, video: Video) -> list[Problem]:
    """Notes on predictions of the video that belong to none of its expressions; raises as `expression_frames`."""
    names = [str(index) for index in range(len(video.expressions))]
    result = compact_result(results, video.video_id, "expression")
    if result is None:
        return unexpected_folders(inside(results, video.video_id), names, UNIT)
    place = str(compact_path(results, video.video_id))
    unexpected = [name for name in result.tracks if name not in names]
    return [Problem(place, record=name, reason=f"no {UNIT} has this name; skipped", kind="note") for name in unexpected]


class NumberedFrames(FrameFolder):
    """PNGs that are named after frames, or numbered as by the official reader."""

    def paths_by_frame(self, pngs: Mapping[str, Path]) -> dict[int, Path]:
        """Frame index -> its file, by name; where no name matches, by trailing number, from 0 or else from 1."""
        if named := super().paths_by_frame(pngs):
            return named
        numbers = {int(digits.group(1)): path for stem, path in pngs.items() if (digits := re.search(r"(\d+)$", stem))}
        shift = 0 if 0 in numbers else 1
        return {number - shift: path for number, path in numbers.items() if 0 <= number - shift < len(self.names)}


def _score(
    frames: PredictedFrames, annotated: list[tuple[int, RLE]], scoring: bool
) -> tuple[list[float], list[float]] | None:
    """J and F of each annotated frame; None where there is a problem, and then the other files are only checked."""
    j: list[float] = []
    f: list[float] = []
    for begin in range(0, len(annotated), frames.at_once):
        batch = annotated[begin : begin + frames.at_once]
        read = [frames.mask(t, DEEP_MODES) for t, _ in batch]
        masks = [mask for mask in read if mask is not None]
        scoring = scoring and not frames.problems and len(masks) == len(batch)
        if scoring:
            regions, contours = frame_scores([rle for _, rle in batch], masks)
            j += regions.tolist()
            f += contours.tolist()
    return (j, f) if scoring else None


def _expression_score(
    video: Video, index: int, target: str, annotated: list[tuple[int, RLE]], j: list[float], f: list[float]
) -> ExpressionScore:
    return ExpressionScore(
        video=video.video_id,
        expression=index,
        noun=video.noun(video.expressions[index]),
        object_id=target,
        j=float(np.mean(j)),
        f=float(np.mean(f)),
        frames=len(annotated),
        frame_names=tuple(video.frame_names[t] for t, _ in annotated),
        j_frames=tuple(j),
        f_frames=tuple(f),
    )


def read_expression(video: Video, index: int, frames: Sequence[int], results: Path) -> np.ndarray:
    """Predicted masks bool [T', H, W] of an expression, given by its number, on these frames; missing ones are empty.

    Raises:
        DataErrors: unreadable or mis-sized predictions.
    """
    predicted = expression_frames(results, video, index, "empty")
    pixels = [predicted.pixels(t, DEEP_MODES) for t in frames]
    raise_problems(predicted.problems, (), False)
    masks = [mask != 0 for mask in pixels if mask is not None]
    return np.stack(masks) if masks else np.zeros((0, video.height, video.width), bool)
