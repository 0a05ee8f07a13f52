"""SAM-PT (Rajic et al., arXiv 2307.01197): points are tracked, and a promptable segmenter reads them in every frame.

Any tracker of `vng.trackers` and any segmenter of `vng.segmenters`; the defaults need no download. What is published
and what is ours: `docs/sam-pt.md`.
Shapes: K objects, P points, H x W pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vng.errors import UsageError, one_of
from vng.frames import Frames
from vng.points import PointPrompts
from vng.propagators import FramePrompts, Propagator, as_drawn, check_prompts
from vng.propagators.point_filters import PatchFiltered, in_frame
from vng.propagators.query_points import METHODS, select_points
from vng.segmenters import DEFAULT as DEFAULT_SEGMENTER
from vng.segmenters import ENGINES as SEGMENTERS
from vng.segmenters import Decoded, Decoder, Segmenter
from vng.segmenters import load as load_segmenter
from vng.trackers import DEFAULT as DEFAULT_TRACKER
from vng.trackers import ENGINES as TRACKERS
from vng.trackers import PointTracker, both_ways
from vng.trackers import load as load_tracker

NOTHING = -1e4  # logit of a mask that there is none of
LEAST_PIXELS = 2  # of a mask that is refined
VARIANTS = ("horizon", "median-area", "similar-area", "similar-area-together")


@dataclass(frozen=True, kw_only=True)
class SamPtSettings:
    """Settings of the engine, with the published defaults; raises UsageError for an invalid value."""

    tracker: str = DEFAULT_TRACKER
    tracker_checkpoint: str | None = None
    segmenter: str = DEFAULT_SEGMENTER  # SAM, HQ-SAM and SAM 2 are "sam" with a checkpoint
    segmenter_checkpoint: str | None = None
    positives: int = 16  # query points of a mask; given points are all taken
    positives_by: str = "kmedoids"
    negatives: int = 1
    negatives_by: str = "mixed"
    negatives_of_others: bool = True  # whether other objects' positives are an object's negatives
    most_of_others: int | None = None  # most of these, drawn at random; None: all
    without_positives: bool = False  # whether the segmenter is asked where only negatives are visible, as published
    refinements: int = 12  # passes with the box and the logits of the mask before, where the segmenter heeds them
    least_score: float = 0.7  # a mask with a lower predicted IoU is dropped
    patch_filter: bool = False  # whether points are rejected whose surroundings have changed
    patch_side: int = 3
    patch_likeness: float = 0.01
    reinit: str | None = None  # variant by which new points are drawn from predicted masks; None: never
    horizon: int = 24  # frames from one set of points to the next
    tracker_horizon: int = 24  # frames the tracker sees at a time then
    seed: int = 72
    device: str | None = None  # None: a GPU if there is one

    def __post_init__(self) -> None:
        for kind, own, table in (("tracker", self.tracker, TRACKERS), ("segmenter", self.segmenter, SEGMENTERS)):
            if not own.endswith((".yaml", ".yml")):  # told before anything is read
                one_of(own, table, kind)
        for name in ("positives_by", "negatives_by"):
            one_of(getattr(self, name), METHODS, name)
        if self.reinit is not None:
            one_of(self.reinit, VARIANTS, "reinit")
        for name, least in (("positives", 1), ("negatives", 0), ("refinements", 0), ("patch_side", 1), ("horizon", 2)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)}: expected {least} or more")
        if self.tracker_horizon < self.horizon:
            raise UsageError(f"tracker_horizon={self.tracker_horizon}: expected horizon ({self.horizon}) or more")


@dataclass(frozen=True, kw_only=True)
class Queries:
    """Query points of K objects; positives of an object come before its negatives."""

    points: np.ndarray  # float32 [P, 3], (frame, x, y)
    owner: np.ndarray  # int [P]
    positive: np.ndarray  # bool [P]

    @staticmethod
    def concatenated(parts: list[Queries]) -> Queries:
        """All of them, in order."""
        none = Queries(points=np.empty((0, 3), np.float32), owner=np.empty(0, int), positive=np.empty(0, bool))
        names = ("points", "owner", "positive")
        return Queries(**{name: np.concatenate([getattr(q, name) for q in (none, *parts)]) for name in names})

    @staticmethod
    def of(k: int, t: int, positive: np.ndarray, negative: np.ndarray) -> Queries:
        """Points [.., 2] of object k in frame t."""
        xy = np.concatenate([positive, negative]).astype(np.float32).reshape(-1, 2)
        return Queries(
            points=np.concatenate([np.full((len(xy), 1), t, np.float32), xy], 1),
            owner=np.full(len(xy), k),
            positive=np.arange(len(xy)) < len(positive),
        )


class SamPtPropagator(Propagator):
    """The engine; see `vng.propagators.Propagator` for the call.

    Args:
        checkpoint: weights of the segmenter, as `segmenter_checkpoint` of the settings.
        settings: None: the defaults.
        tracker, segmenter: engines instead of those that the settings name.
    """

    reads_points = True

    def __init__(
        self,
        checkpoint: str | None = None,
        settings: SamPtSettings | None = None,
        tracker: PointTracker | None = None,
        segmenter: Segmenter | None = None,
    ) -> None:
        settings = settings or SamPtSettings()
        self.settings = settings if checkpoint is None else replace(settings, segmenter_checkpoint=checkpoint)
        self._given_tracker, self._given_segmenter = tracker, segmenter

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Propagator`; raises UsageError for invalid prompts (`check_prompts`)."""
        count = check_prompts(frames, prompts)
        if self.settings.reinit is not None:
            from vng.propagators.sam_pt_reinit import propagate_anew

            yield from propagate_anew(self, frames, prompts, count)
            return
        queries = self.queries(frames, prompts)
        done: set[int] = set()
        for t, xy, visibility in both_ways(self.tracker, frames, queries.points):
            visible = (visibility > self.tracker.threshold) & in_frame(xy, frames.size)
            logits, _ = self.masks(frames[t], queries, xy, visible, range(count))
            done.add(t)
            yield t, as_drawn(merged(logits), prompts[t].masks if t in prompts else ())
        for t in range(len(frames)):
            if t not in done:  # no object has a point
                drawn = prompts[t].masks if t in prompts else ()
                yield t, as_drawn(np.zeros((count, *frames.size), np.float32), drawn)

    @cached_property
    def tracker(self) -> PointTracker:
        """The tracker, with the patch filter if there is one."""
        s = self.settings
        tracker = self._given_tracker
        if tracker is None:
            options = {} if s.tracker_checkpoint is None else {"checkpoint": s.tracker_checkpoint}
            tracker = load_tracker(s.tracker, device=s.device, **options)
        return PatchFiltered(tracker, s.patch_side, s.patch_likeness) if s.patch_filter else tracker

    @cached_property
    def segmenter(self) -> Segmenter:
        """The segmenter."""
        if self._given_segmenter is not None:
            return self._given_segmenter
        checkpoint = self.settings.segmenter_checkpoint
        options = {} if checkpoint is None else {"checkpoint": checkpoint}
        return load_segmenter(self.settings.segmenter, device=self.settings.device, **options)

    def queries(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Queries:
        """The query points of all prompts: given points as they are, points drawn from masks."""
        parts = []
        for t in sorted(prompts):
            prompt = prompts[t]
            image = frames[t] if any(mask is not None and mask.any() for mask in prompt.masks) else None
            for k in range(len(prompt)):
                mask = prompt.masks[k] if prompt.masks else None
                points = prompt.points[k] if prompt.points else None
                if mask is not None:
                    assert image is not None or not mask.any()
                    parts.append(self.points_of_mask(k, t, mask, image))
                elif points is not None:
                    parts.append(Queries.of(k, t, points.positive, points.negative))
        return Queries.concatenated(parts)

    def points_of_mask(self, k: int, t: int, mask: np.ndarray, image: np.ndarray | None) -> Queries:
        """Query points drawn from a mask bool [H, W] of object k in frame t; an empty mask has none."""
        s, rng = self.settings, np.random.default_rng([self.settings.seed, k, t, zlib.crc32(mask.tobytes())])
        positive = select_points(mask, s.positives, s.positives_by, rng, image)
        negative = select_points(~mask, s.negatives if len(positive) else 0, s.negatives_by, rng, image)
        return Queries.of(k, t, positive, negative)

    def masks(
        self, image: np.ndarray, queries: Queries, xy: np.ndarray, visible: np.ndarray, objects: range | list[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks of one frame from the visible points: the passes of SAM-PT.

        Args:
            image: uint8 [H, W, 3].
            queries: the points' objects and labels.
            xy: float32 [P, 2], where they are. visible: bool [P].
            objects: the objects to segment.

        Returns:
            logits float32 [objects, H, W] and the segmenter's scores [objects]. An object without a visible
            positive (with `without_positives`: without any visible point) has logits of NOTHING and score -inf; a mask
            below `least_score` has these logits too, and keeps its score.
        """
        logits = np.full((len(objects), *image.shape[:2]), NOTHING, np.float32)
        scores = np.full(len(objects), -np.inf, np.float32)
        rng = np.random.default_rng([self.settings.seed, *image.shape[:2], int(visible.sum())])
        asked = {i: ask for i, k in enumerate(objects) if (ask := self._ask(queries, xy, visible, k, rng)) is not None}
        if not asked:
            return logits, scores
        result = self.passes(self.segmenter.decoder(image), list(asked.values()))
        for row, i in enumerate(asked):
            scores[i] = result.scores[row]
            if result.scores[row] >= self.settings.least_score:
                logits[i] = result.logits[row]
        return logits, scores

    def _ask(
        self, queries: Queries, xy: np.ndarray, visible: np.ndarray, k: int, rng: np.random.Generator
    ) -> tuple[PointPrompts, bool] | None:
        """The prompt of object k, and whether its points include negatives; None without a visible point."""
        own = queries.owner == k
        others = xy[visible & queries.positive & ~own]
        if not self.settings.negatives_of_others:
            others = others[:0]
        most = self.settings.most_of_others
        if most is not None and len(others) > most:
            others = others[rng.choice(len(others), most, replace=False)]
        negative = np.concatenate([xy[visible & own & ~queries.positive], others])
        positive = xy[visible & own & queries.positive]
        if not len(positive) and not (self.settings.without_positives and len(negative)):
            return None
        return PointPrompts(positive, negative), bool((own & ~queries.positive).any())

    def passes(self, decode: Decoder, asked: list[tuple[PointPrompts, bool]]) -> Decoded:
        """Positives alone, then all points, then refinements; of engines without feedback the last pass is all."""
        prompts = [prompt for prompt, _ in asked]
        if not self.segmenter.takes_feedback:
            return decode(prompts, None)
        twice = [i for i, (_, has_negatives) in enumerate(asked) if has_negatives]
        feedback: list[object] = [None] * len(prompts)
        if twice:
            bare = [replace(prompts[i], negative=np.empty((0, 2))) for i in twice]
            for i, low in zip(twice, decode(bare, None).feedback, strict=True):
                feedback[i] = low
        result = decode(prompts, feedback)
        logits, scores, low = result.logits.copy(), result.scores.copy(), list(result.feedback)
        active = list(range(len(prompts)))
        for _ in range(self.settings.refinements):
            boxes = {i: _box(logits[i]) for i in active}
            active = [i for i in active if boxes[i] is not None]
            if not active:
                break
            again = decode([replace(prompts[i], box=boxes[i]) for i in active], [low[i] for i in active])
            for row, i in enumerate(active):
                logits[i], scores[i], low[i] = again.logits[row], again.scores[row], again.feedback[row]
        return Decoded(logits=logits, scores=scores, feedback=tuple(low))


def _box(logits: np.ndarray) -> np.ndarray | None:
    """The box (x0, y0, x1, y1) of a mask, first and last pixels; None for fewer than two pixels."""
    mask = logits > 0
    if mask.sum() < LEAST_PIXELS:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)


def merged(logits: np.ndarray) -> np.ndarray:
    """Logits [K, H, W] of each object by itself -> probabilities, above 0.5 for one object a pixel at most.

    The object with the largest logit wins where that is positive, as in the authors' evaluation (background 0).
    """
    probabilities = np.where(logits > NOTHING, 1 / (1 + np.exp(-logits.clip(-80, 80))), 0)
    if len(logits) > 1:
        loses = np.arange(len(logits))[:, None, None] != logits.argmax(0)
        probabilities[loses] = np.minimum(probabilities[loses], 0.5)
    return probabilities.astype(np.float32)
