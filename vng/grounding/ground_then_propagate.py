"""Ground, then propagate: masks of the frames a grounder is surest of, spread over the video by a propagator.

A grounder reads each frame anew and may take an object for its neighbour in any of them; a propagator follows what it is
shown but knows no words. So each noun is shown to a propagator in the few frames in which the grounder is surest of it
(its anchors), all nouns of a narrative together, forwards and backwards in time.

Shapes: N nouns, K objects, T frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vng.engines import setting_names
from vng.errors import UsageError, one_of
from vng.frames import Frames
from vng.label_maps import exclusive
from vng.masks import RLE, area, covered, decode, encode, intersection_over_union, union
from vng.models.frame_maps import FrameMaps
from vng.propagators import DEFAULT, ENGINES, FramePrompts, Propagator, load

DIRECTIONS = ("both", "forwards", "backwards")
PRESENCE = ("grounder", "propagator")
SAME = 0.8  # mean IoU from which two nouns' masks are one object
CERTAIN = 4  # power of a mask's certainty: it differs little from frame to frame
ELSEWHERE = 0.2  # IoU below which two masks are not of one thing
WHOLE = 90  # percentile of a noun's areas at which it is taken to be seen whole


@dataclass(frozen=True, kw_only=True)
class PropagationSettings:
    """How grounded masks are spread; raises UsageError for a value that cannot be."""

    propagator: str = DEFAULT
    checkpoint: str | None = None  # its weights: a folder or hub id; None: those it ships
    options: Mapping[str, str] = field(
        default_factory=dict
    )  # settings of the engine, as `vng propagate --set` takes them
    anchors: int = 3  # most frames in which a noun is shown to the propagator
    confidence: float = 0.5  # least class score of such a frame; a noun without one is not propagated
    direction: Literal["both", "forwards", "backwards"] = "both"  # from its anchors
    presence: Literal["grounder", "propagator"] = (
        "grounder"  # who says whether an object is there; where, the propagator
    )
    share: bool = True  # one network's maps for both where backbone and propagator's key encoder are the same
    share_bytes: int = 4 << 30  # most of them that are kept, in a temporary file

    def __post_init__(self) -> None:
        one_of(self.propagator, ENGINES, "propagator")
        one_of(self.direction, DIRECTIONS, "direction")
        one_of(self.presence, PRESENCE, "presence")
        if self.anchors < 1:
            raise UsageError(f"anchors={self.anchors}: 1 or more")
        if not 0 <= self.confidence <= 1:
            raise UsageError(f"confidence={self.confidence}: a share, 0 to 1")


@dataclass(frozen=True)
class Grounded:
    """What a grounder says of a video's nouns."""

    rles: tuple[tuple[RLE, ...], ...]  # N lists of T masks
    scores: np.ndarray  # float64 [N, T] in [0, 1], class score of the chosen query
    certainty: np.ndarray  # float64 [N, T] in [0, 1], mean probability of the mask's own pixels, 0 where there are none


@dataclass(frozen=True)
class Spread:
    """Masks after propagation."""

    rles: tuple[tuple[RLE, ...], ...]  # N lists of T masks
    propagated: np.ndarray  # bool [N, T], whether a mask is the propagator's


class GroundThenPropagate:
    """The engine with its settings; `passes` times it goes through a video.

    Raises:
        UsageError: an unknown engine or setting. DataError: no weights there, or such that do not fit.
    """

    def __init__(self, settings: PropagationSettings, device: str | None = None) -> None:
        self.settings = settings
        options: dict[str, Any] = dict(settings.options)
        if device is not None and "device" in setting_names(ENGINES, settings.propagator):
            options.setdefault("device", device)
        given = {"checkpoint": settings.checkpoint, "settings": options or None}
        self.engine: Propagator = load(settings.propagator, **{k: v for k, v in given.items() if v is not None})
        self.passes = 2 if settings.direction == "both" else 1

    def told(self) -> dict[str, Any]:
        """What masks made with it depend on, for a manifest."""
        s = self.settings
        return {
            "propagator": s.propagator,
            "weights": getattr(self.engine, "fingerprint", None),
            "options": dict(s.options),
            "anchors": s.anchors,
            "confidence": s.confidence,
            "direction": s.direction,
            "presence": s.presence,
            "share": s.share,
        }

    def __call__(
        self,
        frames: Frames,
        found: Grounded,
        maps: FrameMaps | None = None,
        on_frame: Callable[[], object] | None = None,
    ) -> Spread:
        """Spread the masks of all nouns at once.

        Args:
            maps: of the frames, where the grounder's backbone is the propagator's key encoder.
            on_frame: told of each frame of each pass.
        """
        anchors = choose_anchors(found, self.settings)
        groups = same_objects(found)
        told = _undisputed([_anchors_of(group, anchors, found) for group in groups], found)
        objects, shown = [g for g, its in zip(groups, told, strict=True) if its], [its for its in told if its]
        propagated = np.zeros(found.scores.shape, bool)
        rles = [list(row) for row in found.rles]
        for t, k, rle in self._carried(frames, found, shown, maps, on_frame):
            for n in objects[k]:
                if self._replaces(rle, rles[n][t], float(found.scores[n, t])):
                    rles[n][t], propagated[n, t] = rle, True
        return Spread(tuple(map(tuple, rles)), propagated)

    def _replaces(self, carried: RLE, own: RLE, score: float) -> bool:
        """Whether a propagated mask takes the place of the grounder's in a frame.

        The grounder reads the words anew in each frame, so it knows better whether the thing is there; a propagator loses
        things and finds others. Where the grounder is sure of a mask, the propagator may say how it looks (IoU of at least
        `ELSEWHERE`), but neither that it is nowhere nor that it is elsewhere.
        """
        if self.settings.presence == "propagator":
            return True
        if not area(own):
            return False
        return score < self.settings.confidence or intersection_over_union(carried, own) >= ELSEWHERE

    def _carried(
        self,
        frames: Frames,
        found: Grounded,
        shown: list[dict[int, int]],
        maps: FrameMaps | None,
        on_frame: Callable[[], object] | None,
    ) -> list[tuple[int, int, RLE]]:
        """(frame, object, mask) where a propagator has something to say that is nearer than what other passes say."""
        if not shown:
            return []
        nearest: dict[tuple[int, int], tuple[int, RLE]] = {}
        for backwards in [
            b for b, name in ((False, "backwards"), (True, "forwards")) if self.settings.direction != name
        ]:
            for t, masks in self._pass(frames, found, shown, maps, backwards):
                for k, its in enumerate(shown):
                    away = _distance(t, list(its), backwards)
                    if away and ((t, k) not in nearest or away < nearest[t, k][0]):
                        nearest[t, k] = (away, encode(masks[k]))
                if on_frame is not None:
                    on_frame()
        return [(t, k, rle) for (t, k), (_, rle) in nearest.items()]

    def _pass(
        self, frames: Frames, found: Grounded, shown: list[dict[int, int]], maps: FrameMaps | None, backwards: bool
    ) -> Any:
        """(frame, bool [K, H, W]) of one direction."""
        last = len(frames) - 1
        turned = frames.subset(range(last, -1, -1)) if backwards else frames
        prompts = {last - t if backwards else t: p for t, p in _prompts(found, shown).items()}
        engine = self.engine if maps is None else self.engine.with_maps(maps, len(frames) if backwards else 0)
        for t, probabilities in engine(turned, prompts):
            yield last - t if backwards else t, exclusive(probabilities)


def _distance(t: int, anchors: Sequence[int], backwards: bool) -> int | None:
    """Frames from the nearest anchor a pass comes from to frame t; None before the first one, 0 at an anchor."""
    passed = [abs(t - a) for a in anchors if (a >= t if backwards else a <= t)]
    return min(passed) if passed else None


def choose_anchors(found: Grounded, settings: PropagationSettings) -> list[list[int]]:
    """The frames in which each noun is shown to the propagator, surest first; N lists.

    Surest by class score, by how certain the mask's own pixels are, by how little another noun claims of them, and by
    size: what is half hidden or half outside is a bad thing to show. Apart from each other by at least half of an equal
    share of the video. (Weights chosen on procedural videos: `docs/benchmarks.md`.)
    """
    count, length = found.scores.shape
    areas = np.array([[area(rle) for rle in row] for row in found.rles], float).reshape(count, length)
    sure = found.scores * found.certainty**CERTAIN * (1 - claimed(found))
    apart = length / (2 * settings.anchors)
    anchors: list[list[int]] = []
    for n in range(count):
        whole = np.percentile(areas[n][areas[n] > 0], WHOLE) if areas[n].any() else 1.0
        its = sure[n] * np.minimum(areas[n] / whole, 1)
        taken: list[int] = []
        for t in np.argsort(-its, kind="stable").tolist():
            free = all(abs(t - other) >= apart for other in taken)
            if free and its[t] > 0 and found.scores[n, t] >= settings.confidence and len(taken) < settings.anchors:
                taken.append(t)
        anchors.append(taken)
    return anchors


def claimed(found: Grounded) -> np.ndarray:
    """Float64 [N, T] in [0, 1]: how surely a noun's mask is another object's too: IoU times the other noun's class score."""
    groups = same_objects(found)
    result = np.zeros(found.scores.shape)
    for group in groups:
        others = [m for other in groups if other is not group for m in other]
        for n in group:
            for t, mine in enumerate(found.rles[n]):
                shares = [intersection_over_union(mine, found.rles[m][t]) * found.scores[m, t] for m in others]
                result[n, t] = max(shares, default=0.0) if area(mine) else 0.0
    return result


def same_objects(found: Grounded) -> list[list[int]]:
    """Nouns by the object they mean: those whose masks agree over the whole video are one, as "a man ... the man" is."""
    groups: list[list[int]] = []
    for n, row in enumerate(found.rles):
        for group in groups:
            other = found.rles[group[0]]
            pairs = [(a, b) for a, b in zip(row, other, strict=True) if area(a) or area(b)]
            if pairs and float(np.mean([intersection_over_union(a, b) for a, b in pairs])) >= SAME:
                group.append(n)
                break
        else:
            groups.append([n])
    return groups


def _anchors_of(group: list[int], anchors: list[list[int]], found: Grounded) -> dict[int, int]:
    """The anchors of an object: frame -> the noun whose mask it is, the surer one where several have it."""
    chosen: dict[int, int] = {}
    for n in group:
        for t in anchors[n]:
            if t not in chosen or found.scores[n, t] > found.scores[chosen[t], t]:
                chosen[t] = n
    return chosen


def _undisputed(shown: list[dict[int, int]], found: Grounded) -> list[dict[int, int]]:
    """Anchors without those whose mask is, by half or more, what surer ones of the same frame claim."""
    left: list[dict[int, int]] = [{} for _ in shown]
    for t in sorted({t for its in shown for t in its}):
        here = sorted(((-found.scores[its[t], t], k) for k, its in enumerate(shown) if t in its))
        taken: list[RLE] = []
        for _, k in here:
            mask = found.rles[shown[k][t]][t]
            if not taken or covered(mask, union(taken)) < 0.5:
                left[k][t] = shown[k][t]
                taken.append(mask)
    return left


class _Prompts(Mapping[int, FramePrompts]):
    """Prompts by frame, made from masks when asked for."""

    def __init__(self, found: Grounded, shown: list[dict[int, int]]) -> None:
        self._found, self._shown = found, shown
        self._frames = sorted({t for its in shown for t in its})

    def __getitem__(self, t: int) -> FramePrompts:
        masks: list[np.ndarray | None] = [None] * len(self._shown)
        here = [(self._found.scores[its[t], t], k, its[t]) for k, its in enumerate(self._shown) if t in its]
        free: np.ndarray | None = None
        for _, k, n in sorted(here, reverse=True):  # a pixel that two claim goes to the surer one
            mask = decode(self._found.rles[n][t])
            free = np.ones_like(mask) if free is None else free
            masks[k] = mask & free
            free &= ~mask
        return FramePrompts(masks=tuple(masks))

    def __iter__(self) -> Any:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)


def _prompts(found: Grounded, shown: list[dict[int, int]]) -> Mapping[int, FramePrompts]:
    return _Prompts(found, shown)
