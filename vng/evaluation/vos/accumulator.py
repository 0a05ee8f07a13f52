"""Scores of video object segmentation for masks in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vng.dataset import Video, VideoObject
from vng.evaluation.accumulator import Accumulator, Masks, size_of
from vng.evaluation.metrics import Mask, frame_scores, pairwise_frame_scores
from vng.evaluation.predictions import Missing
from vng.evaluation.vos.proposals import UNSUPERVISED, ProposalScores
from vng.evaluation.vos.runs import Run
from vng.evaluation.vos.scores import ObjectScore, VosScores, object_scores
from vng.evaluation.vos.tables import summary_figures
from vng.evaluation.vos.targets import LeftOut, Protocol, Target, Targets, Truth
from vng.masks import RLE, empty, encode, union
from vng.points import Points


@dataclass
class VosScore(Accumulator[tuple[list[ObjectScore], tuple[LeftOut, ...]]]):
    """Scores of video object segmentation under one protocol.

    Args:
        protocol: "davis", "davis-2016", "davis-unsupervised", "youtube-vos" or "point-vos".
        official: whether to reproduce the official program's faults.
        truth: how "point-vos" reads the ground truth.
        seen: categories seen in training, for G.
        missing: whether None in a prediction, or an object without a prediction, is an error or an empty mask.
    """

    protocol: str = "davis"
    official: bool = False
    truth: Truth = "auto"
    seen: Collection[str] | None = None
    missing: Missing = "error"
    _parts: dict[str, tuple[list[ObjectScore], tuple[LeftOut, ...]]] = field(default_factory=dict)

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
            video_id: any name; it can be added only once.
            truth: masks of a single object "1", or of each object by id.
            prediction: the same; with "davis-unsupervised" at most 20 proposals with any ids.
            categories: object id -> category, for G.
            points: object id -> points, for "point-vos".
            void: bool [T, H, W], pixels to exclude ("davis-unsupervised").

        Raises:
            ValueError: a video added twice, numbers of frames or sizes that differ, a missing prediction.
        """
        self._check_new(video_id, f"video {video_id!r}")
        true, predicted = _by_id(truth), _by_id(prediction)
        video = _video(video_id, true, categories or {}, points or {})
        _check_lengths(video, predicted)
        targets = self._rules.targets(video)
        match = self._matched if self.protocol == UNSUPERVISED else self._scored
        rows = match(video, targets, predicted, void) if targets.scored else []
        self._parts[video_id] = object_scores(video, targets, rows), targets.left_out

    def rules(self) -> Any:
        """Protocol and seen categories, which two scores must share to be merged."""
        return self._rules, self.seen

    def scores(self) -> VosScores:
        """All scores: those of each object on each frame."""
        ordered = [self._parts[name] for name in sorted(self._parts)]
        objects = tuple(score for scores, _ in ordered for score in scores)
        left_out = tuple(item for _, items in ordered for item in items)
        return VosScores(Run(Path(".")), self._rules, objects, left_out)

    def compute(self) -> dict[str, float]:
        """Means over objects, shares in [0, 1]; NaN where nothing was scored.

        "J&F", "J", "F", "J-recall", "J-decay", "F-recall", "F-decay", and with `seen` also "G", "J-seen", "F-seen",
        "J-unseen", "F-unseen".
        """
        scores = self.scores()
        figures = summary_figures(scores.summary())
        if self.seen is not None:
            overall = scores.overall(self.seen)
            figures["G"] = overall.g
            for name, part in (("seen", overall.seen), ("unseen", overall.unseen)):
                figures |= {f"J-{name}": part.j.mean, f"F-{name}": part.f.mean}
        return figures

    def _scored(
        self, video: Video, targets: Targets, predicted: Mapping[str, Masks], _void: np.ndarray | None
    ) -> list[list[tuple[float, float]]]:
        rows: list[list[tuple[float, float]]] = [[] for _ in targets.scored]
        for t in sorted(set().union(*(target.frames for target in targets.scored))):
            counted = [k for k, target in enumerate(targets.scored) if t in target.frames]
            truth = [_at(targets.scored[k].masks, t) for k in counted]
            masks = [self._prediction(video, targets.scored[k], predicted, t) for k in counted]
            for k, j, f in zip(counted, *frame_scores(truth, masks), strict=True):
                rows[k].append((float(j), float(f)))
        return rows

    def _matched(
        self, video: Video, targets: Targets, predicted: Mapping[str, Masks], void: np.ndarray | None
    ) -> list[list[tuple[float, float]]]:
        scores = ProposalScores([target.frames for target in targets.scored])
        for t in sorted(set().union(*(target.frames for target in targets.scored))):
            truth = [_at(target.masks, t) for target in targets.scored if t in target.frames]
            proposals = {n: mask for n, masks in enumerate(predicted.values(), 1) if (mask := masks[t]) is not None}
            candidates = [*proposals.values(), empty(video.height, video.width)]
            scores.add(t, list(proposals), pairwise_frame_scores(truth, candidates, None if void is None else void[t]))
        return scores.matched(by_proposal=self.official)

    def _prediction(self, video: Video, target: Target, predicted: Mapping[str, Masks], t: int) -> Mask:
        if target.merged:
            return _union(video, [masks[t] for masks in predicted.values()])
        masks = predicted.get(target.object_id)
        mask = None if masks is None else masks[t]
        if mask is None and self.missing == "error" and target.number is None:
            raise ValueError(f"video {video.video_id!r}: no prediction of object {target.object_id!r} in frame {t}")
        return empty(video.height, video.width) if mask is None else mask


def _by_id(masks: Masks | Mapping[str, Masks]) -> Mapping[str, Masks]:
    return masks if isinstance(masks, Mapping) else {"1": masks}


def _at(masks: Sequence[RLE | None], t: int) -> RLE:
    rle = masks[t]
    assert rle is not None  # protocols choose only annotated frames
    return rle


def _video(
    video_id: str, truth: Mapping[str, Masks], categories: Mapping[str, str], points: Mapping[str, Points]
) -> Video:
    """A video record of these masks, without pixels."""
    sizes = {size_of(mask) for masks in truth.values() for mask in masks if mask is not None}
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
    return Video(
        video_id=video_id,
        dataset="memory",
        split="memory",
        height=height,
        width=width,
        fps=0.0,
        frame_names=names,
        narratives=(),
        expressions=(),
        objects=objects,
    )


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
