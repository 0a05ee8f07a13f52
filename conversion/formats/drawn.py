"""Drawings of annotation tools as own clips; shared by the readers of those tools.

Tools measure from the edge of the frame: the first pixel lies between 0 and 1. Here its centre is 0 (DESIGN: points), so a
point loses half a pixel on each axis, and a box becomes the centres of its first and last pixels.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from conversion.formats.jsonio import OnProblem
from vng.errors import DataError, Problem
from vng.masks import MOST_PIXELS, RLE, encode, is_size, union
from vng.own_clips import PIXELS, ClipBox, ClipMask, ClipObject, ClipPoint, Frame, OwnClip
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE

LABELS = {"positive": POSITIVE, "negative": NEGATIVE, "ambiguous": AMBIGUOUS}
MOST_VERTICES = 20_000  # of a polygon
MOST_OUTLINE = 1 << 20  # pixels round a polygon: what rasterising it costs
MOST_FRAMES = 1 << 20  # of which a file tells something without listing them: between two boxes, after an end
_LABELLED = re.compile(r"(.+?)[ _:-](positive|negative|ambiguous)", re.IGNORECASE | re.DOTALL)
XY = tuple[float, float]


def labelled(name: str) -> tuple[str, int]:
    """A point's name -> the object it speaks of, and its label: "parrot-negative" is off "parrot"."""
    match = _LABELLED.fullmatch(name.strip())
    return (match[1], LABELS[match[2].lower()]) if match else (name, POSITIVE)


def turned(points: Iterable[XY], degrees: float, about: XY) -> list[XY]:
    """Points turned clockwise, as it looks in an image."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [
        (about[0] + (x - about[0]) * cos - (y - about[1]) * sin, about[1] + (x - about[0]) * sin + (y - about[1]) * cos)
        for x, y in points
    ]


def around(points: Sequence[XY], size: tuple[float, float]) -> tuple[float, float, float, float]:
    """The upright box round some points, cut at the frame: left, top, right, bottom edges.

    Raises:
        ValueError: nothing of it lies in the frame of `size` (height, width).
    """
    across, down = [x for x, _ in points], [y for _, y in points]
    left, top, right, bottom = min(across), min(down), max(across), max(down)
    cut = max(left, 0.0), max(top, 0.0), min(right, size[1]), min(bottom, size[0])
    if not (cut[0] < cut[2] and cut[1] < cut[3]):
        raise ValueError(
            f"a box of {right - left:g}x{bottom - top:g} at ({left:g}, {top:g}), nothing of it is in the frame"
        )
    return cut


def check_outline(points: Sequence[XY], size: tuple[int, int]) -> None:
    """Raises ValueError for an outline that is no area, lies outside the frame, or is too long to be drawn."""
    if len(points) < 3:
        raise ValueError(f"an outline of {len(points)} points, 3 are needed")
    if len(points) > MOST_VERTICES:
        raise ValueError(f"an outline of {len(points)} points, at most {MOST_VERTICES} are read")
    xy = np.array(points, float)
    far = np.abs(xy - np.array(size[::-1]) / 2).max(0) > np.array(size[::-1]) * 1.5
    if far.any():
        raise ValueError(f"an outline that goes far beyond the frame of {size[1]}x{size[0]} pixels")
    if np.abs(np.diff(np.concatenate([xy, xy[:1]]), axis=0)).sum() > MOST_OUTLINE:
        raise ValueError(f"an outline of more than {MOST_OUTLINE} pixels")


def polygon_mask(outlines: Sequence[Sequence[XY]], size: tuple[int, int]) -> RLE:
    """The union of polygons, in pixel edges, as COCO's own code rasterises it; raises ValueError for a bad outline."""
    for outline in outlines:
        check_outline(outline, size)
    flat = [[float(side) for point in outline for side in point] for outline in outlines]
    merged = coco_mask.merge(coco_mask.frPyObjects(flat, *size))
    return RLE(size, merged["counts"].decode("ascii"))


def ellipse_mask(middle: XY, radii: XY, degrees: float, size: tuple[int, int]) -> RLE:
    """The pixels whose centres lie in an ellipse, in pixel edges; raises ValueError for radii that are not positive."""
    if not (0 < radii[0] < MOST_PIXELS and 0 < radii[1] < MOST_PIXELS):
        raise ValueError(f"an ellipse with radii {radii[0]:g} and {radii[1]:g}")
    y, x = np.ogrid[: size[0], : size[1]]
    right, down = x + 0.5 - middle[0], y + 0.5 - middle[1]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    across, along = (right * cos + down * sin) / radii[0], (down * cos - right * sin) / radii[1]
    return encode(np.asarray(across**2 + along**2 <= 1))


def pasted(patch: np.ndarray, left: int, top: int, size: tuple[int, int]) -> RLE:
    """The mask with a patch, bool [h, w], at a place of the frame; raises ValueError where it does not fit in."""
    height, width = patch.shape
    if left < 0 or top < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError(
            f"a mask of {width}x{height} at ({left}, {top}) is not inside the frame of {size[1]}x{size[0]}"
        )
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = patch
    return encode(mask)


class Notes:
    """Things that a reader leaves out on purpose: one note for each reason, with the number of times."""

    def __init__(self, file: Path, on_problem: OnProblem) -> None:
        self._file, self._on_problem = file, on_problem
        self._counts: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        """Count one thing."""
        self._counts[reason] += 1

    def tell(self) -> None:
        """Report them."""
        for reason, count in self._counts.items():
            self._on_problem(Problem(str(self._file), reason=f"{reason} ({count} times)", kind="note"))


@dataclass
class _Drawn:
    """All that is known of one object."""

    name: str
    points: list[ClipPoint] = field(default_factory=list)
    boxes: dict[Frame, ClipBox] = field(default_factory=dict)
    masks: dict[Frame, list[RLE]] = field(default_factory=dict)
    absent: dict[Frame, None] = field(default_factory=dict)
    spoiled: set[Frame] = field(default_factory=set)


class DrawnClip:
    """Gathers the shapes of one video in any order; `clip` makes an own clip of them.

    Several masks of an object in one frame are its parts. Of a frame with a mistake no mask is made, as a part of it would
    be missing; a mask tells more than a box, and a shape that is there more than an absence.
    """

    def __init__(self, file: Path, video: str, video_id: str, record: str, unit: str = PIXELS) -> None:
        self.file, self.video, self.video_id, self.record, self.unit = file, video, video_id, record, unit
        self.size: tuple[int, int] | None = None
        self.count: int | None = None  # frames
        self._objects: dict[str, _Drawn] = {}

    def sized(self, size: tuple[int, int]) -> None:
        """Say in what height and width the video was annotated; raises ValueError for a second, or an impossible one."""
        if not is_size(size):
            raise ValueError(f"frames of {size[1]}x{size[0]}: expected sides from 1, and at most {MOST_PIXELS} pixels")
        if self.size not in (None, size):
            raise ValueError(f"frames of {size[1]}x{size[0]} and of {self.size[1]}x{self.size[0]} in one video")
        self.size = size

    def object(self, key: str, name: str) -> _Drawn:
        """The object of this key, with the first name that it is given."""
        item = self._objects.setdefault(key, _Drawn(name))
        item.name = item.name or name
        return item

    def point(self, key: str, name: str, frame: Frame, xy: XY, label: int = POSITIVE) -> None:
        """Add a point, in centres of pixels (or percent of the frame)."""
        self.object(key, name).points.append(ClipPoint(frame=frame, x=xy[0], y=xy[1], label=label))

    def box(self, key: str, name: str, frame: Frame, corners: tuple[float, float, float, float]) -> None:
        """Add a box, in centres of its corner pixels (or percent); raises ValueError for a second one in a frame."""
        item = self.object(key, name)
        if frame in item.boxes:
            item.spoiled.add(frame)
            raise ValueError(f"two boxes of object {key!r} in one frame: they are two objects")
        item.boxes[frame] = ClipBox(frame=frame, corners=corners)

    def mask(self, key: str, name: str, frame: Frame, rle: RLE) -> None:
        """Add a mask, or a part of one."""
        self.object(key, name).masks.setdefault(frame, []).append(rle)

    def absent(self, key: str, name: str, frames: Iterable[Frame]) -> None:
        """Say that an object is not there."""
        self.object(key, name).absent.update(dict.fromkeys(frames))

    def spoil(self, key: str, name: str, frame: Frame) -> None:
        """Make neither mask nor box of an object's frame: a shape of it has a mistake."""
        self.object(key, name).spoiled.add(frame)

    def clip(self) -> OwnClip:
        """The clip."""
        return OwnClip(
            video=self.video,
            video_id=self.video_id,
            objects=tuple(_clip_object(key, item) for key, item in self._objects.items()),
            unit=self.unit,
            size=self.size,
            count=self.count,
            file=self.file,
            record=self.record,
        )


def _clip_object(key: str, item: _Drawn) -> ClipObject:
    masks = [
        ClipMask(frame=frame, mask=parts[0] if len(parts) == 1 else union(parts))
        for frame, parts in item.masks.items()
        if frame not in item.spoiled
    ]
    boxes = [box for frame, box in item.boxes.items() if frame not in item.masks and frame not in item.spoiled]
    there = {*item.masks, *item.boxes, *item.spoiled, *(p.frame for p in item.points if p.label != NEGATIVE)}
    masks += [ClipMask(frame=frame, mask=None) for frame in item.absent if frame not in there]
    return ClipObject(
        object_id=key, name=item.name or key, points=tuple(item.points), boxes=tuple(boxes), masks=tuple(masks)
    )


def finished(clips: Mapping[str, DrawnClip], file: Path, cure: str) -> Iterator[OwnClip]:
    """The clips in which something was drawn; raises DataError where there is none."""
    drawn = [clip for item in clips.values() if (clip := item.clip()).objects]
    if not drawn:
        raise DataError(file, reason="nothing that can be read is drawn in this file", cure=cure)
    yield from drawn


def problem_of(file: Path, record: str, error: ValueError | DataError, cure: str) -> Problem:
    """The problem of a shape that cannot be used."""
    return (
        error.problem
        if isinstance(error, DataError)
        else Problem(str(file), record=record, reason=str(error), cure=cure)
    )
