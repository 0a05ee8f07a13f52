"""Analyses in addition to the official Video Narrative Grounding score: influence of the words, and presence.

Same-noun subset: expressions whose noun word also names another object of the video. Swap rate: share of these
expressions whose masklet lies on one of those others. Presence: whether something is predicted exactly on the frames
with the object. None of these figures enters J&F. All decisions: docs/protocols.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vng.dataset import Video
from vng.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Interval, Measure, Ratio, bootstrap_interval
from vng.evaluation.figures import none_if_nan, percent
from vng.evaluation.narrative.scores import ExpressionScore, NarrativeScores, read_expression
from vng.evaluation.workers import in_order, known_length
from vng.masks import RLE, area, decode


@dataclass(frozen=True, kw_only=True)
class ExpressionDetail:
    """Analysis of one expression's prediction; frames are counted over the annotated ones.

    Attributes:
        score: its J and F.
        rivals: number of other objects of the video that expressions name by the same word.
        swapped: whether the masklet overlaps a rival's true masks more than those of its object; None without a rival
            to compare with.
        hits, misses: frames with the object on which something, or nothing, is predicted.
        hallucinated, silent: frames without it on which something, or nothing, is predicted.
        swapped_to: the rival it overlaps most, "" unless swapped.
        caption, span: the narrative, and the span of the noun in it.
    """

    score: ExpressionScore
    rivals: int
    swapped: bool | None
    hits: int
    misses: int
    hallucinated: int
    silent: int
    swapped_to: str = ""
    caption: str = ""
    span: tuple[int, int] = (0, 0)

    @property
    def jf(self) -> float:
        """Mean of J and F."""
        return 0.5 * (self.score.j + self.score.f)


@dataclass(frozen=True)
class NarrativeAnalysis:
    """Analysis of all scored expressions, in the official order."""

    scores: NarrativeScores
    details: tuple[ExpressionDetail, ...]

    @property
    def hardest_first(self) -> list[ExpressionDetail]:
        """Details sorted by J&F, lowest first; ties by video and number."""
        return sorted(self.details, key=lambda d: (d.jf, d.score.video, d.score.expression))

    def figures(self, nouns: bool = True) -> list[Measure]:
        """The official figures, then the others; same-noun figures only where expressions are `nouns`."""
        return [*self._official(), *(self._same_noun() if nouns else ()), *self._presence()]

    def _ratio(self, above: Callable[[ExpressionDetail], float], below: Callable[[ExpressionDetail], float]) -> Ratio:
        videos = [d.score.video for d in self.details]
        return Ratio.of(videos, [above(d) for d in self.details], [below(d) for d in self.details])

    def _official(self) -> list[Measure]:
        return [
            Measure("J&F", self._ratio(lambda d: d.jf, lambda d: 1), "mean over all expressions: the official score"),
            Measure("J", self._ratio(lambda d: d.score.j, lambda d: 1), "region similarity (IoU)"),
            Measure("F", self._ratio(lambda d: d.score.f, lambda d: 1), "boundary F-measure"),
        ]

    def _same_noun(self) -> list[Measure]:
        def same(d: ExpressionDetail) -> bool:
            return d.rivals > 0

        text = "expressions whose noun word also names another object of the video"
        alone = "expressions whose noun word names one object of the video"
        share = "same-noun expressions whose masklet overlaps another such object more than its own"
        return [
            Measure("same-noun J&F", self._ratio(lambda d: same(d) * d.jf, same), text),
            Measure("other-noun J&F", self._ratio(lambda d: (not same(d)) * d.jf, lambda d: not same(d)), alone),
            Measure("swap rate", self._ratio(lambda d: d.swapped is True, lambda d: d.swapped is not None), share),
        ]

    def _presence(self) -> list[Measure]:
        def double(d: ExpressionDetail) -> int:
            return 2 * d.hits + d.misses + d.hallucinated

        precision = self._ratio(lambda d: d.hits, lambda d: d.hits + d.hallucinated)
        recall = self._ratio(lambda d: d.hits, lambda d: d.hits + d.misses)
        f1 = self._ratio(lambda d: 2 * d.hits, double)
        false = self._ratio(lambda d: d.hallucinated, lambda d: d.hallucinated + d.silent)
        return [
            Measure("presence F1", f1, "harmonic mean of presence precision and recall"),
            Measure("presence precision", precision, "of frames with a predicted pixel, those with the object"),
            Measure("presence recall", recall, "of frames with the object, those with a predicted pixel"),
            Measure("hallucination rate", false, "of frames without the object, those with a predicted pixel"),
        ]

    def as_json(self) -> dict[str, Any]:
        """Keys besides the official ones: "intervals", "same_noun", "swap", "presence", "details"; shares in [0, 1]."""
        figures = {f.name: (bootstrap_interval(f.ratio), f.ratio.items) for f in self.figures()}
        rows = self.details
        return {
            "intervals": {
                "confidence": CONFIDENCE,
                "resamples": RESAMPLES,
                "over": "videos",
                **{name: _span(figures[name][0]) for name in ("J&F", "J", "F")},
            },
            "same_noun": {
                "expressions": figures["same-noun J&F"][1],
                "J&F": _figure(figures["same-noun J&F"][0]),
                "J": none_if_nan(_mean([d.score.j for d in rows if d.rivals])),
                "F": none_if_nan(_mean([d.score.f for d in rows if d.rivals])),
                "other J&F": _figure(figures["other-noun J&F"][0]),
            },
            "swap": {
                "expressions": figures["swap rate"][1],
                "swapped": sum(d.swapped is True for d in rows),
                "rate": _figure(figures["swap rate"][0]),
            },
            "presence": {
                "present_frames": sum(d.hits + d.misses for d in rows),
                "absent_frames": sum(d.hallucinated + d.silent for d in rows),
                **{key: _figure(figures[f"presence {key}"][0]) for key in ("precision", "recall", "F1")},
                "hallucination_rate": _figure(figures["hallucination rate"][0]),
            },
            "details": [
                {
                    "video": d.score.video,
                    "expression": d.score.expression,
                    "rivals": d.rivals,
                    "swapped": d.swapped,
                    "swapped_to": d.swapped_to or None,
                    "hits": d.hits,
                    "misses": d.misses,
                    "hallucinated": d.hallucinated,
                    "silent": d.silent,
                }
                for d in rows
            ],
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row per expression, hardest first; shares in [0, 1], frames as in `ExpressionDetail`."""
        names = ("rivals", "swapped", "swapped_to", "hits", "misses", "hallucinated", "silent")
        return [
            {
                **{name: getattr(d.score, name) for name in ("video", "expression", "noun", "object_id", "frames")},
                "J&F": d.jf,
                "J": d.score.j,
                "F": d.score.f,
                **{name: getattr(d, name) for name in names},
            }
            for d in self.hardest_first
        ]

    def table(self) -> str:
        """The table printed below the official line: figures in per cent, 95 % intervals, numbers of items."""
        lines = [f"{'':20} {'%':>6} {'95 % interval':>17} {'over':>7}  (bootstrap over videos)"]
        for figure in self.figures():
            interval = bootstrap_interval(figure.ratio)
            span = "-" if math.isnan(interval.low) else f"[{percent(interval.low)}, {percent(interval.high)}]"
            lines.append(f"{figure.name:20} {percent(interval.value):>6} {span:>17} {figure.ratio.items:>7}")
        return "\n".join(lines)


def _figure(interval: Interval) -> dict[str, float | None]:
    return {"value": none_if_nan(interval.value), "low": none_if_nan(interval.low), "high": none_if_nan(interval.high)}


def _span(interval: Interval) -> list[float | None]:
    return [none_if_nan(interval.low), none_if_nan(interval.high)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def noun_word(noun: str) -> str:
    """The head word: the last word of a noun span, in lower case; the whole span where it has no word.

    A word is a run of letters, digits, apostrophes and hyphens.
    """
    words = re.findall(r"[\w'’-]+", noun.casefold())
    return words[-1] if words else noun.strip().casefold()


def rivals(video: Video, index: int) -> list[str]:
    """Ids of other objects that expressions of the video name by the same word as this one, in order of naming."""
    own = video.expressions[index]
    word = noun_word(video.noun(own))
    same = [e.object_id for e in video.expressions if noun_word(video.noun(e)) == word]
    return [i for i in dict.fromkeys(same) if i != own.object_id]


def analyse_narrative(
    videos: Iterable[Video], results: Path, scores: NarrativeScores, processes: int = 1, progress: bool = False
) -> NarrativeAnalysis:
    """Analyse predictions scored by `evaluate_narrative`; reads only files that the scores do not determine.

    Args:
        videos: the ground truth, as it was scored (`own_object`).
        results: the predictions' folder.
        scores: the scores, with the values of each frame.
        processes, progress: as `evaluate_narrative`.

    Raises:
        DataErrors: unreadable or mis-sized predictions.
    """
    by_video: dict[str, list[ExpressionScore]] = {}
    for score in scores.expressions:
        by_video.setdefault(score.video, []).append(score)
    tasks = ((replace(video, frames=None), by_video.get(video.video_id, [])) for video in videos)
    details_by_video = in_order(partial(_details, results=results), tasks, processes, progress, known_length(videos))
    return NarrativeAnalysis(scores, tuple(detail for details in details_by_video for detail in details))


def _details(task: tuple[Video, list[ExpressionScore]], results: Path) -> list[ExpressionDetail]:
    video, scores = task
    return [_detail(video, score, results) for score in scores]


def _detail(video: Video, score: ExpressionScore, results: Path) -> ExpressionDetail:
    expression, others = video.expressions[score.expression], rivals(video, score.expression)
    place = {name: t for t, name in enumerate(video.frame_names)}
    frames = [place[name] for name in score.frame_names]
    truth = video.object_by_id[score.object_id].segmentations
    present = np.array([(rle := truth[t]) is not None and area(rle) > 0 for t in frames], bool)
    predicted = _predicted(video, score, frames, present, results)
    swapped, to = _swap(video, score, others, results)
    return ExpressionDetail(
        score=score,
        rivals=len(others),
        swapped=swapped,
        hits=int((present & predicted).sum()),
        misses=int((present & ~predicted).sum()),
        hallucinated=int((~present & predicted).sum()),
        silent=int((~present & ~predicted).sum()),
        swapped_to=to,
        caption=video.narratives[expression.narrative].description,
        span=(expression.start, expression.end),
    )


def _predicted(
    video: Video, score: ExpressionScore, frames: Sequence[int], present: np.ndarray, results: Path
) -> np.ndarray:
    """Flags bool [T'] of the frames on which a pixel is predicted.

    J determines them: for an empty true mask it is 1 or 0; for others it is above 0 only where something is predicted.
    At 0 the file has to be read.
    """
    j = np.array(score.j_frames)
    predicted = np.where(present, j > 0, j < 1)
    undecided = np.flatnonzero(present & (j == 0)).tolist()
    if undecided:
        masks = read_expression(video, score.expression, [frames[i] for i in undecided], results)
        predicted[undecided] = masks.any((1, 2))
    return predicted


def _swap(video: Video, score: ExpressionScore, others: Sequence[str], results: Path) -> tuple[bool | None, str]:
    """Whether the masklet overlaps another object more than its own, and which one most; None without one to compare.

    Overlap is the masklet's IoU, intersections and unions summed over the frames on which both objects are annotated.
    """
    truth = video.object_by_id[score.object_id].segmentations
    shared: dict[str, list[int]] = {}
    for other in others:
        masks = video.object_by_id[other].segmentations
        both = [t for t, rle in enumerate(truth) if rle is not None and masks[t] is not None]
        if both:
            shared[other] = both
    if not shared:
        return None, ""
    needed = sorted(set().union(*shared.values()))
    predicted = dict(zip(needed, read_expression(video, score.expression, needed, results), strict=True))
    own = {t: _overlap(truth[t], predicted[t]) for t in needed}
    best, to = 0.0, ""
    for other, frames in shared.items():
        masks = video.object_by_id[other].segmentations
        overlap = _iou([_overlap(masks[t], predicted[t]) for t in frames])
        if overlap > _iou([own[t] for t in frames]) and overlap > best:
            best, to = overlap, other
    return bool(to), to


def _overlap(truth: RLE | None, predicted: np.ndarray) -> tuple[int, int]:
    """Numbers of pixels of the intersection and the union."""
    if truth is None:
        raise ValueError("the overlap with an unannotated mask is undefined")
    mask = decode(truth)
    return int(np.count_nonzero(mask & predicted)), int(np.count_nonzero(mask | predicted))


def _iou(pairs: Sequence[tuple[int, int]]) -> float:
    """IoU of a masklet from its frames' intersections and unions; 1 for two empty ones."""
    inter, union = (sum(values) for values in zip(*pairs, strict=True))
    return inter / union if union else 1.0
