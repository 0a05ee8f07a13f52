"""J&F of referring expressions: Ref-YouTube-VOS, Ref-DAVIS17 and MeViS beside Video Narrative Grounding.

A variant is an entry of `PROTOCOLS`; what they share is `narrative.evaluate_narrative`. Every decision: docs/protocols.md.
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
    """In what a protocol differs from the pooled score over annotated frames."""

    null_is_absent: bool = False  # the data set's files write null for an object that is not there
    per_annotator: bool = False  # the mean of the annotators' scores, of which each describes every object once


PROTOCOLS = {
    "vng": ReferringProtocol(),
    "ref-youtube-vos": ReferringProtocol(),
    "ref-davis": ReferringProtocol(per_annotator=True),
    "mevis": ReferringProtocol(null_is_absent=True),
}


def referring_protocol(name: str) -> ReferringProtocol:
    """A protocol by name; UsageError for an unknown one."""
    return PROTOCOLS[one_of(name, PROTOCOLS, "protocol")]


@dataclass(frozen=True)
class ReferringScores:
    """What a set of expressions scores; shares in [0, 1]."""

    protocol: str
    expressions: tuple[ExpressionScore, ...]
    annotators: tuple[int, ...]  # whose each expression is: the n-th that describes its object
    notes: tuple[Problem, ...] = ()  # what lies in the folder of predictions and belongs to no frame

    @property
    def j(self) -> float:
        """Mean J over expressions, under `ref-davis` over annotators."""
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
        return {k: {"J": _mean(its, "j"), "F": _mean(its, "f"), "expressions": len(its)} for k, its in groups.items()}

    def as_json(self) -> dict[str, Any]:
        """{"protocol", "J&F", "J", "F", "annotators" where they count, "expressions": [...]}."""
        made: dict[str, Any] = {"protocol": self.protocol, "J&F": self.jf, "J": self.j, "F": self.f}
        if PROTOCOLS[self.protocol].per_annotator:
            made["annotators"] = {str(k): value for k, value in self.by_annotator().items()}
        rows = zip(self.expressions, self.annotators, strict=True)
        return made | {"expressions": [{**asdict(score), "annotator": annotator} for score, annotator in rows]}

    def _mean(self, name: str) -> float:
        if not PROTOCOLS[self.protocol].per_annotator:
            return _mean(self.expressions, name)
        values = [value[name.upper()] for value in self.by_annotator().values()]
        return float(np.mean(values)) if values else float("nan")


def _mean(scores: Sequence[ExpressionScore], name: str) -> float:
    return float(np.mean([getattr(score, name) for score in scores])) if scores else float("nan")


def annotator_of(expressions: Sequence[ExpressionScore]) -> tuple[int, ...]:
    """The number of each expression among those of its object, in the order given."""
    seen: dict[tuple[str, str], int] = {}
    numbers = []
    for score in expressions:
        key = (score.video, score.object_id)
        numbers.append(seen.get(key, 0))
        seen[key] = numbers[-1] + 1
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
        videos: the truth; an expression's number is its place in the video.
        results: the predictions' folder.
        protocol: one of `PROTOCOLS`.
        missing: whether a prediction that is not there is an error or an empty mask.
        how: `strict` and `processes` of `evaluate_narrative`.

    Raises:
        DataErrors: every missing, unreadable or mis-sized prediction at once.
        UsageError: an unknown protocol.
    """
    scores = evaluate_narrative(truth_videos(videos, protocol), results, missing, **how)
    return ReferringScores(protocol, scores.expressions, annotator_of(scores.expressions), scores.notes)


def truth_videos(videos: Iterable[Video], protocol: str) -> Iterable[Video]:
    """Videos as a protocol takes their truth; UsageError for an unknown one."""
    return _with_absences(videos) if referring_protocol(protocol).null_is_absent else videos


def _with_absences(videos: Iterable[Video]) -> Iterator[Video]:
    """The same videos with an empty mask where an object has none."""
    for video in videos:
        absent = empty(video.height, video.width)
        objects = [
            replace(item, segmentations=tuple(absent if rle is None else rle for rle in item.segmentations))
            for item in video.objects
        ]
        yield replace(video, objects=tuple(objects))


def annotator_runs(results: Path) -> tuple[Run, ...]:
    """The folders `anno_<k>` of label maps that ReferFormer writes for Ref-DAVIS17; none where there are none."""
    found = {path.name[5:]: path for path in results.glob("anno_*") if path.is_dir() and path.name[5:].isdigit()}
    return tuple(Run(found[k]) for k in sorted(found, key=int))
