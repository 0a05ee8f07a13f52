"""The official Video Narrative Grounding score, equal to the publisher's eval_vng.py.

Decisions: J and F of an expression are means over the frames whose truth is not null, the first and last included; an
empty truth counts (an empty prediction scores 1 there). The result is the mean over *all expressions pooled*, and J&F
the mean of J and F. Predictions are `<results>/<video>/<expression>/<frame>.png`, single channel, non-zero = object.

Frames are found by name. Where no file has a frame's name, files are numbered as the official reader numbers them (from
0, or from 1 when there is no 0). The official reader shifts everything by one when frame 0 alone is lost; here that is
a missing frame.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from vng.dataset import Video
from vng.errors import DataError, DataErrors, Problem
from vng.evaluation.metrics import boundary_f, jaccard
from vng.frames import inside
from vng.masks import RLE, decode_many, empty
from vng.narratives import Expression

# Chooses the object an expression's prediction is scored against; None leaves the expression out.
TruthOf = Callable[[Video, Expression], str | None]


@dataclass(frozen=True)
class ExpressionScore:
    """One expression's J and F in [0, 1]: means over its annotated frames, and each of them."""

    video: str
    expression: int
    noun: str
    object_id: str
    j: float
    f: float
    frames: int
    frame_names: tuple[str, ...] = ()  # those that count, in time order
    j_frames: tuple[float, ...] = ()
    f_frames: tuple[float, ...] = ()


@dataclass(frozen=True)
class NarrativeScores:
    """The pooled score and what it is made of; shares in [0, 1]."""

    expressions: tuple[ExpressionScore, ...]

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

    def as_json(self) -> dict[str, Any]:
        """{"J&F", "J", "F", "expressions": [...]}, shares in [0, 1]."""
        return {"J&F": self.jf, "J": self.j, "F": self.f, "expressions": [asdict(s) for s in self.expressions]}


def own_object(_video: Video, expression: Expression) -> str | None:
    """The object an expression means: the official protocol."""
    return expression.object_id


def other_object(video: Video, expression: Expression) -> str | None:
    """Another object named in the same video, the next one in order: the control that shows whether words matter.

    None where the video names no other.
    """
    named = list(dict.fromkeys(e.object_id for e in video.expressions))
    if len(named) < 2:
        return None
    return named[(named.index(expression.object_id) + 1) % len(named)]


def evaluate_narrative(
    videos: Iterable[Video],
    results: Path,
    missing: Literal["error", "empty"] = "error",
    truth_of: TruthOf = own_object,
) -> NarrativeScores:
    """Score a folder of predictions.

    Args:
        videos: the truth.
        results: the predictions' folder, in the official layout.
        missing: whether a prediction that is not there is an error or an empty mask.
        truth_of: which object an expression is scored against.

    Raises:
        DataErrors: every missing, unreadable or mis-sized prediction at once.
    """
    scores: list[ExpressionScore] = []
    problems: list[Problem] = []
    if not results.is_dir():
        raise DataError(results, "", "", "no such folder of predictions", "check --results, or run `vng predict`")
    for video in videos:
        for index, expression in enumerate(video.expressions):
            target = truth_of(video, expression)
            if target is None:
                continue
            try:
                score = _score(video, index, expression, target, results, missing)
            except DataErrors as errors:
                problems += errors.problems
            except DataError as error:
                problems.append(error.problem)
            else:
                if score is not None:
                    scores.append(score)
    if problems:
        raise DataErrors(problems)
    return NarrativeScores(tuple(scores))


def _score(
    video: Video, index: int, expression: Expression, target: str, results: Path, missing: str
) -> ExpressionScore | None:
    truth = video.object_by_id[target].segmentations
    annotated = [(t, rle) for t, rle in enumerate(truth) if rle is not None]
    if not annotated:
        return None
    folder = inside(results, video.video_id) / str(index)
    predictions = _read_predictions(folder, video, annotated, missing)
    gt = decode_many([rle for _, rle in annotated])
    j, f = jaccard(gt, predictions), boundary_f(gt, predictions)
    return ExpressionScore(
        video.video_id,
        index,
        video.noun(expression),
        target,
        float(j.mean()),
        float(f.mean()),
        len(annotated),
        tuple(video.frame_names[t] for t, _ in annotated),
        tuple(j.tolist()),
        tuple(f.tolist()),
    )


def read_expression(video: Video, index: int, frames: Sequence[int], results: Path) -> np.ndarray:
    """Predicted masks bool [T', H, W] of an expression, by number, on these frames; what is not there is empty.

    Raises:
        DataErrors: unreadable or mis-sized predictions.
    """
    folder = inside(results, video.video_id) / str(index)
    truth = empty(video.height, video.width)
    return _read_predictions(folder, video, [(t, truth) for t in frames], "empty")


def _read_predictions(folder: Path, video: Video, annotated: list[tuple[int, RLE]], missing: str) -> np.ndarray:
    """Predicted masks bool [T', H, W] of the annotated frames."""
    files = _prediction_files(folder, video.frame_names)
    masks = np.zeros((len(annotated), video.height, video.width), bool)
    problems: list[Problem] = []
    for row, (t, _) in enumerate(annotated):
        path = files.get(t)
        if path is None:
            if missing == "error":
                name = folder / f"{video.frame_names[t]}.png"
                problems.append(
                    Problem(str(name), "", "", "this prediction is missing", "predict it, or use --missing empty")
                )
            continue
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None:
            problems.append(Problem(str(path), "", "", "this prediction cannot be read", "predict it again"))
        elif image.ndim != 2:
            problems.append(
                Problem(str(path), "", "", f"expected one channel, got {image.shape[2]}", "write single-channel PNGs")
            )
        elif image.shape != (video.height, video.width):
            reason = f"prediction of {image.shape[0]}x{image.shape[1]}, the frame has {video.height}x{video.width}"
            problems.append(Problem(str(path), "", "", reason, "resize predictions to the frame"))
        else:
            masks[row] = image != 0
    if problems:
        raise DataErrors(problems)
    return masks


def _prediction_files(folder: Path, names: tuple[str, ...]) -> dict[int, Path]:
    """Frame index -> file."""
    stems = {path.stem: path for path in folder.glob("*.png")}
    if any(name in stems for name in names):
        return {t: stems[name] for t, name in enumerate(names) if name in stems}
    numbers = {int(digits.group(1)): path for stem, path in stems.items() if (digits := re.search(r"(\d+)$", stem))}
    shift = 0 if 0 in numbers else 1
    return {number - shift: path for number, path in numbers.items() if 0 <= number - shift < len(names)}
