"""Shapes of CVAT's XML: where they are, as boxes, masks and points of frames.

All functions of shapes raise ValueError for numbers that are none, or that make no such shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from conversion.formats.drawn import XY, around, ellipse_mask, pasted, polygon_mask, turned
from vng.masks import RLE, is_size
from vng.own_clips import corners_of_edges
from vng.records import MOST

EDGES = ("xtl", "ytl", "xbr", "ybr")  # of a box
MOST_FRAME = 10**7


@dataclass
class Shape:
    """A shape as it stands in the file."""

    kind: str
    given: dict[str, str]  # XML attributes
    line: int
    attributes: dict[str, str] = field(default_factory=dict)
    frame: int = 0
    keyframe: bool = True  # False: CVAT made it of those before and after

    @property
    def outside(self) -> bool:
        """Whether the object is not there."""
        return self.given.get("outside") == "1"

    @property
    def place(self) -> tuple[str, ...]:
        """Where it is, as text: the same for a shape that did not move."""
        names = ("points", *EDGES, "rotation", "cx", "cy", "rx", "ry", "rle", "left", "top")
        return tuple(self.given.get(name, "") for name in names)


def frame_of(shape: Shape) -> int:
    """The number of a track's shape's frame in the video, from 0."""
    text = shape.given.get("frame", "")
    if not text.isdecimal() or len(text) > 8 or int(text) > MOST_FRAME:
        raise ValueError(f"frame: expected a number from 0 to {MOST_FRAME}, got {text[:40]!r}")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < MOST:
        raise ValueError(f"{name}: expected a number between -1e9 and 1e9, got {text[:40]!r}")
    return value


def sides_of(shape: Shape, names: tuple[str, ...]) -> list[float]:
    """The numbers of some XML attributes."""
    return [_number(name, shape.given.get(name, "")) for name in names]


def points_of(shape: Shape) -> list[XY]:
    """The corners of a polygon, or the points of a shape of points, in pixel edges."""
    pairs = []
    for pair in shape.given.get("points", "").split(";"):
        x, _, y = pair.partition(",")
        pairs.append((_number("points", x), _number("points", y)))
    return pairs


def upright(sides: list[float], shape: Shape) -> list[float]:
    """The box round a box that was turned about its middle."""
    if not (angle := _number("rotation", shape.given.get("rotation", "0"))):
        return sides
    left, top, right, bottom = sides
    middle = ((left + right) / 2, (top + bottom) / 2)
    corners = turned([(left, top), (right, top), (right, bottom), (left, bottom)], angle, middle)
    return [*np.min(corners, 0), *np.max(corners, 0)]


def corners_of(sides: list[float], size: tuple[int, int] | None) -> tuple[float, float, float, float]:
    """A box of edges as centres of corner pixels, cut at the frame where its size is known."""
    left, top, right, bottom = sides
    if not (left < right and top < bottom):
        raise ValueError(f"xbr, ybr must lie right of and below xtl, ytl, got {sides}")
    return corners_of_edges(*around([(left, top), (right, bottom)], size or (MOST, MOST)))


def mask_of(shape: Shape, size: tuple[int, int] | None) -> RLE:
    """The mask of a polygon, an ellipse or a mask; `size` (height, width) of the frames has to be known."""
    if size is None:
        raise ValueError("neither the file (original_size) nor the video says the size of the frames: give --frames")
    if shape.kind == "polygon":
        return polygon_mask([points_of(shape)], size)
    if shape.kind == "ellipse":
        cx, cy, rx, ry = sides_of(shape, ("cx", "cy", "rx", "ry"))
        return ellipse_mask((cx, cy), (rx, ry), _number("rotation", shape.given.get("rotation", "0")), size)
    left, top, width, height = (int(side) for side in sides_of(shape, ("left", "top", "width", "height")))
    if not is_size((height, width)):
        raise ValueError(f"a mask of {width}x{height}")
    counts = [part.strip() for part in shape.given.get("rle", "").split(",")]
    if not all(part.isdecimal() and len(part) < 9 for part in counts):
        raise ValueError("rle: expected whole numbers with commas between them")
    return pasted(runs_mask([int(part) for part in counts], height, width), left, top, size)


def runs_mask(counts: list[int], height: int, width: int) -> np.ndarray:
    """CVAT's runs, row by row and background first -> bool [height, width]; raises ValueError for another sum."""
    if sum(counts) != height * width:
        raise ValueError(f"rle: the runs have {sum(counts)} pixels, {width}x{height} has {height * width}")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)


def mask_runs(mask: np.ndarray) -> list[int]:
    """The inverse of `runs_mask`."""
    flat = np.concatenate([[False], mask.reshape(-1)])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(run) for run in np.diff(np.concatenate([[0], ends, [mask.size]]))]
