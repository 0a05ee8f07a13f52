"""Agreement of predicted masks with verified points: positives belong inside, negatives outside.

It can be measured without true masks (Point-VOS, 2402.05917). Ambiguous points never count, nor do those of mouse
traces, which are not verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from vng.dataset import Video, VideoObject
from vng.errors import DataError, Problem
from vng.evaluation.accumulator import Accumulator
from vng.evaluation.predictions import Missing
from vng.evaluation.vos.runs import Run, VideoPredictions
from vng.evaluation.workers import VideoOutcome, gather, score_videos
from vng.masks import RLE, decode
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points, read_at


@dataclass(frozen=True, kw_only=True)
class ObjectAgreement:
    """Points of one object: the number of each kind, and how many of them the prediction puts on the right side."""

    video: str
    object_id: str
    name: str
    frames: int  # number of frames with a point that counts
    positives: int
    positives_inside: int
    negatives: int
    negatives_outside: int
    frame_names: tuple[str, ...] = ()  # names of those frames, or their numbers where names are not given
    frame_agreement: tuple[float, ...] = ()  # share of each frame's points on the right side

    @property
    def agreement(self) -> float:
        """Share of the points on the right side."""
        return (self.positives_inside + self.negatives_outside) / (self.positives + self.negatives)


@dataclass
class PointScore(Accumulator[ObjectAgreement]):
    """Point agreement, accumulated object by object.

    Attributes:
        notes: notes on unexpected files and folders, for predictions read from files.
    """

    _parts: dict[tuple[str, str], ObjectAgreement] = field(default_factory=dict)
    notes: tuple[Problem, ...] = ()

    def add(
        self,
        video_id: str,
        object_id: str,
        points: Points,
        prediction: Sequence[np.ndarray | RLE | None] | Mapping[int, np.ndarray | RLE | None] | np.ndarray,
        *,
        name: str = "",
        frame_names: Sequence[str] = (),
    ) -> None:
        """Add an object.

        Args:
            video_id, object_id: the object; it can be added only once.
            points: its points; an object without a point that counts is skipped.
            prediction: masks [H, W] or RLE by frame; None is an empty mask. Frames without points are ignored.
            name, frame_names: for tables; names of the video's frames, by number.

        Raises:
            ValueError: an object added twice, a point outside its frame.
        """
        self._check_new((video_id, object_id), f"object {object_id!r} of video {video_id!r}")
        counting = points[points.label != AMBIGUOUS]
        inside = np.zeros(len(counting), bool)
        for t in np.unique(counting.frame):
            here = counting.frame == t
            mask = prediction[int(t)]
            if mask is not None:
                inside[here] = read_at(decode(mask) if isinstance(mask, RLE) else mask, counting.xy[here]) != 0
        if len(counting):
            positive, negative = counting.label == POSITIVE, counting.label == NEGATIVE
            frames = [int(t) for t in np.unique(counting.frame)]
            self._parts[video_id, object_id] = ObjectAgreement(
                video=video_id,
                object_id=object_id,
                name=name,
                frames=len(frames),
                positives=int(positive.sum()),
                positives_inside=int((positive & inside).sum()),
                negatives=int(negative.sum()),
                negatives_outside=int((negative & ~inside).sum()),
                frame_names=tuple(frame_names[t] if frame_names else str(t) for t in frames),
                frame_agreement=tuple(float((inside == positive)[counting.frame == t].mean()) for t in frames),
            )

    @property
    def objects(self) -> tuple[ObjectAgreement, ...]:
        """Agreement of each object, sorted by video and object."""
        return tuple(self._parts[key] for key in sorted(self._parts))

    def compute(self) -> dict[str, float]:
        """Shares in [0, 1]; NaN where there is no such point.

        "agreement" of all points pooled, "positives-inside", "negatives-outside", and "object-agreement", the mean over
        objects of their agreement.
        """
        items = self.objects
        totals = {
            name: sum(getattr(item, name) for item in items)
            for name in ("positives", "positives_inside", "negatives", "negatives_outside")
        }
        correct = totals["positives_inside"] + totals["negatives_outside"]
        return {
            "agreement": share(correct, totals["positives"] + totals["negatives"]),
            "positives-inside": share(totals["positives_inside"], totals["positives"]),
            "negatives-outside": share(totals["negatives_outside"], totals["negatives"]),
            "object-agreement": share(sum(item.agreement for item in items), len(items)),
        }

    def as_json(self) -> dict[str, Any]:
        """`compute` (null for NaN) and {"points", "objects": [...]}."""
        result: dict[str, Any] = {k: None if np.isnan(v) else v for k, v in self.compute().items()}
        result["points"] = sum(item.positives + item.negatives for item in self.objects)
        return result | {"objects": [{**asdict(item), "agreement": item.agreement} for item in self.objects]}


def share(part: float, whole: int) -> float:
    """Quotient part / whole, NaN where `whole` is 0."""
    return part / whole if whole else float("nan")


def evaluate_points(
    videos: Iterable[Video],
    run: Run,
    missing: Missing = "error",
    *,
    strict: bool = False,
    processes: int = 1,
    progress: bool = False,
) -> PointScore:
    """Score a folder of label maps, `<results>/<video>/<frame>.png`; only frames with points are required.

    Args:
        videos: a dataset with verified points.
        run: the predictions (`plain_run`).
        missing: whether a missing prediction is an error or an empty mask.
        strict: whether unexpected files and folders are errors; otherwise they are `PointScore.notes`.
        processes: number of processes, each scoring one video at a time; scores do not depend on it.
        progress: whether to show a progress bar over videos.

    Raises:
        DataErrors: all missing, unreadable, mis-sized or mis-numbered predictions.
        DataError: no verified point in the dataset.
        WorkerDied: one of several processes was killed.
    """
    score, problems, video_ids = PointScore(), list[Problem](), set[str]()
    work = partial(_evaluate_video, run=run, missing=missing)
    outcomes = score_videos(work, videos, problems, video_ids, processes, progress)
    dataset, score.notes = gather(outcomes, score.merge, problems, run.folder, video_ids, strict)
    if not score.objects:
        raise DataError(
            dataset, field="objects.points", reason="no verified point", cure="give a dataset made from points"
        )
    return score


def _evaluate_video(task: tuple[Video, bool], run: Run, missing: Missing) -> VideoOutcome[PointScore]:
    """The outcome of one video, given without its pixels; where scoring is off, predictions are only checked."""
    video, scoring = task
    outcome = VideoOutcome(PointScore(), video.dataset)
    verified = [item for item in video.objects if len(counting_points(item))]
    frames = {int(t) for item in verified for t in counting_points(item).frame}
    try:
        reader = VideoPredictions(run, video, missing)
    except DataError as error:  # a name that points outside the folder, or too many objects
        outcome.problems.append(error.problem)
        return outcome
    reader.missing(frames)
    labels = {t: reader.read(t, reader.numbers.values()) for t in sorted(frames)}
    outcome.problems, outcome.notes = reader.problems, reader.extras()
    if outcome.problems or not scoring:
        return outcome
    for item in verified:
        number = reader.numbers[item.object_id]
        masks = {t: None if label_map is None else label_map == number for t, label_map in labels.items()}
        names = video.frame_names
        outcome.score.add(
            video.video_id, item.object_id, counting_points(item), masks, name=item.name, frame_names=names
        )
    return outcome


def counting_points(item: VideoObject) -> Points:
    """The verified points of an object: none of a mouse trace, none that is ambiguous."""
    return Points.none() if is_traced(item.source) else item.points[item.points.label != AMBIGUOUS]


def is_traced(source: str) -> bool:
    """Whether an object with this source has the points of a mouse trace."""
    return source.startswith("trace/")
