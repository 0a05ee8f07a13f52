"""Agreement of predicted masks with points that people verified: positives belong inside, negatives outside.

Where no mask is known this is what can be measured (Point-VOS, 2402.05917). Ambiguous points never count, nor do those
of mouse traces, which nobody verified.
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
    """Points of one object: how many there are of a kind, and how many of them the prediction has on the right side."""

    video: str
    object_id: str
    name: str
    frames: int  # with a point that counts
    positives: int
    positives_inside: int
    negatives: int
    negatives_outside: int
    frame_names: tuple[str, ...] = ()  # of those frames; their numbers where no names are known
    frame_agreement: tuple[float, ...] = ()  # share of each one's points on the right side

    @property
    def agreement(self) -> float:
        """Share of its points on the right side."""
        return (self.positives_inside + self.negatives_outside) / (self.positives + self.negatives)


@dataclass
class PointScore(Accumulator[ObjectAgreement]):
    """Point agreement of what is added, object by object.

    Attributes:
        notes: files and folders of no frame or video, of predictions that were read from files.
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
            video_id, object_id: which one, once.
            points: its points; an object without one that counts is left out.
            prediction: masks [H, W] or RLE by frame; None shows nothing. Frames without points are not looked at.
            name, frame_names: for tables; frames are the video's, by number.

        Raises:
            ValueError: an object twice, a point outside its frame.
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
        """By video and object."""
        return tuple(self._parts[key] for key in sorted(self._parts))

    def compute(self) -> dict[str, float]:
        """Shares in [0, 1], NaN where there is no such point.

        "agreement" of all points pooled, "positives-inside", "negatives-outside", and "object-agreement", the mean over
        objects of their own agreement.
        """
        items = self.objects
        totals = {
            name: sum(getattr(item, name) for item in items)
            for name in ("positives", "positives_inside", "negatives", "negatives_outside")
        }
        right = totals["positives_inside"] + totals["negatives_outside"]
        return {
            "agreement": share(right, totals["positives"] + totals["negatives"]),
            "positives-inside": share(totals["positives_inside"], totals["positives"]),
            "negatives-outside": share(totals["negatives_outside"], totals["negatives"]),
            "object-agreement": share(sum(item.agreement for item in items), len(items)),
        }

    def as_json(self) -> dict[str, Any]:
        """`compute` (null for NaN) and {"points", "objects": [...]}."""
        made: dict[str, Any] = {k: None if np.isnan(v) else v for k, v in self.compute().items()}
        made["points"] = sum(item.positives + item.negatives for item in self.objects)
        return made | {"objects": [{**asdict(item), "agreement": item.agreement} for item in self.objects]}


def share(part: float, whole: int) -> float:
    """part / whole, NaN where there is nothing to divide by."""
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
    """Score a folder of label maps, `<results>/<video>/<frame>.png`; only frames with points need be there.

    Args:
        videos: a dataset with verified points.
        run: the predictions (`plain_run`).
        missing: whether a prediction that is not there is an error or an empty mask.
        strict: whether files and folders of no frame or video are errors; else they are `PointScore.notes`.
        processes: how many score, a video each; no figure depends on it.
        progress: a bar that counts videos.

    Raises:
        DataErrors: every missing, unreadable, mis-sized or mis-numbered prediction at once.
        DataError: no verified point in the dataset.
        WorkerDied: one of several processes was killed.
    """
    score, problems, known = PointScore(), list[Problem](), set[str]()
    work = partial(_evaluate_video, run=run, missing=missing)
    found = score_videos(work, videos, problems, known, processes, progress)
    dataset, score.notes = gather(found, score.merge, problems, run.folder, known, strict)
    if not score.objects:
        raise DataError(
            dataset, field="objects.points", reason="no verified point", cure="give a dataset made from points"
        )
    return score


def _evaluate_video(task: tuple[Video, bool], run: Run, missing: Missing) -> VideoOutcome[PointScore]:
    """One video, without its pixels; whether to measure, or only to read what is wrong."""
    video, scoring = task
    made = VideoOutcome(PointScore(), video.dataset)
    verified = [item for item in video.objects if len(counting_points(item))]
    frames = {int(t) for item in verified for t in counting_points(item).frame}
    try:
        reader = VideoPredictions(run, video, missing)
    except DataError as error:  # a name that leads out of the folder, too many objects
        made.problems.append(error.problem)
        return made
    reader.missing(frames)
    labels = {t: reader.read(t, reader.numbers.values()) for t in sorted(frames)}
    made.problems, made.notes = reader.problems, reader.extras()
    if made.problems or not scoring:
        return made
    for item in verified:
        number = reader.numbers[item.object_id]
        masks = {t: None if shown is None else shown == number for t, shown in labels.items()}
        names = video.frame_names
        made.score.add(video.video_id, item.object_id, counting_points(item), masks, name=item.name, frame_names=names)
    return made


def counting_points(item: VideoObject) -> Points:
    """The points of an object that somebody verified: none of a mouse trace, none that is ambiguous."""
    return Points.none() if is_traced(item.source) else item.points[item.points.label != AMBIGUOUS]


def is_traced(source: str) -> bool:
    """Whether an object's points are those of a mouse trace."""
    return source.startswith("trace/")
