"""labelme's JSON files, one for each frame, as own clips.

<folder>/VIDEO/FRAME.json     one clip for each folder
<folder>/FRAME.json           one clip, called as the folder
{"imagePath", "imageHeight", "imageWidth", "shapes": [{label, group_id, shape_type, points, flags, mask}]}

Shapes become masks as labelme's own `shape_to_mask` draws them, borders included. docs/formats.md says what becomes of them.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError

from conversion.formats.drawn import (
    LABELS,
    XY,
    DrawnClip,
    Notes,
    around,
    check_outline,
    finished,
    labelled,
    pasted,
    problem_of,
)
from conversion.formats.jsonio import OnProblem
from vng.errors import DataError
from vng.frames import as_path
from vng.masks import RLE, encode
from vng.own_clips import WHOLE, OwnClip, corners_of_edges
from vng.records import Reader
from vng.text_files import load_json

FIX = "correct or delete this shape in labelme"
UNREAD = ("line", "linestrip", "points")


def read_labelme(path: Path, on_problem: OnProblem) -> Iterator[OwnClip]:
    """The clips of a folder of labelme's files.

    Args:
        path: the folder.
        on_problem: receives files and shapes with mistakes, which are left out, and one note of each kind of thing not read.

    Raises:
        DataError: there is no such folder, or nothing is drawn in its files.
    """
    if not path.is_dir():
        raise DataError(path, reason="no such folder", cure="give the folder of labelme's JSON files")
    clips: dict[str, DrawnClip] = {}
    notes = Notes(path, on_problem)
    for file in sorted(path.rglob("*.json")):
        place = file.relative_to(path)
        if any(part.startswith(".") for part in place.parts):
            continue
        video = place.parent.as_posix()
        video_id = path.resolve().name if video == WHOLE else PurePosixPath(video).name
        clip = clips.setdefault(video, DrawnClip(path, video, video_id, video))
        try:
            _Frame(Reader(load_json(file), file, ""), clip, notes, on_problem).read()
        except DataError as error:
            on_problem(error.problem)
    notes.tell()
    yield from finished(clips, path, "give the folder of labelme's JSON files")


class _Frame:
    """One file: the shapes of a frame."""

    def __init__(self, reader: Reader, clip: DrawnClip, notes: Notes, on_problem: OnProblem) -> None:
        self.reader, self.clip, self.notes, self.on_problem = reader, clip, notes, on_problem
        self.file = Path(reader.file)
        self.frame = as_path(reader.get("imagePath", str, "")).stem or self.file.stem
        self.size = reader.side("imageHeight"), reader.side("imageWidth")
        try:
            clip.sized(self.size)
        except ValueError as error:
            raise reader.error("imageHeight", str(error), "save images of one size in a folder") from error

    def read(self) -> None:
        """Add all shapes; raises DataError where the file cannot be used."""
        for index, value in enumerate(self.reader.get("shapes", list)):
            record = f"shape {index}"
            try:
                self._shape(Reader(value, self.file, record))
            except (ValueError, DataError) as error:
                self.on_problem(problem_of(self.file, record, error, FIX))

    def _shape(self, shape: Reader) -> None:
        kind = shape.get("shape_type", str, "polygon")
        if kind in UNREAD:
            self.notes.add(f"a {kind} is not read")
            return
        if shape.value.get("description"):
            self.notes.add("a description is not read")
        name, sign = shape.get("label", str), 1
        if kind == "point":
            name, sign = labelled(name)
            flags = shape.optional("flags", dict) or {}
            sign = next((value for flag, value in LABELS.items() if flags.get(flag) is True), sign)
        group = shape.optional("group_id", int)
        key = name if group is None else f"{name}-{group}"
        try:
            points = [_pair(shape, index, point) for index, point in enumerate(shape.get("points", list))]
            self._add(shape, kind, key, name, points, sign)
        except (ValueError, DataError):
            self.clip.spoil(key, name, self.frame)
            raise

    def _add(self, shape: Reader, kind: str, key: str, name: str, points: list[XY], sign: int) -> None:
        needed = {"point": 1, "rectangle": 2, "circle": 2, "mask": 2, "oriented_rectangle": 4}.get(kind)
        if needed is not None and len(points) != needed:
            raise ValueError(f"a {kind} of {len(points)} points, {needed} are needed")
        if kind == "point":
            self.clip.point(key, name, self.frame, (points[0][0] - 0.5, points[0][1] - 0.5), sign)
        elif kind in ("rectangle", "oriented_rectangle"):
            self.clip.box(key, name, self.frame, corners_of_edges(*around(points, self.size)))
        elif kind == "mask":
            self.clip.mask(key, name, self.frame, _mask(shape, points, self.size))
        elif kind in ("polygon", "circle"):
            self.clip.mask(key, name, self.frame, drawn_mask(kind, points, self.size))
        else:
            raise ValueError(f"shape_type {kind[:40]!r} is not known")


def _pair(shape: Reader, index: int, value: object) -> XY:
    if not isinstance(value, list) or len(value) != 2:
        raise shape.error(f"points[{index}]", f"expected [x, y], got {str(value)[:40]}")
    pair = Reader({"x": value[0], "y": value[1]}, shape.file, shape.record, f"points[{index}]")
    return float(pair.get("x", float)), float(pair.get("y", float))


def drawn_mask(kind: str, points: list[XY], size: tuple[int, int]) -> RLE:
    """A polygon or a circle (its middle and a point on it) as labelme draws it; raises ValueError for a bad outline."""
    image = Image.new("L", (size[1], size[0]))
    draw = ImageDraw.Draw(image)
    if kind == "circle":
        (x, y), radius = points[0], math.dist(*points)
        corners = [(x - radius, y - radius), (x + radius, y + radius)]
        check_outline([*corners, (x, y)], size)
        draw.ellipse(corners, outline=1, fill=1)
    else:
        check_outline(points, size)
        draw.polygon(points, outline=1, fill=1)
    return encode(np.asarray(image))


def _mask(shape: Reader, points: list[XY], size: tuple[int, int]) -> RLE:
    """A mask: a PNG of the box between two pixels, both included."""
    (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points)
    try:
        data = base64.b64decode(shape.get("mask", str), validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.size != (right - left + 1, bottom - top + 1):
                reason = (
                    "a mask of {}x{}, ".format(*image.size) + f"its points are {right - left + 1}x{bottom - top + 1}"
                )
                raise shape.error("mask", reason, FIX)
            if image.size[0] > size[1] or image.size[1] > size[0]:
                raise shape.error("mask", "a mask larger than the frame", FIX)
            patch = np.asarray(image)
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise shape.error("mask", f"no PNG in base64 ({type(error).__name__})", FIX) from error
    if patch.ndim != 2:
        raise shape.error("mask", "a mask has one channel", FIX)
    return pasted(patch.astype(bool), left, top, size)
