"""Own clips in their video: frames by index, points and masks checked against its size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from vng.errors import DataError, DataErrors, Problem
from vng.frames import Frames, as_path, existing
from vng.label_maps import VOID, check_smoothed, read_label_map
from vng.masks import RLE, empty, encode
from vng.own_clips.records import PERCENT, ClipMask, ClipObject, ClipPoint, Frame, FrameText, OwnClip
from vng.points import POSITIVE, Points

MOST_OFF = 0.05  # share by which the frames of a video may differ from those that an annotation tool counted


@dataclass(frozen=True, kw_only=True)
class LocatedObject:
    """One object in a video of T frames of H x W pixels."""

    object_id: str
    name: str
    points: Points
    boxes: dict[int, np.ndarray] = field(default_factory=dict)  # by frame: float32 [4]
    masks: dict[int, RLE] = field(default_factory=dict)  # by frame; empty where it is absent


@dataclass(frozen=True, kw_only=True)
class _Located:
    """A point with the index of its frame."""

    point: ClipPoint
    object_id: str
    frame: int

    def problem(self, source: str, frames: Frames, name: str, reason: str, cure: str = "") -> Problem:
        place = f"{self.point.place}, frame {frames.names[self.frame]}"
        return Problem(source, record=place, field=name, reason=reason, cure=cure, kind="error" if cure else "note")


def locate(clip: OwnClip, frames: Frames) -> tuple[tuple[LocatedObject, ...], list[Problem]]:
    """The objects of a clip in the frames of its video, and notes.

    Raises:
        DataErrors: all mistakes: frames that are not in the video, points outside it, masks of another size, pixels with
            two labels or of two objects; a video of another size or length than the one that was annotated.
    """
    source, problems, notes = str(clip.file), list[Problem](), list[Problem]()
    if problem := _another_video(clip, frames):
        raise DataErrors([problem])
    clip = _in_pixels(clip, frames.size)
    points: list[_Located] = []
    located = []
    for item in clip.objects:
        for point in item.points:
            index = _index(clip, point.place, point.frame, frames, problems)
            if index is not None:
                points.append(_Located(point=point, object_id=item.object_id, frame=index))
        boxes = dict(_boxes(clip, item, frames, problems))
        masks = dict(_masks(clip, item, frames, problems))
        located.append(
            LocatedObject(object_id=item.object_id, name=item.name, points=Points.none(), boxes=boxes, masks=masks)
        )
    kept = [point for point in points if _fits(source, point, frames, problems)]
    kept = list(_without_contradictions(source, kept, frames, problems, notes))
    if problems:
        raise DataErrors(problems)
    own = {item.object_id: [p for p in kept if p.object_id == item.object_id] for item in located}
    return tuple(replace(item, points=_points(own[item.object_id], frames.size)) for item in located), notes


def _another_video(clip: OwnClip, frames: Frames) -> Problem | None:
    """Why these cannot be the frames that were annotated, where that can be told."""
    (height, width), count = frames.size, len(frames)
    if clip.size not in (None, frames.size):
        reason = "annotated in {1}x{0} pixels, ".format(*clip.size) + f"the frames have {width}x{height}"
        return _problem(clip, "", "size", reason, "give the frames that were annotated")
    if clip.count is not None and abs(clip.count - count) > max(1, MOST_OFF * count):
        reason = f"annotated in {clip.count} frames, the video has {count}: frame numbers would mean others"
        return _problem(clip, "", "frames", reason, "set the frame rate of the annotation tool to that of the video")
    return None


def _in_pixels(clip: OwnClip, size: tuple[int, int]) -> OwnClip:
    """A clip with points and boxes in pixels of its frames; 0% and 100% are the outer edges of the outer pixels."""
    if clip.unit != PERCENT:
        return clip
    height, width = size
    objects = []
    for item in clip.objects:
        points = [replace(p, x=p.x / 100 * width - 0.5, y=p.y / 100 * height - 0.5) for p in item.points]
        scale = (width / 100, height / 100) * 2
        boxes = []
        for box in item.boxes:
            edges = [side * factor for side, factor in zip(box.corners, scale, strict=True)]
            boxes.append(replace(box, corners=corners_of_edges(*edges)))
        objects.append(replace(item, points=tuple(points), boxes=tuple(boxes)))
    return replace(clip, objects=tuple(objects))


def corners_of_edges(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    """A box of pixel edges (a mask of the first pixel alone has 0, 0, 1, 1) as centres of its corner pixels.

    A side of less than a pixel gives the middle, a little to both sides.
    """
    sides = []
    for low, high in ((left, right), (top, bottom)):
        middle = (low + high - 1) / 2
        sides.append((low, high - 1) if high - low > 1.25 else (middle - 0.125, middle + 0.125))
    (x0, x1), (y0, y1) = sides
    return x0, y0, x1, y1


def _points(points: list[_Located], size: tuple[int, int]) -> Points:
    # Within half a pixel of the frame, a point lies on its outermost pixel.
    most = np.array(size[::-1]) - 1
    xy = [tuple(np.clip((p.point.x, p.point.y), 0, most)) for p in points]
    return Points.of_lists([p.frame for p in points], xy, [p.point.label for p in points])


def _index(clip: OwnClip, place: str, frame: Frame, frames: Frames, problems: list[Problem]) -> int | None:
    """The index of a frame; None, and a problem, where the video has no such frame."""
    index: int | None = None
    if isinstance(frame, FrameText):
        before = len(problems)
        index = _of_text(clip, place, frame, frames, problems)
        if len(problems) > before:
            return None
    elif isinstance(frame, str):
        index = frames.index_of(frame)
    elif 0 <= frame < len(frames):
        index = frame
    if index is None:
        reason = f"frame {str(frame)[:80]!r} is not in the video of {len(frames)} frames"
        ends = f"use an index from 0 to {len(frames) - 1}, or a name from {frames.names[0]!r} to {frames.names[-1]!r}"
        problems.append(_problem(clip, place, "frame", reason, ends))
    return index


def _of_text(clip: OwnClip, place: str, text: str, frames: Frames, problems: list[Problem]) -> int | None:
    """The frame with exactly this name; else by index, or by name without leading zeros, if both agree."""
    if text in frames.names or not text.isdecimal():
        return frames.index_of(text)
    index = int(text) if len(text) < 10 and int(text) < len(frames) else None
    named = frames.index_of(text)
    if index is not None and named is not None and index != named:
        reason = f"{text} is the index of frame {frames.names[index]} and the number of frame {frames.names[named]}"
        problems.append(_problem(clip, place, "frame", reason, "write the frame's name in full"))
    return index if index is not None else named


def _problem(clip: OwnClip, place: str, name: str, reason: str, cure: str) -> Problem:
    record = ": ".join(part for part in (clip.record, place) if part)
    return Problem(str(clip.file), record=record, field=name, reason=reason, cure=cure)


def _boxes(
    clip: OwnClip, item: ClipObject, frames: Frames, problems: list[Problem]
) -> Iterator[tuple[int, np.ndarray]]:
    height, width = frames.size
    for box in item.boxes:
        index = _index(clip, box.place, box.frame, frames, problems)
        x0, y0, x1, y1 = box.corners
        if not (-0.5 <= x0 < x1 <= width - 0.5 and -0.5 <= y0 < y1 <= height - 0.5):
            reason = f"the box {[x0, y0, x1, y1]} is not inside the frame of {width}x{height} pixels"
            problems.append(_problem(clip, box.place, "", reason, "give it in pixels of the video"))
        elif index is not None:
            most = np.array([width - 1, height - 1] * 2, np.float32)
            yield index, np.clip(np.array(box.corners, np.float32), 0, most)


def _masks(clip: OwnClip, item: ClipObject, frames: Frames, problems: list[Problem]) -> Iterator[tuple[int, RLE]]:
    for mask in item.masks:
        index = _mask_frame(clip, mask, frames, problems)
        try:
            rle = empty(*frames.size) if mask.mask is None else mask.mask
            if isinstance(rle, str):
                rle = read_one_mask(existing(clip.file.parent, rle), frames.size)
            if rle.size != frames.size:
                reason = (
                    f"a mask of {rle.size[1]}x{rle.size[0]} pixels, the frames have {frames.size[1]}x{frames.size[0]}"
                )
                problems.append(_problem(clip, mask.place, "", reason, "give it in the size of the video"))
            elif index is not None:
                yield index, rle
        except DataError as error:
            problems.append(replace(error.problem, field=f"{clip.record} {mask.place}".strip()))


def _mask_frame(clip: OwnClip, mask: ClipMask, frames: Frames, problems: list[Problem]) -> int | None:
    """The frame of a mask; that of a file without one is named by it, else the first."""
    if mask.frame is not None:
        return _index(clip, mask.place, mask.frame, frames, problems)
    stem = PurePosixPath(as_path(str(mask.mask))).stem
    return frames.names.index(stem) if stem in frames.names else 0


def read_one_mask(path: Path, size: tuple[int, int]) -> RLE:
    """The mask of one object in a PNG: its pixels other than 0 (and 255 where there is another value).

    Raises:
        DataError: no such file, another size, smoothed edges, or several values, which are several objects.
    """
    labels = read_label_map(path, size=size).astype(np.uint8)
    check_smoothed(path, labels)
    values = sorted(set(np.unique(labels).tolist()) - {0})
    values = [value for value in values if value != VOID] or values
    if len(values) > 1:
        reason = f"{len(values)} values ({', '.join(map(str, values[:4]))}): a mask of one object has one"
        raise DataError(path, reason=reason, cure="save each object's mask by itself")
    return encode(np.isin(labels, values)) if values else empty(*size)


def _fits(source: str, located: _Located, frames: Frames, problems: list[Problem]) -> bool:
    fits = True
    for name, value, side in (("x", located.point.x, frames.size[1]), ("y", located.point.y, frames.size[0])):
        if not math.isfinite(value):
            reason, cure = f"{value} is not a finite number", "correct or delete this point"
        elif not -0.5 <= value <= side - 0.5:  # the frame ends at the edges of its outer pixels
            reason = f"{value:g} is outside the frame of {frames.size[1]}x{frames.size[0]} pixels"
            cure = f"{name} is in pixels of the video, from 0 to {side - 1}"
        else:
            continue
        problems.append(located.problem(source, frames, name, reason, cure))
        fits = False
    return fits


def _without_contradictions(
    source: str, points: Iterable[_Located], frames: Frames, problems: list[Problem], notes: list[Problem]
) -> Iterator[_Located]:
    """The points without duplicates (a note each); a pixel with two labels or two objects is a problem."""
    first_at: dict[tuple[str, int, int, int], _Located] = {}
    owners: dict[tuple[int, int, int], _Located] = {}
    for located in points:
        point = located.point
        pixel = (located.frame, round(point.x), round(point.y))
        where = f"pixel ({pixel[1]}, {pixel[2]})"
        earlier = first_at.setdefault((located.object_id, *pixel), located)
        if earlier is not located:
            if earlier.point.label == point.label:
                reason = f"{where} is there twice for this object; the second one is dropped"
                notes.append(located.problem(source, frames, "", reason))
            else:
                reason = f"{where} has another label already ({earlier.point.place})"
                problems.append(located.problem(source, frames, "label", reason, "keep one of the two"))
            continue
        owner = owners.setdefault(pixel, located) if point.label == POSITIVE else located
        if owner.object_id != located.object_id:
            reason = f"{where} is positive for object {owner.object_id!r} already ({owner.point.place})"
            problems.append(located.problem(source, frames, "object", reason, "a pixel belongs to one object"))
            continue
        yield located
