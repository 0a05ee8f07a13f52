"""J&F of referring expressions: Ref-YouTube-VOS, Ref-DAVIS17, MeViS, and Video Narrative Grounding.

Each variant is an entry of `PROTOCOLS`; all use `evaluate_narrative`. All decisions: docs/protocols.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vng.dataset import Video
from vng.errors import Problem, one_of
from vng.evaluation.narrative.scores import ExpressionScore, evaluate_narrative
from vng.evaluation.predictions import Missing
from vng.evaluation.vos.scores import Run
from vng.masks import empty


@dataclass(frozen=True)
class ReferringProtocol:
    """The differences of a protocol from the pooled score over annotated frames."""

    null_is_absent: bool = False  # null in the data set's files means that the object is absent
    # the mean over annotators, each of whom describes every object once
    per_annotator: bool = False


PROTOCOLS = {
    "vng": ReferringProtocol(),
    "ref-youtube-vos": ReferringProtocol(),
    "ref-davis": ReferringProtocol(per_annotator=True),
    "mevis": ReferringProtocol(null_is_absent=True),
}


def referring_protocol(name: str) -> ReferringProtocol:
    """The protocol of this name; raises UsageError for an unknown one."""
    return PROTOCOLS[one_of(name, PROTOCOLS, "protocol")]


@dataclass(frozen=True)
class ReferringScores:
    """Scores of a set of expressions; shares in [0, 1]."""

    protocol: str
    expressions: tuple[ExpressionScore, ...]
    annotators: tuple[int, ...]  # annotator of each expression: n for the n-th one of its object
    notes: tuple[Problem, ...] = ()  # unexpected files and folders among the predictions

    @property
    def j(self) -> float:
        """Mean J over expressions; with `ref-davis` mean over annotators."""
        return self._mean("j")

    @property
    def f(self) -> float:
        """Mean F, as `j`."""
        return self._mean("f")

    @property
    def jf(self) -> float:
        """J&F."""
        return 0.5 * (self.j + self.f)

    def by_annotator(self) -> dict[int, dict[str, float]]:
        """{"J", "F", "expressions"} of each annotator."""
        groups = {
            k: [s for s, a in zip(self.expressions, self.annotators, strict=True) if a == k]
            for k in sorted(set(self.annotators))
        }
        return {k: {"J": _mean(v, "j"), "F": _mean(v, "f"), "expressions": len(v)} for k, v in groups.items()}

    def as_json(self) -> dict[str, Any]:
        """{"protocol", "J&F", "J", "F", "annotators" with per-annotator protocols, "expressions": [...]}."""
        result: dict[str, Any] = {"protocol": self.protocol, "J&F": self.jf, "J": self.j, "F": self.f}
        if PROTOCOLS[self.protocol].per_annotator:
            result["annotators"] = {str(k): value for k, value in self.by_annotator().items()}
        rows = zip(self.expressions, self.annotators, strict=True)
        return result | {"expressions": [{**asdict(score), "annotator": annotator} for score, annotator in rows]}

    def _mean(self, name: str) -> float:
        if not PROTOCOLS[self.protocol].per_annotator:
            return _mean(self.expressions, name)
        values = [value[name.upper()] for value in self.by_annotator().values()]
        return float(np.mean(values)) if values else float("nan")


def _mean(scores: Sequence[ExpressionScore], name: str) -> float:
    return float(np.mean([getattr(score, name) for score in scores])) if scores else float("nan")


def annotator_of(expressions: Sequence[ExpressionScore]) -> tuple[int, ...]:
    """The number of each expression among those of its object, in this order."""
    counts: dict[tuple[str, str], int] = {}
    numbers = []
    for score in expressions:
        key = (score.video, score.object_id)
        numbers.append(counts.get(key, 0))
        counts[key] = numbers[-1] + 1
    return tuple(numbers)


def evaluate_referring(
    videos: Iterable[Video],
    results: Path,
    protocol: str = "ref-youtube-vos",
    missing: Missing = "error",
    **how: Any,
) -> ReferringScores:
    """Score a folder of predictions `<results>/<video>/<expression>/<frame>.png`.

    Args:
        videos: the ground truth; an expression's number is its index in the video.
        results: the predictions' folder.
        protocol: one of `PROTOCOLS`.
        missing: whether a missing prediction is an error or an empty mask.
        how: `strict`, `processes` and `progress` of `evaluate_narrative`.

    Raises:
        DataErrors: all missing, unreadable or mis-sized predictions.
        UsageError: an unknown protocol.
    """
    scores = evaluate_narrative(truth_videos(videos, protocol), results, missing, **how)
    return ReferringScores(protocol, scores.expressions, annotator_of(scores.expressions), scores.notes)


def truth_videos(videos: Iterable[Video], protocol: str) -> Iterable[Video]:
    """Videos with the ground truth as a protocol reads it; raises UsageError for an unknown protocol."""
    return _with_absences(videos) if referring_protocol(protocol).null_is_absent else videos


def _with_absences(videos: Iterable[Video]) -> Iterator[Video]:
    """The same videos with empty masks in place of null."""
    for video in videos:
        absent = empty(video.height, video.width)
        objects = [
            replace(item, segmentations=tuple(absent if rle is None else rle for rle in item.segmentations))
            for item in video.objects
        ]
        yield replace(video, objects=tuple(objects))


def annotator_runs(results: Path) -> tuple[Run, ...]:
    """The folders `anno_<k>` of label maps that ReferFormer writes for Ref-DAVIS17; empty where there are none."""
    folders = {path.name[5:]: path for path in results.glob("anno_*") if path.is_dir() and path.name[5:].isdigit()}
    return tuple(Run(folders[k]) for k in sorted(folders, key=int))
