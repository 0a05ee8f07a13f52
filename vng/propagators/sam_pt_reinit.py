"""SAM-PT with re-initialisation: points are followed for a while, then new ones are drawn from a predicted mask.

Four variants choose the frame of the new points (names of the authors' program: docs/sam-pt.md). An object whose mask
is empty where new points are drawn is lost from there on.
Shapes: K objects, T frames of a window, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from vng.errors import UsageError
from vng.frames import Backwards, Frames
from vng.propagators import FramePrompts, as_drawn
from vng.propagators.point_filters import in_frame

if TYPE_CHECKING:
    from vng.propagators.sam_pt import Queries, SamPtPropagator

LEAST_AREA = 25  # pixels; a mask this small or smaller has no area
UNKNOWN, BONUS = 720.0, 36.0  # cost of a mask without an area; gain where another object starts (variant D)


def propagate_anew(
    engine: SamPtPropagator, frames: Frames, prompts: Mapping[int, FramePrompts], count: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The engine's call with re-initialisation: forwards from the first prompt, then backwards from it.

    Raises UsageError for an object with prompts in several frames: new points would replace them.
    """
    first = min(prompts)
    starts = _starts(engine, frames, prompts, count)
    yield from _forwards(engine, frames, starts, prompts, first)
    if first:
        early = {k: (0, own) for k, (t, own) in starts.items() if t == first}
        backwards = Backwards(frames, first)
        for t, probabilities in _forwards(engine, backwards, early, {}, 0, count):
            if t:
                yield first - t, probabilities


def _starts(
    engine: SamPtPropagator, frames: Frames, prompts: Mapping[int, FramePrompts], count: int
) -> dict[int, tuple[int, Queries]]:
    """Object -> (frame, its query points)."""
    queries, starts = engine.queries(frames, prompts), {}
    for k in range(count):
        own = queries.owner == k
        times = np.unique(queries.points[own, 0]).astype(int)
        if len(times) > 1:
            listed = ", ".join(map(str, times))
            raise UsageError(f"object {k}: prompts in frames {listed}; with reinit an object has one, leave it out")
        if len(times) and queries.positive[own].any():
            starts[k] = (int(times[0]), _of(queries, own))
    return starts


def _forwards(
    engine: SamPtPropagator,
    frames: Frames,
    starts: Mapping[int, tuple[int, Queries]],
    prompts: Mapping[int, FramePrompts],
    first: int,
    count: int | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Every frame from `first` on, once no later window changes it."""
    from vng.propagators.sam_pt import NOTHING, merged

    count = len(next(iter(prompts.values()))) if count is None else count
    current = dict(starts)
    found: dict[int, dict[int, np.ndarray]] = {}  # frame -> object -> logits float16 [H, W]
    given = first  # the next frame to give
    for t in range(first, len(frames)):
        together = [k for k, (start, _) in current.items() if start == t]
        if together:
            _window(engine, frames, t, together, current, found)
        # frames before the next window are final; without any further window, all are
        begins = min([start for start, _ in current.values()], default=len(frames))
        final = min(begins, t + 1) if current else len(frames)
        for done in range(given, final):
            logits = np.full((count, *frames.size), NOTHING, np.float32)
            for k, own in found.pop(done, {}).items():
                logits[k] = own
            yield done, as_drawn(merged(logits), prompts[done].masks if done in prompts else ())
        given = max(given, final)


def _window(
    engine: SamPtPropagator,
    frames: Frames,
    start: int,
    together: list[int],
    current: dict[int, tuple[int, Queries]],
    found: dict[int, dict[int, np.ndarray]],
) -> None:
    """Follow and segment the objects that start in a frame, and give them their next frame and points."""
    from vng.propagators.sam_pt import Queries

    s = engine.settings
    queries = Queries.concatenated([current[k][1] for k in together])
    points = np.concatenate([np.zeros((len(queries.points), 1), np.float32), queries.points[:, 1:]], 1)
    seen = frames.subset(range(start, min(start + s.tracker_horizon, len(frames))))
    length = min(s.horizon, len(frames) - start)
    areas, masks = np.zeros((len(together), length)), np.zeros((length, len(together), *frames.size), bool)
    for i, xy, visibility in engine.tracker(seen, points):
        if i >= length:
            break
        visible = (visibility > engine.tracker.threshold) & in_frame(xy, frames.size)
        logits, _ = engine.masks(frames[start + i], queries, xy, visible, together)
        masks[i], areas[:, i] = logits > 0, (logits > 0).sum((1, 2))
        for k, own in zip(together, logits, strict=True):
            found.setdefault(start + i, {})[k] = own.astype(np.float16)
    if start + length >= len(frames):
        for k in together:
            del current[k]
        return
    later = [t for k, (t, _) in current.items() if k not in together and t > start]
    for row, (k, place) in enumerate(zip(together, choose(areas, s.reinit or "", later, start), strict=True)):
        drawn = None
        if place is not None:
            t = start + place
            drawn = engine.points_of_mask(k, t, masks[place, row], frames[t])
        if drawn is None or not drawn.positive.any():
            del current[k]  # lost
            for t in range(start + (place or 1), start + length):
                found[t].pop(k)
        else:
            current[k] = (start + (place or 0), drawn)


def choose(areas: np.ndarray, variant: str, later: list[int], start: int) -> list[int | None]:
    """The frame of a window, counted from its first, in which each object gets new points; None: it is lost.

    Args:
        areas: pixels of the masks, [K, T]; of frame 0 those that the window began with.
        variant: "horizon" (the last frame), "median-area", "similar-area" (to frame 0's), "similar-area-together"
            (one frame for all); "horizon" and the last one prefer a frame in which another object starts.
        later: frames of the video in which other objects start, after the window's first.
        start: the frame of the video in which the window begins.
    """
    count, length = areas.shape
    known = np.where(areas > LEAST_AREA, areas, np.nan)[:, 1:]
    early = length // 4
    if early < length - 1:
        known[:, :early] = np.nan
    if variant == "horizon":
        place = min([length - 1, *(t - start for t in later)])
        return [place] * count
    if variant == "similar-area-together":
        with np.errstate(invalid="ignore", divide="ignore"):
            cost = np.abs(known - areas[:, :1]) / areas[:, :1]
        total = np.where(np.isnan(cost), UNKNOWN, cost).sum(0)
        if later and min(later) - start - 1 < len(total):
            total[min(later) - start - 1] -= BONUS
        return [int(total.argmin()) + 1] * count
    return [_own_frame(row, area, variant) for row, area in zip(known, areas[:, 0], strict=True)]


def _own_frame(known: np.ndarray, area: float, variant: str) -> int | None:
    places = np.flatnonzero(~np.isnan(known))
    if not len(places):
        return None
    if variant == "median-area":
        ranked = places[np.argsort(known[places], kind="stable")]
        return int(ranked[(len(ranked) - 1) // 2]) + 1
    return int(places[np.abs(known[places] - area).argmin()]) + 1


def _of(queries: Queries, which: np.ndarray) -> Queries:
    from vng.propagators.sam_pt import Queries

    return Queries(points=queries.points[which], owner=queries.owner[which], positive=queries.positive[which])
