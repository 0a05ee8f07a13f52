"""SAM-PT's simulation of a person who corrects points until the masks are good enough.

Frame by frame, while a mask's J is below a threshold: a visible negative on the object is removed, else a visible positive
off it, else a point is added, on what is missing or on what is too much, whichever is larger. Offline, thresholds rise over
several passes; online, there is one pass. One object; every frame has its true mask.
Shapes: T frames, P points, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from vng.errors import UsageError
from vng.frames import Frames
from vng.points import PointPrompts, read_at
from vng.propagators.point_filters import in_frame
from vng.propagators.query_points import k_medoids
from vng.propagators.sam_pt import SamPtPropagator
from vng.segmenters import Decoder
from vng.trackers import both_ways

OFFLINE = (0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.88, 0.90, 0.92, 0.95)
MOST_CLUSTERED, LEAST_CLUSTER, NEIGHBOURS = 18_000, 180, 10  # pixels of a region that are clustered; of a cluster
MOST_CENTRED = 720  # pixels among which its centre is sought

# A mask bool [H, W] -> where a person would click in it, (x, y)
Clicker = Callable[[np.ndarray, np.random.Generator], "tuple[float, float]"]


@dataclass(frozen=True, kw_only=True)
class InteractionSettings:
    """Settings of the simulation, with the program's defaults; raises UsageError for values out of range."""

    most: int = 300  # interactions in all, the given points among them
    most_in_frame: int = 3
    online: bool = False
    threshold: float = 0.9  # online
    seed: int = 72

    def __post_init__(self) -> None:
        if self.most < 1 or self.most_in_frame < 1:
            raise UsageError("interactions: expected at least one in all and in a frame")
        if not 0 < self.threshold <= 1:
            raise UsageError(f"threshold={self.threshold}: expected a J above 0, up to 1")

    @property
    def thresholds(self) -> tuple[float, ...]:
        """One for each pass."""
        return (self.threshold,) if self.online else OFFLINE


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """One thing that the simulated person did."""

    frame: int
    action: str  # "remove negative", "remove positive", "add positive", "add negative"
    threshold: float
    before: float  # J of the frame
    after: float


@dataclass(kw_only=True)
class Simulation:
    """The masks in the end, their J, and the interactions."""

    masks: np.ndarray  # bool [T, H, W]
    j: np.ndarray  # float64 [T]
    interactions: list[Interaction] = field(default_factory=list)


@dataclass(kw_only=True)
class _Points:
    xy: np.ndarray  # float32 [T, P, 2]
    visible: np.ndarray  # bool [T, P]
    positive: np.ndarray  # bool [P]

    def copy(self) -> _Points:
        return _Points(xy=self.xy.copy(), visible=self.visible.copy(), positive=self.positive.copy())


def simulate(
    engine: SamPtPropagator,
    frames: Frames,
    truth: np.ndarray,
    frame: int,
    prompt: PointPrompts,
    settings: InteractionSettings | None = None,
    click: Clicker | None = None,
) -> Simulation:
    """Correct the points of one object until its masks are good enough, or the interactions are used up.

    Args:
        engine: tracker and segmenter, with the settings of its passes.
        frames: the video, read several times.
        truth: bool [T, H, W].
        frame, prompt: the first points.
        settings: None: the defaults.
        click: where a person clicks in a region; None: near the middle of its largest cluster (`click_in`).

    Raises:
        UsageError: a truth of another size, or a prompt without a positive.
    """
    settings = settings or InteractionSettings()
    if truth.shape != (len(frames), *frames.size):
        raise UsageError(f"truth of shape {list(truth.shape)}, expected {[len(frames), *frames.size]}")
    if not len(prompt.positive):
        raise UsageError("the simulation begins with at least one positive point")
    return _Run(engine, frames, truth, settings, click or click_in).run(frame, prompt)


class _Run:
    def __init__(
        self, engine: SamPtPropagator, frames: Frames, truth: np.ndarray, settings: InteractionSettings, click: Clicker
    ) -> None:
        self.engine, self.frames, self.truth, self.settings, self.click = engine, frames, truth, settings, click
        self.rng = np.random.default_rng(settings.seed)
        self.decoders: dict[int, Decoder] = {}
        self.done: list[Interaction] = []

    def run(self, frame: int, prompt: PointPrompts) -> Simulation:
        points = self._first(frame, prompt)
        left = self.settings.most - len(points.positive)
        kept: list[tuple[float, _Points]] = []
        for threshold in self.settings.thresholds:
            scores = np.zeros(len(self.frames))
            for t in range(len(self.frames)):
                scores[t], left = self._frame(points, t, threshold, left)
                if left <= 0:
                    break
            if left <= 0:
                break
            kept.append((float(scores.mean()), points.copy()))
        masks, j = self._all(points)
        if kept and max(kept, key=lambda row: row[0])[0] > j.mean():
            masks, j = self._all(max(kept, key=lambda row: row[0])[1])
        return Simulation(masks=masks, j=j, interactions=self.done)

    def _frame(self, points: _Points, t: int, threshold: float, left: int) -> tuple[float, int]:
        """Correct one frame; returns its J and the interactions that are left."""
        j = self._j(mask := self._mask(points, t), t)
        for _ in range(self.settings.most_in_frame):
            if j >= threshold or left <= 0:
                break
            action, before = self._interact(points, t, mask), j
            j = self._j(mask := self._mask(points, t), t)
            left -= 1
            self.done.append(Interaction(frame=t, action=action, threshold=threshold, before=before, after=j))
        return j, left

    def _interact(self, points: _Points, t: int, mask: np.ndarray) -> str:
        truth = self.truth[t]
        for positive in (False, True):
            own = np.flatnonzero(points.visible[t] & (points.positive == positive))
            inside = read_at(truth, self._on_frame(points.xy[t, own])).astype(bool) if len(own) else np.empty(0, bool)
            wrong = own[inside != positive]
            if len(wrong):
                points.visible[t:, wrong[0]] = False
                return f"remove {'positive' if positive else 'negative'}"
        missing, surplus = truth & ~mask, mask & ~truth
        positive = bool(missing.sum() > surplus.sum())
        self._add(points, t, self.click(missing if positive else surplus, self.rng), positive)
        return f"add {'positive' if positive else 'negative'}"

    def _add(self, points: _Points, t: int, place: tuple[float, float], positive: bool) -> None:
        """Track a new point from a frame on."""
        xy = np.zeros((len(self.frames), 1, 2), np.float32)
        visible = np.zeros((len(self.frames), 1), bool)
        rest = self.frames.subset(range(t, len(self.frames)))
        for i, where, visibility in self.engine.tracker(rest, np.array([(0, *place)], np.float32)):
            xy[t + i], visible[t + i] = where, self._seen(where, visibility)
        xy[t, 0], visible[t] = place, True
        points.xy = np.concatenate([points.xy, xy], 1)
        points.visible = np.concatenate([points.visible, visible], 1)
        points.positive = np.append(points.positive, positive)

    def _first(self, frame: int, prompt: PointPrompts) -> _Points:
        xy = np.concatenate([prompt.positive, prompt.negative])
        queries = np.concatenate([np.full((len(xy), 1), frame), xy], 1).astype(np.float32)
        points = _Points(
            xy=np.zeros((len(self.frames), len(xy), 2), np.float32),
            visible=np.zeros((len(self.frames), len(xy)), bool),
            positive=np.arange(len(xy)) < len(prompt.positive),
        )
        for t, where, visibility in both_ways(self.engine.tracker, self.frames, queries):
            points.xy[t], points.visible[t] = where, self._seen(where, visibility)
        return points

    def _seen(self, xy: np.ndarray, visibility: np.ndarray) -> np.ndarray:
        return (visibility > self.engine.tracker.threshold) & in_frame(xy, self.frames.size)

    def _mask(self, points: _Points, t: int) -> np.ndarray:
        """The mask of a frame, bool [H, W]: the passes of SAM-PT, the second one only where a negative is visible."""
        seen = points.visible[t]
        positive, negative = points.xy[t, seen & points.positive], points.xy[t, seen & ~points.positive]
        if not len(positive):
            return np.zeros(self.frames.size, bool)
        if t not in self.decoders:
            self.decoders[t] = self.engine.segmenter.decoder(self.frames[t])
        result = self.engine.passes(self.decoders[t], [(PointPrompts(positive, negative), bool(len(negative)))])
        return np.asarray(result.logits[0] > 0)

    def _j(self, mask: np.ndarray, t: int) -> float:
        both = (mask & self.truth[t]).sum()
        either = (mask | self.truth[t]).sum()
        return float(both / either) if either else 1.0

    def _all(self, points: _Points) -> tuple[np.ndarray, np.ndarray]:
        masks = np.stack([self._mask(points, t) for t in range(len(self.frames))])
        return masks, np.array([self._j(mask, t) for t, mask in enumerate(masks)])

    def _on_frame(self, xy: np.ndarray) -> np.ndarray:
        return xy.clip(0, np.array(self.frames.size[::-1]) - 1)


def click_in(region: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """A place (x, y) in a region bool [H, W]: the first of three medoids of its largest dense cluster."""
    pixels = np.argwhere(region)[:, ::-1]
    drawn = pixels[rng.permutation(len(pixels))[:MOST_CLUSTERED]]
    radius = 2.4 * region.size / MOST_CLUSTERED
    cluster = largest_cluster(drawn, radius)
    chosen = drawn if len(cluster) < LEAST_CLUSTER else cluster
    chosen = chosen[rng.permutation(len(chosen))[:MOST_CENTRED]]
    x, y = chosen[k_medoids(chosen, min(3, len(chosen)))[0]]
    return float(x), float(y)


def largest_cluster(points: np.ndarray, radius: float, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """The points [N, 2] of the largest cluster of DBSCAN (Ester et al., 1996); none without a dense place."""
    if len(points) < neighbours:
        return points[:0]
    tree = cKDTree(points)
    pairs = tree.query_pairs(radius, output_type="ndarray")
    degree = 1 + np.bincount(pairs.ravel(), minlength=len(points))
    core = degree >= neighbours
    if not core.any():
        return points[:0]
    joined = pairs[core[pairs].all(1)]
    graph = coo_matrix((np.ones(len(joined)), (joined[:, 0], joined[:, 1])), shape=(len(points),) * 2)
    label = connected_components(graph, directed=False)[1]
    label = np.where(core, label, -1)
    for first, second in pairs[core[pairs].sum(1) == 1]:  # points at the rim belong to a dense neighbour's cluster
        rim, inner = (first, second) if core[second] else (second, first)
        label[rim] = label[inner] if label[rim] < 0 else label[rim]
    return points[label == np.bincount(label[label >= 0]).argmax()]
