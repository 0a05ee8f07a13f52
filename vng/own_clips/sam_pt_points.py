"""Point files of SAM-PT's demo: the number of positives, then a line for each object, positives before negatives.

    3
    0; 120,80 130.5,90 118,101 10,10

Every object has the same number of points. Pixels of the original video, frames counted from 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from vng.errors import DataError, DataErrors, Problem
from vng.own_clips.records import ClipObject, ClipPoint, OwnClip
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE
from vng.text_files import read_text

LINE = "frame; x,y x,y ..."
CURE = f"write the number of positives, then a line for each object: {LINE}"


def read_sam_pt_points(path: Path, problems: list[Problem] | None = None) -> OwnClip:
    """The clip of a point file; objects are named by their order, from 1.

    Args:
        path: the file.
        problems: receives the mistakes, which are left out; None: they are raised.

    Raises:
        DataError: no such file, or its first line is no number. DataErrors: all mistakes.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line]
    if not numbered or not numbered[0][1].isdigit() or not 0 < int(numbered[0][1]) < 10_000:
        shown = numbered[0][1][:40] if numbered else "nothing"
        raise DataError(path, record="line 1", reason=f"expected the number of positives, got {shown!r}", cure=CURE)
    found: list[Problem] = []
    count = int(numbered[0][1])
    objects: list[ClipObject] = []
    for number, line in numbered[1:]:
        item = _object(path, number, line, count, str(len(objects) + 1), found)
        if item is not None:
            objects.append(item)
    if not objects and not found:
        raise DataError(path, reason="no object in this file", cure=CURE)
    if found and problems is None:
        raise DataErrors(found)
    if problems is not None:
        problems += found
    return OwnClip(objects=tuple(objects), file=path)


def _object(path: Path, number: int, line: str, count: int, name: str, problems: list[Problem]) -> ClipObject | None:
    def problem(reason: str) -> None:
        problems.append(Problem(str(path), record=f"line {number}", reason=reason, cure=f"write {LINE}"))

    frame, separator, rest = line.partition(";")
    if not separator or not frame.strip().isdigit() or len(frame.strip()) > 9:
        problem(f"expected a frame and ';', got {line[:40]!r}")
        return None
    places = rest.split()
    if len(places) < count:
        problem(f"{len(places)} points, but the first line says {count} positives")
        return None
    points = []
    for i, text in enumerate(places):
        try:
            x, y = (float(part) for part in text.split(","))
        except ValueError:
            problem(f"expected x,y, got {text[:40]!r}")
            return None
        if not (math.isfinite(x) and math.isfinite(y)):
            problem(f"point {text[:40]!r} is not finite")
            return None
        label = POSITIVE if i < count else NEGATIVE
        points.append(ClipPoint(frame=int(frame), x=x, y=y, label=label, place=f"line {number}, point {i + 1}"))
    return ClipObject(object_id=name, points=tuple(points))


def sam_pt_text(objects: Sequence[ClipObject]) -> str:
    """The point file of objects, each of whose points lie in one frame (given by its index).

    Raises ValueError where the format cannot hold them: other numbers of positives or negatives, several frames,
    ambiguous points, or none.
    """
    rows, shapes = [], set()
    for item in objects:
        positive = [p for p in item.points if p.label == POSITIVE]
        negative = [p for p in item.points if p.label == NEGATIVE]
        frames = {p.frame for p in item.points}
        if len(frames) != 1 or not positive or any(p.label == AMBIGUOUS for p in item.points):
            raise ValueError(f"object {item.object_id}: expected positives and negatives in one frame")
        (frame,) = frames
        if not isinstance(frame, int):
            raise ValueError(f"object {item.object_id}: a frame by its name; this format counts frames")
        shapes.add((len(positive), len(negative)))
        rows.append(f"{frame};" + " ".join(f"{p.x:g},{p.y:g}" for p in (*positive, *negative)))
    if len(shapes) != 1:
        raise ValueError("the objects have different numbers of points; this format needs equal ones")
    return "\n".join([str(next(iter(shapes))[0]), *rows]) + "\n"
