"""Ground, then propagate: a propagator extends the grounder's masks from its most confident frames over the video.

A grounder segments each frame anew and may confuse similar objects in any of them; a propagator tracks objects but does
not use language. So a propagator is prompted with each noun's masks in the few frames in which the grounder is most
confident (its anchors), for all nouns of a narrative together, forwards and backwards in time.

Shapes: N nouns, K objects, T frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vng.errors import UsageError, one_of
from vng.frames import Frames
from vng.label_maps import exclusive
from vng.masks import RLE, area, covered, decode, encode, intersection_over_union, union
from vng.models.frame_maps import FrameMaps
from vng.propagators import DEFAULT, ENGINES, FramePrompts, Propagator, load

DIRECTIONS = ("both", "forwards", "backwards")
PRESENCE = ("grounder", "propagator")
SAME = 0.8  # mean IoU from which two nouns mean the same object
CERTAIN = 4  # exponent of a mask's certainty, which varies little between frames
ELSEWHERE = 0.2  # IoU below which two masks are of different objects
WHOLE = 90  # percentile of a noun's areas at which the object is taken as fully visible


@dataclass(frozen=True, kw_only=True)
class PropagationSettings:
    """Settings of propagation from grounded masks; raises UsageError for an invalid value."""

    propagator: str = DEFAULT
    checkpoint: str | None = None  # its weights: a folder or hub id; None: shipped weights
    # Settings of the engine, as in `vng predict --propagator-set`.
    options: Mapping[str, str] = field(default_factory=dict)
    anchors: int = 3  # maximum number of frames in which the propagator is prompted with a noun
    confidence: float = 0.5  # minimum class score of an anchor; a noun without anchors is not propagated
    direction: Literal["both", "forwards", "backwards"] = "both"  # from the anchors
    # Engine that decides whether an object is in a frame; the propagator determines its position.
    presence: Literal["grounder", "propagator"] = "grounder"
    share: bool = True  # compute feature maps once if the backbone equals the propagator's key encoder
    share_bytes: int = 4 << 30  # maximum size of these maps, kept in a temporary file

    def __post_init__(self) -> None:
        one_of(self.propagator, ENGINES, "propagator")
        one_of(self.direction, DIRECTIONS, "direction")
        one_of(self.presence, PRESENCE, "presence")
        if self.anchors < 1:
            raise UsageError(f"anchors={self.anchors}: expected 1 or more")
        if not 0 <= self.confidence <= 1:
            raise UsageError(f"confidence={self.confidence}: expected a value from 0 to 1")


@dataclass(frozen=True)
class Grounded:
    """A grounder's prediction for the nouns of a video."""

    rles: tuple[tuple[RLE, ...], ...]  # N lists of T masks
    scores: np.ndarray  # float64 [N, T] in [0, 1], class score of the chosen query
    certainty: np.ndarray  # float64 [N, T] in [0, 1], mean probability of the mask's pixels, 0 for an empty mask


@dataclass(frozen=True)
class Spread:
    """Masks after propagation."""

    rles: tuple[tuple[RLE, ...], ...]  # N lists of T masks
    propagated: np.ndarray  # bool [N, T], whether a mask is from the propagator


class GroundThenPropagate:
    """A propagator with its settings; it passes through a video `passes` times.

    Raises:
        UsageError: an unknown engine or setting. DataError: weights that are missing or do not fit.
    """

    def __init__(self, settings: PropagationSettings, device: str | None = None) -> None:
        self.settings = settings
        arguments = {"checkpoint": settings.checkpoint, "settings": dict(settings.options) or None, "device": device}
        self.engine: Propagator = load(settings.propagator, **{k: v for k, v in arguments.items() if v is not None})
        self.passes = 2 if settings.direction == "both" else 1

    def manifest_settings(self) -> dict[str, Any]:
        """Everything that its masks depend on, for a manifest."""
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
        grounded: Grounded,
        maps: FrameMaps | None = None,
        on_frame: Callable[[], object] | None = None,
    ) -> Spread:
        """Propagate the masks of all nouns together.

        Args:
            maps: feature maps of the frames, if the grounder's backbone equals the propagator's key encoder.
            on_frame: called after each frame of each pass.
        """
        anchors = choose_anchors(grounded, self.settings)
        groups = same_objects(grounded)
        candidates = _undisputed([_anchors_of(group, anchors, grounded) for group in groups], grounded)
        objects = [group for group, own in zip(groups, candidates, strict=True) if own]
        object_anchors = [own for own in candidates if own]
        propagated = np.zeros(grounded.scores.shape, bool)
        rles = [list(row) for row in grounded.rles]
        for t, k, rle in self._carried(frames, grounded, object_anchors, maps, on_frame):
            for n in objects[k]:
                if self._replaces(rle, rles[n][t], float(grounded.scores[n, t])):
                    rles[n][t], propagated[n, t] = rle, True
        return Spread(tuple(map(tuple, rles)), propagated)

    def _replaces(self, carried: RLE, own: RLE, score: float) -> bool:
        """Whether a propagated mask replaces the grounder's in a frame.

        The grounder uses the words in each frame, so it is better at deciding presence; a propagator may lose an object
        or drift to another. Where the grounder is confident, the propagator may refine its mask (IoU of at least
        `ELSEWHERE`), but neither remove it nor move it elsewhere.
        """
        if self.settings.presence == "propagator":
            return True
        if not area(own):
            return False
        return score < self.settings.confidence or intersection_over_union(carried, own) >= ELSEWHERE

    def _carried(
        self,
        frames: Frames,
        grounded: Grounded,
        anchors: list[dict[int, int]],
        maps: FrameMaps | None,
        on_frame: Callable[[], object] | None,
    ) -> list[tuple[int, int, RLE]]:
        """(frame, object, mask) of the propagator, from the pass with the nearest anchor."""
        if not anchors:
            return []
        nearest: dict[tuple[int, int], tuple[int, RLE]] = {}
        for backwards in [
            b for b, name in ((False, "backwards"), (True, "forwards")) if self.settings.direction != name
        ]:
            for t, masks in self._pass(frames, grounded, anchors, maps, backwards):
                for k, own in enumerate(anchors):
                    distance = _distance(t, list(own), backwards)
                    if distance and ((t, k) not in nearest or distance < nearest[t, k][0]):
                        nearest[t, k] = (distance, encode(masks[k]))
                if on_frame is not None:
                    on_frame()
        return [(t, k, rle) for (t, k), (_, rle) in nearest.items()]

    def _pass(
        self, frames: Frames, grounded: Grounded, anchors: list[dict[int, int]], maps: FrameMaps | None, backwards: bool
    ) -> Any:
        """(frame, bool [K, H, W]) of a pass in one direction."""
        last = len(frames) - 1
        ordered = frames.subset(range(last, -1, -1)) if backwards else frames
        prompts = {last - t if backwards else t: p for t, p in _prompts(grounded, anchors).items()}
        engine = self.engine if maps is None else self.engine.with_maps(maps, len(frames) if backwards else 0)
        for t, probabilities in engine(ordered, prompts):
            yield last - t if backwards else t, exclusive(probabilities)


def _distance(t: int, anchors: Sequence[int], backwards: bool) -> int | None:
    """Distance in frames from the nearest anchor already passed to frame t; None before the first anchor, 0 at one."""
    passed = [abs(t - a) for a in anchors if (a >= t if backwards else a <= t)]
    return min(passed) if passed else None


def choose_anchors(grounded: Grounded, settings: PropagationSettings) -> list[list[int]]:
    """The frames in which the propagator is prompted with each noun, most confident first; N lists.

    Confidence is a product of the class score, the certainty of the mask's pixels, the share not claimed by other
    nouns, and relative size, as partly hidden objects are poor prompts. Anchors are at least T / (2 `anchors`) frames
    apart.
    (Weights chosen on procedural videos: `docs/benchmarks.md`.)
    """
    count, length = grounded.scores.shape
    areas = np.array([[area(rle) for rle in row] for row in grounded.rles], float).reshape(count, length)
    sure = grounded.scores * grounded.certainty**CERTAIN * (1 - claimed(grounded))
    apart = length / (2 * settings.anchors)
    anchors: list[list[int]] = []
    for n in range(count):
        whole = np.percentile(areas[n][areas[n] > 0], WHOLE) if areas[n].any() else 1.0
        suitability = sure[n] * np.minimum(areas[n] / whole, 1)
        taken: list[int] = []
        for t in np.argsort(-suitability, kind="stable").tolist():
            free = all(abs(t - other) >= apart for other in taken)
            if (
                free
                and suitability[t] > 0
                and grounded.scores[n, t] >= settings.confidence
                and len(taken) < settings.anchors
            ):
                taken.append(t)
        anchors.append(taken)
    return anchors


def claimed(grounded: Grounded) -> np.ndarray:
    """Overlap of a noun's mask with other objects, float64 [N, T] in [0, 1]: IoU times the other noun's class score."""
    groups = same_objects(grounded)
    result = np.zeros(grounded.scores.shape)
    for group in groups:
        others = [m for other in groups if other is not group for m in other]
        for n in group:
            for t, own in enumerate(grounded.rles[n]):
                shares = [intersection_over_union(own, grounded.rles[m][t]) * grounded.scores[m, t] for m in others]
                result[n, t] = max(shares, default=0.0) if area(own) else 0.0
    return result


def same_objects(grounded: Grounded) -> list[list[int]]:
    """Nouns grouped by object: those whose masks agree over the whole video mean the same, as "a man ... the man"."""
    groups: list[list[int]] = []
    for n, row in enumerate(grounded.rles):
        for group in groups:
            other = grounded.rles[group[0]]
            pairs = [(a, b) for a, b in zip(row, other, strict=True) if area(a) or area(b)]
            if pairs and float(np.mean([intersection_over_union(a, b) for a, b in pairs])) >= SAME:
                group.append(n)
                break
        else:
            groups.append([n])
    return groups


def _anchors_of(group: list[int], anchors: list[list[int]], grounded: Grounded) -> dict[int, int]:
    """The anchors of an object: frame -> the noun whose mask is used, the most confident one if there are several."""
    chosen: dict[int, int] = {}
    for n in group:
        for t in anchors[n]:
            if t not in chosen or grounded.scores[n, t] > grounded.scores[chosen[t], t]:
                chosen[t] = n
    return chosen


def _undisputed(anchors: list[dict[int, int]], grounded: Grounded) -> list[dict[int, int]]:
    """Anchors except those whose mask is covered, by half or more, by more confident ones of the same frame."""
    kept: list[dict[int, int]] = [{} for _ in anchors]
    for t in sorted({t for own in anchors for t in own}):
        here = sorted(((-grounded.scores[own[t], t], k) for k, own in enumerate(anchors) if t in own))
        taken: list[RLE] = []
        for _, k in here:
            mask = grounded.rles[anchors[k][t]][t]
            if not taken or covered(mask, union(taken)) < 0.5:
                kept[k][t] = anchors[k][t]
                taken.append(mask)
    return kept


class _Prompts(Mapping[int, FramePrompts]):
    """Prompts by frame, decoded from masks on access."""

    def __init__(self, grounded: Grounded, anchors: list[dict[int, int]]) -> None:
        self._grounded, self._anchors = grounded, anchors
        self._frames = sorted({t for own in anchors for t in own})

    def __getitem__(self, t: int) -> FramePrompts:
        masks: list[np.ndarray | None] = [None] * len(self._anchors)
        here = [(self._grounded.scores[own[t], t], k, own[t]) for k, own in enumerate(self._anchors) if t in own]
        free: np.ndarray | None = None
        for _, k, n in sorted(here, reverse=True):  # a pixel of two masks belongs to the more confident one
            mask = decode(self._grounded.rles[n][t])
            free = np.ones_like(mask) if free is None else free
            masks[k] = mask & free
            free &= ~mask
        return FramePrompts(masks=tuple(masks))

    def __iter__(self) -> Any:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)


def _prompts(grounded: Grounded, anchors: list[dict[int, int]]) -> Mapping[int, FramePrompts]:
    return _Prompts(grounded, anchors)
