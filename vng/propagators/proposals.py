"""PointVIS's pseudo-masks as a propagator (arXiv 2404.01990): proposals of every frame, linked, chosen by points.

Proposals are linked over time by their queries' embeddings (MinVIS) or by overlap after the motion of the image; each
object of points takes the linked proposal that the point-based matcher finds. What is the paper's and what is ours:
`docs/pointvis.md`.
Shapes: K objects, R proposals, P points, T frames, H x W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from vng.errors import UsageError, one_of
from vng.frames import Frames
from vng.frames.dense_flow import dense_flow, moved_places
from vng.masks import RLE, decode, encode
from vng.points import read_at
from vng.propagators import FramePrompts, Propagator, as_drawn, check_prompts
from vng.propagators.point_matcher import MatcherWeights, PointTable, match, matching_costs
from vng.propagators.proposal_sources import Proposals, ProposalSource, check_proposals, load_source
from vng.propagators.query_points import select_points

MATCHING = ("video", "frame")
CONFIDENCES = ("maskness", "score")
LIFETIMES = ("all", "prompted")
OF_MASK = 8  # points of either label that stand for a mask among the prompts


@dataclass(frozen=True, kw_only=True)
class ProposalSettings:
    """Settings of the engine; raises UsageError for an invalid value."""

    source: str = "grid"  # of proposals: grid, colours, mask2former, detector
    source_options: str = ""  # options of the source, as JSON: {"segmenter": "sam2", "side": 32}
    matching: str = "video"  # over the video, or each frame by itself (the paper's PF)
    confidence: str = "maskness"  # or the source's score (self-training)
    points: float = 5.0  # weights of the matcher
    others: float = 5.0
    weight: float = 2.0  # of the confidence
    lifetime: str = "all"  # frames of an object: all, or those in which it has a prompt (the paper's birth and death)
    overlap: float = 0.3  # least IoU of two linked proposals
    patience: int = 2  # frames over which a proposal may be missing
    must_cover: bool = True  # an object takes no proposal that covers none of its positive points (ours)
    device: str | None = None  # None: a GPU if there is one

    def __post_init__(self) -> None:
        one_of(self.matching, MATCHING, "matching")
        one_of(self.confidence, CONFIDENCES, "confidence")
        one_of(self.lifetime, LIFETIMES, "lifetime")
        MatcherWeights(points=self.points, others=self.others, confidence=self.weight)
        if not 0 < self.overlap <= 1:
            raise UsageError(f"overlap={self.overlap}: expected an IoU above 0, up to 1")
        if self.patience < 0:
            raise UsageError(f"patience={self.patience}: expected 0 frames or more")

    @property
    def options(self) -> dict[str, Any]:
        """The options of the source; raises UsageError unless they are a JSON object."""
        try:
            value = json.loads(self.source_options or "{}")
        except ValueError as error:
            raise UsageError(f"source_options: no JSON ({error}); write '{{\"side\": 16}}'") from error
        if not isinstance(value, dict):
            raise UsageError("source_options: expected a JSON object, such as '{\"side\": 16}'")
        return value


class ProposalPropagator(Propagator):
    """The engine; see `vng.propagators.Propagator` for the call. Masks among the prompts stand as points drawn in them.

    Args:
        checkpoint: weights of the source, where it has any.
        settings: None: the defaults.
        source: a source instead of the one that the settings name.
    """

    reads_points = True

    def __init__(
        self,
        checkpoint: str | None = None,
        settings: ProposalSettings | None = None,
        source: ProposalSource | None = None,
    ) -> None:
        self.settings = settings or ProposalSettings()
        options = self.settings.options | ({} if checkpoint is None else {"checkpoint": checkpoint})
        if self.settings.source in ("grid", "mask2former", "detector"):
            options.setdefault("device", self.settings.device)
        self.source = source if source is not None else load_source(self.settings.source, **options)
        if (weights := getattr(self.source, "fingerprint", None)) is not None:
            self.fingerprint = weights  # results depend on them
        s = self.settings
        self._weights = MatcherWeights(points=s.points, others=s.others, confidence=s.weight)

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Propagator`; raises UsageError for invalid prompts (`check_prompts`)."""
        count = check_prompts(frames, prompts)
        table = point_table(prompts)
        if self.settings.matching == "frame":
            yield from self._frame_by_frame(frames, prompts, table, count)
            return
        links = _Links(self.settings.overlap, self.settings.patience)
        covered: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # (tracks, points, whether they are covered)
        for t, image in enumerate(frames):
            proposals = check_proposals(self.source(image), frames.size, frames.source)
            tracks = links.add(t, image, proposals)
            here = np.flatnonzero(table.frame == t)
            if len(here) and len(tracks):
                covered.append((tracks, here, covers(proposals, table.xy[here])))
        chosen = self._choose(table, covered, links, len(frames), count)
        for t in range(len(frames)):
            yield t, self._masks(t, frames.size, chosen, links, table, prompts.get(t))

    def _choose(
        self,
        table: PointTable,
        covered: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
        links: _Links,
        length: int,
        count: int,
    ) -> np.ndarray:
        """The track of each object, int [K]; -1: none."""
        whole = np.zeros((len(links.tracks), len(table.frame)), bool)
        for tracks, points, inside in covered:
            whole[np.ix_(tracks, points)] = inside
        if self.settings.confidence == "maskness":
            confidence = np.array([track.maskness / length for track in links.tracks])
        else:
            confidence = np.array([track.score / max(len(track.masks), 1) for track in links.tracks])
        return self._matched(table, whole, confidence, count)

    def _matched(self, table: PointTable, whole: np.ndarray, confidence: np.ndarray, count: int) -> np.ndarray:
        costs = matching_costs(table, whole, confidence, count)
        chosen = match(costs.weighted(self._weights))
        if self.settings.must_cover:
            for k in range(count):
                own = (table.owner == k) & table.positive
                if chosen[k] >= 0 and not whole[chosen[k], own].any():
                    chosen[k] = -1
        chosen[~np.isin(np.arange(count), table.owner[table.positive])] = -1
        return chosen

    def _masks(
        self,
        t: int,
        size: tuple[int, int],
        chosen: np.ndarray,
        links: _Links,
        table: PointTable,
        prompt: FramePrompts | None,
    ) -> np.ndarray:
        result = np.zeros((len(chosen), *size), np.float32)
        for k, track in enumerate(chosen):
            rle = None if track < 0 else links.tracks[track].masks.get(t)
            if rle is not None and self._lives(k, t, table):
                result[k] = decode(rle)
        return as_drawn(disjoint(result), () if prompt is None else prompt.masks)

    def _lives(self, k: int, t: int, table: PointTable) -> bool:
        own = (table.owner == k) & table.positive
        return self.settings.lifetime == "all" or bool((own & (table.frame == t)).any())

    def _frame_by_frame(
        self, frames: Frames, prompts: Mapping[int, FramePrompts], table: PointTable, count: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Each frame with points by itself; in the others no object is."""
        for t in range(len(frames)):
            result = np.zeros((count, *frames.size), np.float32)
            here = table.frame == t
            if here.any():
                proposals = check_proposals(self.source(frames[t]), frames.size, frames.source)
                own = PointTable(
                    frame=table.frame[here], owner=table.owner[here], positive=table.positive[here], xy=table.xy[here]
                )
                confidence = proposals.maskness if self.settings.confidence == "maskness" else proposals.scores
                chosen = self._matched(own, covers(proposals, own.xy), confidence, count)
                for k, r in enumerate(chosen):
                    if r >= 0:
                        result[k] = proposals.masks[r]
            yield t, as_drawn(disjoint(result), prompts[t].masks if t in prompts else ())


def point_table(prompts: Mapping[int, FramePrompts]) -> PointTable:
    """The points of all prompts; a mask stands as a few points of either label, drawn with a fixed seed."""
    rows: list[tuple[int, int, bool, np.ndarray]] = []
    for t in sorted(prompts):
        prompt = prompts[t]
        for k in range(len(prompt)):
            mask = prompt.masks[k] if prompt.masks else None
            points = prompt.points[k] if prompt.points else None
            if mask is not None:
                rng = np.random.default_rng([t, k])
                labelled = [(select_points(m, OF_MASK, "random", rng), m is mask) for m in (mask, ~mask)]
            elif points is not None:
                labelled = [(points.positive, True), (points.negative, False)]
            else:
                continue
            rows += [(t, k, positive, xy) for places, positive in labelled for xy in places]
    return PointTable(
        frame=np.array([row[0] for row in rows], int),
        owner=np.array([row[1] for row in rows], int),
        positive=np.array([row[2] for row in rows], bool),
        xy=np.array([row[3] for row in rows], np.float32).reshape(-1, 2),
    )


def covers(proposals: Proposals, xy: np.ndarray) -> np.ndarray:
    """Whether proposals cover points [P, 2], bool [R, P]."""
    return np.array([read_at(mask, xy) for mask in proposals.masks], bool).reshape(len(proposals), len(xy))


def disjoint(masks: np.ndarray) -> np.ndarray:
    """Masks [K, H, W] of 0 and 1, at most one object a pixel: the smaller one lies in front."""
    if len(masks) > 1:
        smallest = np.where(masks > 0, masks.sum((1, 2))[:, None, None], np.inf).argmin(0)
        masks = masks * (np.arange(len(masks))[:, None, None] == smallest)
    return masks.astype(np.float32)


@dataclass
class _Track:
    """A linked proposal: masks by frame, and the sums that its confidences are made of."""

    masks: dict[int, RLE] = field(default_factory=dict)
    maskness: float = 0.0
    score: float = 0.0


class _Links:
    """Proposals of consecutive frames, linked; only the last frame's pixels are held."""

    def __init__(self, overlap: float, patience: int) -> None:
        self.tracks: list[_Track] = []
        self._overlap, self._patience = overlap, patience
        self._image: np.ndarray | None = None  # grey, of the frame before
        self._ids = np.empty(0, int)  # tracks that may go on
        self._masks = np.empty((0, 0, 0), bool)  # where they were last
        self._seen = np.empty(0, int)  # when
        self._embeddings: np.ndarray | None = None

    def add(self, t: int, image: np.ndarray, proposals: Proposals) -> np.ndarray:
        """Link the proposals of a frame; returns the track of each, int [R]."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        likeness, least = self._likeness(grey, proposals)
        tracks = np.full(len(proposals), -1)
        if likeness.size:
            old, new = linear_sum_assignment(likeness, maximize=True)
            sure = likeness[old, new] >= least
            tracks[new[sure]] = self._ids[old[sure]]
        for r in np.flatnonzero(tracks < 0).tolist():
            tracks[r] = len(self.tracks)
            self.tracks.append(_Track())
        for r, track in enumerate(tracks.tolist()):
            own = self.tracks[track]
            own.masks[t] = encode(proposals.masks[r])
            own.maskness += float(proposals.maskness[r])
            own.score += float(proposals.scores[r])
        self._remember(t, grey, proposals, tracks)
        return tracks

    def _likeness(self, grey: np.ndarray, proposals: Proposals) -> tuple[np.ndarray, float]:
        """Of tracks and proposals, [tracks, R], and the least of a link."""
        if self._image is None or not len(self._ids) or not len(proposals):
            return np.empty((0, 0)), 0.0
        if proposals.embeddings is not None and self._embeddings is not None:
            return self._embeddings @ proposals.embeddings.T, -np.inf
        x, y = moved_places(dense_flow(grey, self._image, "ultrafast"))
        self._masks = np.stack([cv2.remap(m.view(np.uint8), x, y, cv2.INTER_NEAREST).astype(bool) for m in self._masks])
        old, new = (m.reshape(len(m), -1)[:, ::3].astype(np.float32) for m in (self._masks, proposals.masks))
        both = old @ new.T
        return both / np.maximum(old.sum(1)[:, None] + new.sum(1) - both, 1), self._overlap

    def _remember(self, t: int, grey: np.ndarray, proposals: Proposals, tracks: np.ndarray) -> None:
        waiting = (t - self._seen <= self._patience) & ~np.isin(self._ids, tracks)
        if proposals.embeddings is not None:  # every query goes on in every frame
            waiting &= False
            self._embeddings = proposals.embeddings
        masks = [*self._masks[waiting], *proposals.masks]
        self._masks = np.stack(masks) if masks else np.empty((0, *grey.shape), bool)
        self._seen = np.concatenate([self._seen[waiting], np.full(len(tracks), t)])
        self._ids = np.concatenate([self._ids[waiting], tracks])
        self._image = grey
