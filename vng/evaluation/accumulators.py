"""Scores of masks in memory: `add(...)` as often as there are videos, then `compute()`.

    score = VosScore("davis")
    score.add("bear", truth, prediction)       # bool [T, H, W] or a list of RLE | None; {object id: masks} for several
    score.compute()                            # {"J&F": ..., "J": ..., "F": ..., ...}

`compute` changes nothing and may be called at any time. A score pickles: each process adds its own videos, then
`accelerate.utils.gather_object([score])` and `merge`; the result does not depend on who added what, or when.
Rules are those of the commands (docs/protocols.md), by the same code. See also `InstanceScore`, `PointScore`, `TraceScore`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vng.dataset import Video, VideoObject
from vng.evaluation.metrics import Mask, frame_scores, pairwise_frame_scores
from vng.evaluation.narrative.referring import ReferringScores, annotator_of, referring_protocol
from vng.evaluation.narrative.scores import ExpressionScore
from vng.evaluation.predictions import Missing
from vng.evaluation.vos.proposals import UNSUPERVISED, ProposalScores
from vng.evaluation.vos.runs import Run
from vng.evaluation.vos.scores import ObjectScore, VosScores, object_scores
from vng.evaluation.vos.tables import summary_figures
from vng.evaluation.vos.targets import LeftOut, Protocol, Target, Targets, Truth
from vng.masks import RLE, empty, encode, union
from vng.points import Points

Masks = np.ndarray | Sequence[Mask | None]  # [T, H, W], or a mask a frame; None: not annotated, or not predicted


@dataclass
class VosScore:
    """Scores of video object segmentation under one protocol.

    Args:
        protocol: "davis", "davis-2016", "davis-unsupervised", "youtube-vos" or "point-vos".
        official: the official program's faults too.
        truth: how "point-vos" takes the ground truth.
        seen: categories that were seen in training, for G.
        missing: whether None in a prediction, or an object that is not in it, is an error or an empty mask.
    """

    protocol: str = "davis"
    official: bool = False
    truth: Truth = "auto"
    seen: Collection[str] | None = None
    missing: Missing = "error"
    _videos: dict[str, tuple[list[ObjectScore], tuple[LeftOut, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rules = Protocol(self.protocol, self.official, self.truth)

    def add(
        self,
        video_id: str,
        truth: Masks | Mapping[str, Masks],
        prediction: Masks | Mapping[str, Masks],
        *,
        categories: Mapping[str, str] | None = None,
        points: Mapping[str, Points] | None = None,
        void: np.ndarray | None = None,
    ) -> None:
        """Add a video.

        Args:
            video_id: any name, once.
            truth: masks of its one object "1", or of each object by id.
            prediction: the same; with "davis-unsupervised" at most 20 proposals, whatever their ids.
            categories: object id -> category, for G.
            points: object id -> points, for "point-vos".
            void: bool [T, H, W], pixels to leave out ("davis-unsupervised").

        Raises:
            ValueError: a video twice, numbers of frames or sizes that differ, a prediction that is missing.
        """
        if video_id in self._videos:
            raise ValueError(f"video {video_id!r} was added before")
        true, predicted = _by_id(truth), _by_id(prediction)
        video = _video(video_id, true, categories or {}, points or {})
        _check_lengths(video, predicted)
        targets = self._rules.targets(video)
        match = self._matched if self.protocol == UNSUPERVISED else self._scored
        rows = match(video, targets, predicted, void) if targets.scored else []
        self._videos[video_id] = object_scores(video, targets, rows), targets.left_out

    def add_batch(self, videos: Iterable[tuple[Any, ...]]) -> None:
        """Add videos: (id, truth, prediction) each."""
        for video in videos:
            self.add(*video)

    def merge(self, other: VosScore) -> None:
        """Take over the videos of another one; ValueError where both hold one or their rules differ."""
        if self._rules != other._rules or self.seen != other.seen:
            raise ValueError("the two score by different rules")
        self._videos |= _others(self._videos, other._videos)

    def scores(self) -> VosScores:
        """Everything: each object's scores on each frame."""
        ordered = [self._videos[name] for name in sorted(self._videos)]
        objects = tuple(score for scores, _ in ordered for score in scores)
        left_out = tuple(item for _, items in ordered for item in items)
        return VosScores(Run(Path(".")), self._rules, objects, left_out)

    def compute(self) -> dict[str, float]:
        """Means over objects, shares in [0, 1]; NaN where nothing was scored.

        "J&F", "J", "F", "J-recall", "J-decay", "F-recall", "F-decay", and where `seen` is given "G", "J-seen", "F-seen",
        "J-unseen", "F-unseen".
        """
        scores = self.scores()
        made = summary_figures(scores.summary())
        if self.seen is not None:
            overall = scores.overall(self.seen)
            made["G"] = overall.g
            for name, part in (("seen", overall.seen), ("unseen", overall.unseen)):
                made |= {f"J-{name}": part.j.mean, f"F-{name}": part.f.mean}
        return made

    def _scored(
        self, video: Video, targets: Targets, predicted: Mapping[str, Masks], _void: np.ndarray | None
    ) -> list[list[tuple[float, float]]]:
        rows: list[list[tuple[float, float]]] = [[] for _ in targets.scored]
        for t in sorted(set().union(*(target.frames for target in targets.scored))):
            there = [k for k, target in enumerate(targets.scored) if t in target.frames]
            truth = [_at(targets.scored[k].masks, t) for k in there]
            masks = [self._prediction(video, targets.scored[k], predicted, t) for k in there]
            for k, j, f in zip(there, *frame_scores(truth, masks), strict=True):
                rows[k].append((float(j), float(f)))
        return rows

    def _matched(
        self, video: Video, targets: Targets, predicted: Mapping[str, Masks], void: np.ndarray | None
    ) -> list[list[tuple[float, float]]]:
        scores = ProposalScores([target.frames for target in targets.scored])
        for t in sorted(set().union(*(target.frames for target in targets.scored))):
            truth = [_at(target.masks, t) for target in targets.scored if t in target.frames]
            shown = {n: mask for n, its in enumerate(predicted.values(), 1) if (mask := its[t]) is not None}
            masks = [*shown.values(), empty(video.height, video.width)]
            scores.add(t, list(shown), pairwise_frame_scores(truth, masks, None if void is None else void[t]))
        return scores.matched(by_proposal=self.official)

    def _prediction(self, video: Video, target: Target, predicted: Mapping[str, Masks], t: int) -> Mask:
        if target.merged:
            return _union(video, [masks[t] for masks in predicted.values()])
        masks = predicted.get(target.object_id)
        found = None if masks is None else masks[t]
        if found is None and self.missing == "error" and target.number is None:
            raise ValueError(f"video {video.video_id!r}: no prediction of object {target.object_id!r} in frame {t}")
        return empty(video.height, video.width) if found is None else found


@dataclass
class NarrativeScore:
    """J&F of expressions: each is scored on the frames whose truth is known, then all are pooled.

    Args:
        protocol: "vng", "ref-youtube-vos", "ref-davis" or "mevis" (`referring.PROTOCOLS`).
        missing: whether None in a prediction is an error or an empty mask.
    """

    protocol: str = "vng"
    missing: Missing = "error"
    _expressions: dict[tuple[str, int], ExpressionScore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rules = referring_protocol(self.protocol)

    def add(
        self,
        video_id: str,
        expression: int,
        truth: Masks,
        prediction: Masks,
        *,
        noun: str = "",
        object_id: str = "",
    ) -> None:
        """Add an expression.

        Args:
            video_id, expression: where it stands: the video and its number there.
            truth: masks of the object it means; None where not annotated (with "mevis": absent).
            prediction: masks of the same frames.
            noun, object_id: for tables; "ref-davis" counts the expressions of an object as those of annotators.

        Raises:
            ValueError: an expression twice, numbers of frames or sizes that differ, a prediction that is missing.
        """
        key = (video_id, expression)
        if key in self._expressions:
            raise ValueError(f"expression {expression} of video {video_id!r} was added before")
        if len(truth) != len(prediction):
            raise ValueError(f"video {video_id!r}: {len(truth)} true and {len(prediction)} predicted masks")
        if self._rules.null_is_absent:
            size = next((_size(mask) for mask in (*truth, *prediction) if mask is not None), (0, 0))
            truth = [empty(*size) if mask is None else mask for mask in truth]
        known = [(t, mask) for t, mask in enumerate(truth) if mask is not None]
        rows = [frame_scores([mask], [self._prediction(key, mask, prediction[t], t)]) for t, mask in known]
        if not rows:
            return  # nothing is known of it
        j, f = (np.array([row[which][0] for row in rows]) for which in (0, 1))
        names = tuple(str(t) for t, _ in known)
        values = (float(j.mean()), float(f.mean()), len(known), names, tuple(j.tolist()), tuple(f.tolist()))
        self._expressions[key] = ExpressionScore(video_id, expression, noun, object_id, *values)

    def add_batch(self, expressions: Iterable[tuple[Any, ...]]) -> None:
        """Add expressions: (video id, number, truth, prediction) each."""
        for expression in expressions:
            self.add(*expression)

    def merge(self, other: NarrativeScore) -> None:
        """Take over the expressions of another one; ValueError where both hold one or their protocols differ."""
        if self.protocol != other.protocol:
            raise ValueError("the two score by different rules")
        self._expressions |= _others(self._expressions, other._expressions)

    def scores(self) -> ReferringScores:
        """Everything: each expression's scores on each frame."""
        ordered = tuple(self._expressions[key] for key in sorted(self._expressions))
        return ReferringScores(self.protocol, ordered, annotator_of(ordered))

    def compute(self) -> dict[str, float]:
        """{"J&F", "J", "F"}, shares in [0, 1]; NaN where nothing was scored."""
        scores = self.scores()
        return {"J&F": scores.jf, "J": scores.j, "F": scores.f}

    def _prediction(self, key: tuple[str, int], truth: Mask, found: Mask | None, t: int) -> Mask:
        if found is None and self.missing == "error":
            raise ValueError(f"video {key[0]!r}: no prediction of expression {key[1]} in frame {t}")
        return empty(*_size(truth)) if found is None else found


def _by_id(masks: Masks | Mapping[str, Masks]) -> Mapping[str, Masks]:
    return masks if isinstance(masks, Mapping) else {"1": masks}


def _others(mine: Collection[Any], more: dict[Any, Any]) -> dict[Any, Any]:
    if both := set(mine) & set(more):
        raise ValueError(f"{sorted(both)[0]!r} was added to both")
    return more


def _size(mask: Mask) -> tuple[int, int]:
    if isinstance(mask, RLE):
        return mask.size
    if mask.ndim != 2:
        raise ValueError(f"masks are [T, H, W], or one [H, W] a frame; got a frame of shape {list(mask.shape)}")
    return int(mask.shape[0]), int(mask.shape[1])


def _at(masks: Sequence[RLE | None], t: int) -> RLE:
    rle = masks[t]
    assert rle is not None  # protocols choose frames that are annotated
    return rle


def _video(
    video_id: str, truth: Mapping[str, Masks], categories: Mapping[str, str], points: Mapping[str, Points]
) -> Video:
    """A record without pixels of these masks."""
    sizes = {_size(mask) for masks in truth.values() for mask in masks if mask is not None}
    lengths = {len(masks) for masks in truth.values()}
    if len(sizes) != 1 or len(lengths) != 1:
        reason = f"true masks of sizes {sorted(sizes)} over {sorted(lengths)} frames, expected one of each"
        raise ValueError(f"video {video_id!r}: {reason}")
    (height, width), length = sizes.pop(), lengths.pop()
    objects = tuple(
        VideoObject(i, categories.get(i, ""), "", _rles(masks), points.get(i, Points.none()))
        for i, masks in truth.items()
    )
    names = tuple(f"{t:05d}" for t in range(length))
    return Video(video_id, "memory", "memory", height, width, 0.0, names, (), (), objects)


def _rles(masks: Masks) -> tuple[RLE | None, ...]:
    return tuple(mask if mask is None or isinstance(mask, RLE) else encode(mask) for mask in masks)


def _check_lengths(video: Video, predicted: Mapping[str, Masks]) -> None:
    for name, masks in predicted.items():
        if len(masks) != len(video.frame_names):
            reason = f"{len(masks)} masks of {name!r} for {len(video.frame_names)} frames"
            raise ValueError(f"video {video.video_id!r}: {reason}")


def _union(video: Video, masks: Sequence[Mask | None]) -> Mask:
    rles = [rle for rle in _rles(masks) if rle is not None]
    return union(rles) if rles else empty(video.height, video.width)
