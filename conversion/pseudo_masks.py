"""Points or a mouse trace -> masks of the objects of one video, with their measured quality.

A share of the verified points is held out from the segmenter; the share of these points that the finished mask puts on
the right side is the object's *point agreement*.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from conversion.quality import conflicts, mask_area, point_agreement, stability
from vng.dataset import Quality, VideoObject
from vng.errors import DataError
from vng.frames import Frames
from vng.masks import RLE, decode, empty, encode
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, PointPrompts, Points
from vng.propagators import FramePrompts, Propagator
from vng.propagators.both_ways import both_ways
from vng.segmenters import Segmenter
from vng.segmenters.box_points import boxed

THRESHOLD = 0.5
DRAWN = "drawn"  # source of masks that are all given


@dataclass(frozen=True)
class PointedObject:
    """An object with points and no masks."""

    object_id: str
    name: str
    points: Points  # frames are indices into the video's frames
    trace: bool = False  # points are a mouse trace, which nobody verified
    link: str = ""
    boxes: Mapping[int, np.ndarray] = field(default_factory=dict)  # float32 [4] by frame: centres of corner pixels
    masks: Mapping[int, RLE] = field(default_factory=dict)  # drawn ones, by frame; empty where the object is absent


# (frames, objects, segmenter, held-out points) -> masks [K][T], as `segment_points`
Segment = Callable[[Frames, Sequence[PointedObject], Segmenter, Sequence[np.ndarray] | None], list[list[RLE | None]]]


@dataclass(frozen=True)
class PseudoMaskSettings:
    """Settings of pseudo-masks; part of the manifest."""

    held_out: float = 0.2  # share of verified points held out from the segmenter
    seed: int = 0


def make_pseudo_masks(
    frames: Frames,
    objects: Sequence[PointedObject],
    segmenter: Segmenter,
    settings: PseudoMaskSettings,
    engine: str,
    propagator: Propagator | None = None,
    segment: Segment | None = None,
) -> tuple[VideoObject, ...]:
    """Masks of all objects of a video; each annotated frame is segmented once for all of them.

    A frame in which an object has only negatives gets an empty mask; one with no verified point, or with ambiguous
    points and no positive, stays null. Where an object has positives and the segmenter returns an empty mask, the frame
    stays null as well: the object is not absent. With a propagator, the frames between get masks too.

    Args:
        frames: the video's frames. objects: its objects with their points.
        segmenter: points -> masks in one frame. engine: its name, for the objects' `source`.
        propagator: carries masks to frames without points; None leaves these null. One that `reads_points` gets these
            instead of masks, and the segmenter is not used.
        segment: points -> masks in their frames; None: each frame by itself, as `segment_points`.

    Raises:
        DataError: a point outside its frame, with object and frame.
    """
    held = [_held_out(item, settings) for item in objects]
    if propagator is not None and propagator.reads_points:
        rles = _from_points(frames, objects, held, propagator)
    else:
        rles = (segment or segment_points)(frames, objects, segmenter, held)
        if propagator is not None:
            rles = _propagate(frames, rles, propagator)
    claims = conflicts(rles)
    return tuple(
        _finish(item, out, row, conflict, engine)
        for item, out, row, conflict in zip(objects, held, rles, claims, strict=True)
    )


def _check_inside(frames: Frames, objects: Sequence[PointedObject]) -> None:
    height, width = frames.size
    for item in objects:
        # A pointer may leave the frame for a moment; verified points may not.
        if item.trace or not len(item.points):
            continue
        x, y = item.points.xy.T
        outside = (x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)
        if outside.any():
            i = int(np.flatnonzero(outside)[0])
            raise DataError(
                frames.source,
                record=item.object_id,
                field=f"annotated_points ({frames.names[item.points.frame[i]]})",
                reason=f"point ({x[i]:g}, {y[i]:g}) is outside the frame of {width}x{height} pixels",
                cure="check that frames and points have the same resolution",
            )


def _held_out(item: PointedObject, settings: PseudoMaskSettings) -> np.ndarray:
    """Points held out from the segmenter, bool [P]: a share of each label in each frame, never its only positive.

    Drawn from (seed, object id), so that it depends neither on other objects nor on the order of processing.
    """
    points = item.points
    out = np.zeros(len(points), bool)
    if item.trace or not settings.held_out:
        return out
    rng = np.random.default_rng([settings.seed, zlib.crc32(item.object_id.encode())])
    for frame in np.unique(points.frame):
        for label in (POSITIVE, NEGATIVE):
            here = np.flatnonzero((points.frame == frame) & (points.label == label))
            expected = settings.held_out * len(here)
            count = int(expected) + int(rng.random() < expected % 1)
            count = min(count, max(0, len(here) - 1))
            out[rng.permutation(here)[:count]] = True
    return out


def segment_points(
    frames: Frames,
    objects: Sequence[PointedObject],
    segmenter: Segmenter,
    held: Sequence[np.ndarray] | None = None,
) -> list[list[RLE | None]]:
    """Masks of K objects in the frames with prompts, [K][T]; drawn ones as they are, null elsewhere.

    Args:
        frames, objects, segmenter: as of `make_pseudo_masks`.
        held: points of each object that the segmenter does not see, bool [P]; None: it sees all.

    Raises:
        DataError: a point outside its frame, with object and frame.
    """
    _check_inside(frames, objects)
    held = held if held is not None else [np.zeros(len(item.points), bool) for item in objects]
    rles: list[list[RLE | None]] = [[item.masks.get(t) for t in range(len(frames))] for item in objects]
    for t in sorted({int(t) for item in objects for t in (*item.points.frame, *item.boxes)}):
        prompt_points = [item.points[~out].in_frame(t) for item, out in zip(objects, held, strict=True)]
        # Negatives beside an ambiguous point do not mean that the object is absent: such a frame stays null.
        verified = [
            i
            for i, points in enumerate(prompt_points)
            if t not in objects[i].masks
            and ((points.label == POSITIVE).any() or t in objects[i].boxes or _only_negatives(points))
        ]
        if not verified:
            continue
        prompts = [
            PointPrompts(prompt_points[i].of(POSITIVE).xy, prompt_points[i].of(NEGATIVE).xy, objects[i].trace)
            for i in verified
        ]
        boxes = [objects[i].boxes.get(t) for i in verified]
        if any(box is not None for box in boxes):
            image = frames[t]
            prompts = [
                prompt if box is None else boxed(prompt, box, segmenter, image)
                for prompt, box in zip(prompts, boxes, strict=True)
            ]
        present = [bool(len(prompt.positive)) or prompt.box is not None for prompt in prompts]
        if any(present):
            probabilities = segmenter(frames[t], prompts)
        for row, i in enumerate(verified):
            if not present[row]:
                rles[i][t] = empty(*frames.size)
            # An object with positives or a box is present: an empty result stays null.
            elif (mask := _inside_box(probabilities[row] > THRESHOLD, boxes[row])).any():
                rles[i][t] = encode(mask)
    return rles


def _only_negatives(points: Points) -> bool:
    return bool(len(points) and (points.label == NEGATIVE).all())


def _inside_box(mask: np.ndarray, box: np.ndarray | None) -> np.ndarray:
    """The part of a mask in a box that a person drew around its object."""
    if box is None:
        return mask
    x0, y0, x1, y1 = np.concatenate([np.floor(box[:2]), np.ceil(box[2:])]).astype(int)
    kept = np.zeros_like(mask)
    kept[y0 : y1 + 1, x0 : x1 + 1] = mask[y0 : y1 + 1, x0 : x1 + 1]
    return kept


def mask_prompts(rles: Sequence[Sequence[RLE | None]]) -> dict[int, FramePrompts]:
    """Masks of K objects [K][T] as prompts of a propagator, by frame; frames without any are left out."""
    decoded = {}
    for t, row in enumerate(zip(*rles, strict=True)):
        if any(rle is not None for rle in row):
            decoded[t] = FramePrompts(masks=tuple(None if rle is None else decode(rle).astype(bool) for rle in row))
    return decoded


def _propagate(frames: Frames, rles: list[list[RLE | None]], propagator: Propagator) -> list[list[RLE | None]]:
    if not (prompts := mask_prompts(rles)):
        return rles
    result = [list(row) for row in rles]
    for t, objects, probabilities in both_ways(propagator, frames, prompts):
        for k, probability in zip(objects, probabilities, strict=True):
            if result[k][t] is None:
                result[k][t] = encode(probability > THRESHOLD)
    return result


def _from_points(
    frames: Frames, objects: Sequence[PointedObject], held: Sequence[np.ndarray], propagator: Propagator
) -> list[list[RLE | None]]:
    """Masks [K][T] of an engine that reads points; drawn masks stay, an object without a prompt stays null."""
    _check_inside(frames, objects)
    result: list[list[RLE | None]] = [[item.masks.get(t) for t in range(len(frames))] for item in objects]
    prompts: dict[int, FramePrompts] = {}
    pointed = [item.points[~out] for item, out in zip(objects, held, strict=True)]
    for t in range(len(frames)):
        drawn = [None if (rle := item.masks.get(t)) is None else decode(rle) for item in objects]
        here = [points.in_frame(t) for points in pointed]
        asked = [
            PointPrompts(points.of(POSITIVE).xy, points.of(NEGATIVE).xy, item.trace)
            if mask is None and (points.label != AMBIGUOUS).any()
            else None
            for item, mask, points in zip(objects, drawn, here, strict=True)
        ]
        if any(x is not None for x in (*drawn, *asked)):
            prompts[t] = FramePrompts(tuple(drawn), tuple(asked))
    started = [
        any(p.points[k] is not None or p.masks[k] is not None for p in prompts.values()) for k in range(len(objects))
    ]
    for t, known, probabilities in both_ways(propagator, frames, prompts) if prompts else ():
        for k, probability in zip(known, probabilities, strict=True):
            if started[k] and result[k][t] is None:
                result[k][t] = encode(probability > THRESHOLD)
    return result


def _finish(
    item: PointedObject, held: np.ndarray, row: list[RLE | None], conflict: float | None, engine: str
) -> VideoObject:
    share, n_held_out = point_agreement(row, item.points[held])
    verified = 0 if item.trace else int((item.points.label != AMBIGUOUS).sum())
    quality = Quality(
        point_agreement=share,
        n_points=verified,
        n_held_out=n_held_out,
        mask_area=mask_area(row),
        stability=stability(row),
        conflict=conflict,
        link=item.link,
    )
    return VideoObject(item.object_id, item.name, _source(item, row, engine), tuple(row), item.points, quality)


def _source(item: PointedObject, row: Sequence[RLE | None], engine: str) -> str:
    """The origin of an object's masks."""
    if item.masks and all(rle is None or t in item.masks for t, rle in enumerate(row)):
        return DRAWN
    if item.masks and not len(item.points) and not item.boxes:
        return "mask/propagated"
    return f"{'trace' if item.trace else 'points'}/{engine}"
