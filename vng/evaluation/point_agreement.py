"""Agreement of predicted masks with points that people verified: positives belong inside, negatives outside.

Where no mask is known this is what can be measured (Point-VOS, 2402.05917). Ambiguous points never count, nor do those
of mouse traces, which nobody verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vng.dataset import Video
from vng.errors import DataError, DataErrors, Problem
from vng.evaluation.predictions import Missing
from vng.evaluation.vos_results import Run, VideoPredictions
from vng.masks import RLE, decode
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points, read_at


@dataclass(frozen=True)
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

    @property
    def agreement(self) -> float:
        """Share of its points on the right side."""
        return (self.positives_inside + self.negatives_outside) / (self.positives + self.negatives)


@dataclass
class PointScore:
    """Point agreement of what is added, object by object."""

    _objects: dict[tuple[str, str], ObjectAgreement] = field(default_factory=dict)

    def add(
        self,
        video_id: str,
        object_id: str,
        points: Points,
        prediction: Sequence[np.ndarray | RLE | None] | Mapping[int, np.ndarray | RLE | None] | np.ndarray,
        *,
        name: str = "",
    ) -> None:
        """Add an object.

        Args:
            video_id, object_id: which one, once.
            points: its points; an object without one that counts is left out.
            prediction: masks [H, W] or RLE by frame; None shows nothing. Frames without points are not looked at.
            name: for tables.

        Raises:
            ValueError: an object twice, a point outside its frame.
        """
        if (video_id, object_id) in self._objects:
            raise ValueError(f"object {object_id!r} of video {video_id!r} was added before")
        counting = points[points.label != AMBIGUOUS]
        inside = np.zeros(len(counting), bool)
        for t in np.unique(counting.frame):
            here = counting.frame == t
            mask = prediction[int(t)]
            if mask is not None:
                inside[here] = read_at(decode(mask) if isinstance(mask, RLE) else mask, counting.xy[here]) != 0
        if len(counting):
            positive, negative = counting.label == POSITIVE, counting.label == NEGATIVE
            counts = (positive, positive & inside, negative, negative & ~inside)
            frames = len(np.unique(counting.frame))
            self._objects[video_id, object_id] = ObjectAgreement(
                video_id, object_id, name, frames, *(int(flags.sum()) for flags in counts)
            )

    def add_batch(self, objects: Iterable[tuple[Any, ...]]) -> None:
        """Add objects: (video id, object id, points, prediction) each."""
        for item in objects:
            self.add(*item)

    def merge(self, other: PointScore) -> None:
        """Take over the objects of another one; ValueError where both hold one."""
        if both := set(self._objects) & set(other._objects):
            raise ValueError(f"{sorted(both)[0]!r} was added to both")
        self._objects |= other._objects

    @property
    def objects(self) -> tuple[ObjectAgreement, ...]:
        """By video and object."""
        return tuple(self._objects[key] for key in sorted(self._objects))

    def compute(self) -> dict[str, float]:
        """Shares in [0, 1], NaN where there is no such point.

        "agreement" of all points pooled, "positives-inside", "negatives-outside", and "object-agreement", the mean over
        objects of their own agreement.
        """
        items = self.objects
        totals = {name: sum(getattr(item, name) for item in items) for name in
                  ("positives", "positives_inside", "negatives", "negatives_outside")}  # fmt: skip
        right = totals["positives_inside"] + totals["negatives_outside"]
        return {
            "agreement": _share(right, totals["positives"] + totals["negatives"]),
            "positives-inside": _share(totals["positives_inside"], totals["positives"]),
            "negatives-outside": _share(totals["negatives_outside"], totals["negatives"]),
            "object-agreement": _share(sum(item.agreement for item in items), len(items)),
        }

    def as_json(self) -> dict[str, Any]:
        """`compute` (null for NaN) and {"points", "objects": [...]}."""
        made: dict[str, Any] = {k: None if np.isnan(v) else v for k, v in self.compute().items()}
        made["points"] = sum(item.positives + item.negatives for item in self.objects)
        return made | {"objects": [{**asdict(item), "agreement": item.agreement} for item in self.objects]}


def _share(part: float, whole: int) -> float:
    return part / whole if whole else float("nan")


def evaluate_points(videos: Iterable[Video], run: Run, missing: Missing = "error") -> PointScore:
    """Score a folder of label maps, `<results>/<video>/<frame>.png`; only frames with points need be there.

    Args:
        videos: a dataset with verified points.
        run: the predictions (`plain_run`).
        missing: whether a prediction that is not there is an error or an empty mask.

    Raises:
        DataErrors: every missing, unreadable, mis-sized or mis-numbered prediction at once.
        DataError: no verified point in the dataset.
    """
    score, problems, source = PointScore(), list[Problem](), ""
    for video in videos:
        source = video.dataset
        verified = [o for o in video.objects if (o.points.label != AMBIGUOUS).any() and not is_traced(o.source)]
        frames = {int(t) for item in verified for t in item.points.frame[item.points.label != AMBIGUOUS]}
        try:
            reader = VideoPredictions(run, video, missing)
        except DataError as error:
            problems.append(error.problem)
            continue
        reader.missing(frames)
        labels = {t: reader.read(t, reader.numbers.values()) for t in sorted(frames)}
        problems += reader.problems
        if problems:
            continue
        for item in verified:
            number = reader.numbers[item.object_id]
            masks = {t: None if shown is None else shown == number for t, shown in labels.items()}
            score.add(video.video_id, item.object_id, item.points, masks, name=item.name)
    if problems:
        raise DataErrors(problems)
    if not score.objects:
        raise DataError(source, "", "objects.points", "no verified point", "give a dataset made from points")
    return score


def is_traced(source: str) -> bool:
    """Whether an object's points are those of a mouse trace."""
    return source.startswith("trace/")
