"""Point prompts from JSON or CSV files; all errors of a file are reported at once (masks: `mask_prompts.py`).

Layout (x to the right, y down; the centre of the first pixel is (0, 0)):

    {"objects": {"parrot": [{"frame": 0, "x": 120, "y": 80, "label": "positive"}, ...], ...}}
    object,frame,x,y,label

`frame` is a frame's 0-based index or its name; `label` is positive (the default), negative or ambiguous.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vng.errors import DataError, DataErrors, Problem
from vng.frames import Frames
from vng.label_maps import MAX_NUMBER, numbers_of
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, PointPrompts, Points
from vng.propagators import FramePrompts
from vng.text_files import RepeatedKeys, load_json, read_text

LABELS = {
    "positive": POSITIVE,
    "negative": NEGATIVE,
    "ambiguous": AMBIGUOUS,
    "1": POSITIVE,
    "0": NEGATIVE,
    "-1": AMBIGUOUS,
}
COLUMNS = ("object", "frame", "x", "y", "label")


@dataclass(frozen=True)
class Prompts:
    """Prompts of K objects of a video."""

    names: tuple[str, ...]  # length K
    frames: Mapping[int, FramePrompts]  # by frame index, each of K objects; masks are read from disk on access
    points: tuple[Points, ...]  # length K, as given; empty for mask prompts
    notes: tuple[Problem, ...] = ()  # prompts that were ignored or changed, with reasons

    @property
    def numbers(self) -> tuple[int, ...]:
        """The pixel value of each object in label maps, 1 to 254."""
        return tuple(numbers_of(self.names).values())


@dataclass(frozen=True)
class _Point:
    place: str  # for messages
    name: str
    frame: int
    x: float
    y: float
    label: int


def read_points(path: Path, frames: Frames) -> Prompts:
    """Points of a JSON or CSV file; for the layout see the module's docstring.

    Raises:
        DataError: there is no such file, or it has another layout. DataErrors: all invalid points, by object and frame.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".png":
        raise DataError(path, reason="expected a file of points, got masks", cure="give them with --masks")
    if suffix not in (".json", ".csv"):
        raise DataError(path, reason=f"expected a .json or .csv file, got {suffix or 'no suffix'!r}", cure=_see_help())
    records = _json_records(path) if suffix == ".json" else _csv_records(path)
    problems: list[Problem] = []
    points: list[_Point] = []
    names: dict[str, None] = {}
    invalid: set[str] = set()  # objects with an invalid point, which may have been their positive one
    for name, place, record in records:
        names.setdefault(name)
        if record is not None:
            valid = _read_point(path, name, place, record, frames, problems)
            points += valid
            invalid |= set() if valid else {name}
    return _checked(path, tuple(names), points, frames, problems, invalid)


def prompts_of_points(objects: Mapping[str, Points], frames: Frames) -> Prompts:
    """Prompts from points by object name; raises DataErrors as `read_points` does."""
    problems: list[Problem] = []
    valid = []
    invalid: set[str] = set()
    for name, points in objects.items():
        for i, (t, (x, y), label) in enumerate(zip(points.frame, points.xy, points.label, strict=True)):
            place = f"object {name!r}, point {i}"
            if 0 <= t < len(frames):
                valid.append(_Point(f"{place}, frame {frames.names[t]}", name, int(t), float(x), float(y), int(label)))
            else:
                problems.append(_no_frame("points", place, f"frame {t}", frames))
                invalid.add(name)
    return _checked("points", tuple(objects), valid, frames, problems, invalid)


def _see_help() -> str:
    return "`vng propagate --help` shows the layout"


Record = tuple[str, str, Mapping[str, Any] | None]  # object, place, fields; None for an object without points


def _json_records(path: Path) -> Iterator[Record]:
    def unique(value: Any) -> Any:
        if isinstance(value, RepeatedKeys):
            cure = "put all points of an object in one list"
            raise DataError(path, field=value.repeated, reason="this key repeats", cure=cure)
        return value

    tree = unique(load_json(path))
    objects = unique(tree.get("objects")) if isinstance(tree, dict) else None
    if not isinstance(objects, dict):
        raise DataError(path, field="objects", reason='expected {"objects": {name: [point, ...]}}', cure=_see_help())
    for name, points in objects.items():
        if not isinstance(points, list):
            raise DataError(path, record=f"object {name!r}", reason="expected a list of points", cure=_see_help())
        if not points:
            yield name, "", None
        for i, point in enumerate(points):
            place = f"object {name!r}, point {i}"
            if not isinstance(unique(point), dict):
                raise DataError(path, record=place, reason="expected {frame, x, y, label}", cure=_see_help())
            yield name, place, point


def _csv_records(path: Path) -> Iterator[Record]:
    reader = csv.DictReader(read_text(path).splitlines(keepends=True), skipinitialspace=True)
    try:
        missing = [column for column in COLUMNS[:-1] if column not in (reader.fieldnames or [])]
    except csv.Error as error:
        raise DataError(path, record="line 1", reason=str(error), cure=_see_help()) from error
    if missing:
        cure = f"begin the file with the line {','.join(COLUMNS)}"
        raise DataError(path, record="line 1", field=missing[0], reason="this column is missing", cure=cure)
    for row in _rows(path, reader):
        place = f"line {reader.line_num}"
        if None in row or None in row.values():
            raise DataError(
                path, record=place, reason=f"expected {len(reader.fieldnames or [])} columns", cure="fix this line"
            )
        record = {key: value.strip() for key, value in row.items()}
        name = record["object"]
        yield name, f"{place}, object {name!r}", {**record, "frame": _CsvFrame(record["frame"])}


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[dict[Any, Any]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(path, record=f"line {reader.line_num}", reason=str(error), cure="fix this line") from error


class _CsvFrame(str):
    """A frame in CSV: text that may be an index or a name."""


def _read_point(
    path: Path, name: str, place: str, record: Mapping[str, Any], frames: Frames, problems: list[Problem]
) -> list[_Point]:
    """A list with the point of a record, or an empty one if it is invalid; adds its faults to `problems`."""
    faults = (
        [Problem(str(path), record=place, field="object", reason="an object needs a name", cure="name it")]
        if not name
        else []
    )
    missing = [field for field in ("frame", "x", "y") if record.get(field, "") == ""]
    faults += [
        Problem(str(path), record=place, field=field, reason="this field is missing", cure=_see_help())
        for field in missing
    ]
    faults += [
        Problem(
            str(path),
            record=place,
            field=field,
            reason=f"unknown field; a point has {', '.join(COLUMNS[1:])}",
            cure="leave it out",
        )
        for field in sorted(set(record) - set(COLUMNS))
    ]
    label = LABELS.get(str(record.get("label", "") or "positive").lower()) if record.get("label") != 0 else NEGATIVE
    if label is None or isinstance(record.get("label"), bool):
        reason = f"{record['label']!r} is not a label: use positive, negative or ambiguous"
        faults.append(Problem(str(path), record=place, field="label", reason=reason, cure="correct it"))
    frame = None if "frame" in missing else _frame_index(path, place, record["frame"], frames, faults)
    x, y = (None if field in missing else _number(path, place, field, record[field], faults) for field in ("x", "y"))
    problems += faults
    if faults or frame is None or x is None or y is None or label is None:
        return []
    return [_Point(f"{place}, frame {frames.names[frame]}", name, frame, x, y, label)]


def _number(path: Path, place: str, field: str, value: Any, faults: list[Problem]) -> float | None:
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        faults.append(
            Problem(
                str(path),
                record=place,
                field=field,
                reason=f"expected a number, got {str(value)[:40]!r}",
                cure="correct it",
            )
        )
    return number


def _frame_index(path: Path, place: str, frame: Any, frames: Frames, faults: list[Problem]) -> int | None:
    index: int | None = None
    if isinstance(frame, _CsvFrame):
        index = _csv_frame(path, place, frame, frames, faults)
        if faults and faults[-1].field == "frame":
            return None
    elif isinstance(frame, str):
        index = frames.index_of(frame)
    elif isinstance(frame, int) and not isinstance(frame, bool) and 0 <= frame < len(frames):
        index = frame
    if index is None:
        faults.append(_no_frame(path, place, f"frame {str(frame)[:80]!r}", frames))
    return index


def _csv_frame(path: Path, place: str, text: str, frames: Frames, faults: list[Problem]) -> int | None:
    """The frame with exactly this name; else by index, or by name without leading zeros, if both agree."""
    if text in frames.names or not text.isdecimal():
        return frames.index_of(text)
    index = int(text) if len(text) < 10 and int(text) < len(frames) else None
    named = frames.index_of(text)
    if index is not None and named is not None and index != named:
        reason = f"{text} is the index of frame {frames.names[index]} and the number of frame {frames.names[named]}"
        faults.append(
            Problem(str(path), record=place, field="frame", reason=reason, cure="write the frame's name in full")
        )
    return index if index is not None else named


def _no_frame(path: Path | str, place: str, what: str, frames: Frames) -> Problem:
    reason = f"{what} is not in the video of {len(frames)} frames"
    ends = f"use an index from 0 to {len(frames) - 1}, or a name from {frames.names[0]!r} to {frames.names[-1]!r}"
    return Problem(str(path), record=place, field="frame", reason=reason, cure=ends)


def _checked(
    source: Path | str,
    names: tuple[str, ...],
    points: list[_Point],
    frames: Frames,
    problems: list[Problem],
    invalid: set[str],
) -> Prompts:
    """Prompts of consistent points inside the frames; raises DataErrors naming all others."""
    notes: list[Problem] = []
    _check_names(source, names, problems)
    for name in names:
        labels = [point.label for point in points if point.name == name]
        if POSITIVE not in labels and name not in invalid:
            text = f"{labels.count(NEGATIVE)} negative and {labels.count(AMBIGUOUS)} ambiguous points, no positive one"
            problems.append(
                Problem(
                    str(source),
                    record=f"object {name!r}",
                    field="label",
                    reason=text,
                    cure="put a positive point on it",
                )
            )
    inside = [point for point in points if _fits(source, point, frames.size, problems)]
    kept = list(_without_contradictions(source, inside, problems, notes))
    if problems:
        raise DataErrors(problems)
    by_object = tuple(_points([point for point in kept if point.name == name]) for name in names)
    prompted = sorted({point.frame for point in kept})
    by_frame = {t: FramePrompts(points=tuple(_in_frame(p, t) for p in by_object)) for t in prompted}
    for name, own in zip(names, by_object, strict=True):
        for t in sorted(set(own.of(NEGATIVE).frame.tolist()) - set(own.of(POSITIVE).frame.tolist())):
            place = f"object {name!r}, frame {frames.names[t]}"
            reason = "negative points without a positive one in this frame are ignored"
            notes.append(
                Problem(str(source), record=place, reason=reason, cure="add a positive point there", kind="note")
            )
    hinted = {t: prompt for t, prompt in by_frame.items() if any(hint is not None for hint in prompt.points)}
    return Prompts(names, hinted, by_object, tuple(notes))


def _check_names(source: Path | str, names: tuple[str, ...], problems: list[Problem]) -> None:
    if not names and not problems:
        problems.append(Problem(str(source), field="objects", reason="no object has a point", cure=_see_help()))
    if len(names) > MAX_NUMBER:
        reason = f"{len(names)} objects, a label map holds {MAX_NUMBER}"
        problems.append(Problem(str(source), field="objects", reason=reason, cure="propagate them in two runs"))


def _fits(source: Path | str, point: _Point, size: tuple[int, int], problems: list[Problem]) -> bool:
    fits = True
    for field, value, side in (("x", point.x, size[1]), ("y", point.y, size[0])):
        if not math.isfinite(value):
            reason, cure = f"{value} is not a finite number", "correct or delete this point"
        elif not 0 <= round(value) < side:
            reason = f"{value:g} is outside the frame of {size[1]}x{size[0]} pixels"
            cure = f"{field} is in pixels of the video, from 0 to {side - 1}"
        else:
            continue
        problems.append(Problem(str(source), record=point.place, field=field, reason=reason, cure=cure))
        fits = False
    return fits


def _without_contradictions(
    source: Path | str, points: Iterable[_Point], problems: list[Problem], notes: list[Problem]
) -> Iterator[_Point]:
    """The points without duplicates (a note each); a pixel with two labels or two objects is a problem."""
    first_at: dict[tuple[str, int, int, int], _Point] = {}
    owners: dict[tuple[int, int, int], _Point] = {}
    for point in points:
        pixel = (point.frame, round(point.x), round(point.y))
        where = f"pixel ({pixel[1]}, {pixel[2]})"
        earlier = first_at.setdefault((point.name, *pixel), point)
        if earlier is not point:
            if earlier.label == point.label:
                reason = f"{where} is there twice for this object; the second one is dropped"
                notes.append(Problem(str(source), record=point.place, reason=reason, kind="note"))
            else:
                reason = f"{where} has another label already ({earlier.place})"
                problems.append(
                    Problem(str(source), record=point.place, field="label", reason=reason, cure="keep one of the two")
                )
            continue
        owner = owners.setdefault(pixel, point) if point.label == POSITIVE else point
        if owner.name != point.name:
            reason = f"{where} is positive for object {owner.name!r} already ({owner.place})"
            problems.append(
                Problem(
                    str(source), record=point.place, field="object", reason=reason, cure="a pixel belongs to one object"
                )
            )
            continue
        yield point


def _points(points: list[_Point]) -> Points:
    return Points.of_lists([p.frame for p in points], [(p.x, p.y) for p in points], [p.label for p in points])


def _in_frame(points: Points, t: int) -> PointPrompts | None:
    here = points.in_frame(t)
    positive, negative = here.of(POSITIVE).xy, here.of(NEGATIVE).xy
    return PointPrompts(positive, negative) if len(positive) else None
