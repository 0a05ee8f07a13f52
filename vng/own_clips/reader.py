"""Reading own clips and files of points; all mistakes of a file are told at once (the format: `vng.own_clips`)."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from vng.errors import DataError, DataErrors, Problem, UsageError, surrogate_problem
from vng.frames import as_path, name_problem
from vng.masks import from_json, is_side, is_size
from vng.narratives import Expression, Narrative, parse_linked
from vng.own_clips.records import (
    PIXELS,
    UNITS,
    WHOLE,
    ClipBox,
    ClipMask,
    ClipObject,
    ClipPoint,
    Frame,
    FrameText,
    OwnClip,
)
from vng.own_clips.sam_pt_points import read_sam_pt_points
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE
from vng.text_files import RepeatedKeys, load_json, parse_json, read_text

LABELS = {
    "positive": POSITIVE,
    "negative": NEGATIVE,
    "ambiguous": AMBIGUOUS,
    "1": POSITIVE,
    "0": NEGATIVE,
    "-1": AMBIGUOUS,
}
COLUMNS = ("object", "frame", "x", "y", "label")
CLIP_KEYS = ("video", "id", "split", "narrative", "objects", "unit", "size", "frames")
OBJECT_KEYS = ("name", "points", "boxes", "mask", "masks", "absent")
SEE = "see docs/own-clips.md"


def read_own_clips(path: Path, on_problem: Callable[[Problem], None] | None = None) -> Iterator[OwnClip]:
    """The clips of a JSON-lines file, or of a .json file with one of them or a list.

    Args:
        path: the file.
        on_problem: receives the mistakes of every bad clip, which is left out; None: they are all raised at the end.

    Raises:
        DataError: there is no such file, or it is no text. DataErrors: all mistakes.
    """
    problems: list[Problem] = []
    ids: dict[str, str] = {}
    count = 0
    for record, value in _values(path, problems):
        count += 1
        parser = _Parser(path, record)
        clip = parser.clip(value, needs_video=True)
        if clip is not None and (earlier := ids.setdefault(clip.video_id, record)) != record:
            reason = f"{earlier} has a video of this id already: {clip.video_id!r}"
            parser.problem("", "id", reason, 'give each an "id" of its own')
        problems += parser.problems
        if clip is not None and not parser.problems:
            yield clip
    if not count and not problems:
        problems.append(Problem(str(path), reason="no clip in this file", cure=SEE))
    if on_problem is not None:
        for problem in problems:
            on_problem(problem)
    elif problems:
        raise DataErrors(problems)


def _values(path: Path, problems: list[Problem]) -> Iterator[tuple[str, Any]]:
    """(place, value) of each clip of a file."""
    if path.suffix.lower() == ".json":
        tree = load_json(path)
        yield from ((f"clip {i}", value) for i, value in enumerate(tree)) if isinstance(tree, list) else [("", tree)]
        return
    # Not splitlines: names may contain other line separators.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                yield f"line {number}", parse_json(line, path, f"line {number}", "fix or remove this line")
            except DataError as error:
                problems.append(error.problem)


def read_clip(path: Path, problems: list[Problem] | None = None) -> OwnClip:
    """The one clip of a file of points: .json (`video` is not needed), .jsonl with one line, .csv, or SAM-PT's .txt.

    Args:
        path: the file.
        problems: receives the mistakes, which are left out; None: they are raised.

    Raises:
        DataError: there is no such file, or it has another layout. DataErrors: all mistakes.
    """
    parser = _Parser(path, "")
    clip: OwnClip | None
    if path.suffix.lower() == ".csv":
        clip = parser.table(read_text(path))
    elif path.suffix.lower() == ".txt":
        return read_sam_pt_points(path, problems)
    elif path.suffix.lower() == ".jsonl":
        clips = list(read_own_clips(path))
        if len(clips) != 1:
            reason = f"{len(clips)} clips, expected the one of this video"
            raise DataError(path, reason=reason, cure="give it alone, or `vng convert own` makes a dataset of all")
        return clips[0]
    else:
        clip = parser.clip(load_json(path), needs_video=False)
    if clip is None or (parser.problems and problems is None):
        raise DataErrors(parser.problems)
    if problems is not None:
        problems += parser.problems
    return clip


def clip_of_json(value: Any, path: Path, record: str) -> OwnClip:
    """A clip of its JSON value; `path` and `record` are its place, for messages. Raises DataErrors of all mistakes."""
    parser = _Parser(path, record)
    clip = parser.clip(value, needs_video=True)
    if clip is None or parser.problems:
        raise DataErrors(parser.problems)
    return clip


class _Parser:
    """Reads a clip and gathers all its mistakes."""

    def __init__(self, path: Path, record: str) -> None:
        self.path, self.record = path, record
        self.problems: list[Problem] = []

    def problem(self, place: str, field: str, reason: str, cure: str = SEE) -> None:
        """Add a mistake."""
        record = ": ".join(part for part in (self.record, place) if part)
        self.problems.append(Problem(str(self.path), record=record, field=field, reason=reason, cure=cure))

    def clip(self, value: Any, needs_video: bool) -> OwnClip | None:
        """A clip of its JSON value; None where nothing of it can be read."""
        if not isinstance(value, dict) or (not needs_video and not isinstance(value.get("objects"), dict)):
            fields = ("", '{"video": path, ...}') if needs_video else ("objects", '{"objects": {name: [point, ...]}}')
            self.problem("", fields[0], f"expected {fields[1]}, got {_shown(value)}")
            return None
        self._keys("", value, CLIP_KEYS, "a clip")
        video, video_id, split = (self._text("", value, key) for key in ("video", "id", "split"))
        if needs_video and value.get("video") in (None, ""):
            self.problem("", "video", "this key is missing", "write the path of the video, or of its folder of frames")
        elif video != WHOLE and (problem := video and name_problem(video)):
            self.problem("", "video", problem, "write it relative to the folder of this file, or of --frames")
        video_id = video_id or PurePosixPath(as_path(video)).stem
        if video == WHOLE and not video_id:
            self.problem("", "id", "this key is missing", 'give the video an "id"')
        if problem := video_id and name_problem(video_id):
            self.problem("", "id", problem)
        narratives, expressions = self._narratives(value.get("narrative"))
        objects = {key: self._object(key, item) for key, item in self._mapping("", value, "objects").items()}
        for expression in expressions:  # an object that only a noun names waits for its points
            objects.setdefault(expression.object_id, ClipObject(object_id=expression.object_id))
        nouns = {e.object_id: e.noun(narratives[e.narrative].description) for e in reversed(expressions)}
        return OwnClip(
            video=video,
            video_id=video_id,
            split=split,
            narratives=tuple(narratives),
            expressions=tuple(expressions),
            objects=tuple(_named(item, nouns.get(item.object_id, item.object_id)) for item in objects.values()),
            **self._measures(value),
            file=self.path,
            record=self.record,
        )

    def _measures(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Unit, size and number of frames of a clip."""
        unit, size, count = value.get("unit", PIXELS), value.get("size"), value.get("frames")
        if unit not in UNITS:
            self.problem("", "unit", f"expected one of {', '.join(UNITS)}, got {_shown(unit)}", "correct it")
        if size is not None and not (isinstance(size, list) and is_size(size)):
            self.problem("", "size", f"expected [height, width] in pixels, got {_shown(size)}", "correct it")
            size = None
        if count is not None and not is_side(count):
            self.problem("", "frames", f"expected a number of frames from 1, got {_shown(count)}", "correct it")
        return {"unit": unit, "size": None if size is None else tuple(size), "count": count}

    def _keys(self, place: str, value: Mapping[str, Any], known: Sequence[str], what: str) -> None:
        if isinstance(value, RepeatedKeys):
            self.problem(place, value.repeated, "this key repeats", "put everything about it in one place")
        for key in sorted(set(value) - set(known)):
            self.problem(place, key[:60], f"unknown key; {what} has {', '.join(known)}", "leave it out")

    def _text(self, place: str, value: Mapping[str, Any], key: str) -> str:
        text = value.get(key, "")
        if not isinstance(text, str):
            self.problem(place, key, f"expected a text, got {_shown(text)}")
            return ""
        if problem := surrogate_problem(text):
            self.problem(place, key, problem, "correct it")
        return text

    def _mapping(self, place: str, value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        entries = value.get(key) or {}
        if not isinstance(entries, dict):
            self.problem(place, key, f"expected an object, got {_shown(entries)}")
            return {}
        if isinstance(entries, RepeatedKeys):
            self.problem(place, entries.repeated, "this key repeats", "put all points of an object in one list")
        return entries

    def _list(self, place: str, value: Mapping[str, Any], key: str) -> list[Any]:
        entries = value.get(key)
        if entries is not None and not isinstance(entries, list):
            self.problem(place, key, f"expected a list, got {_shown(entries)}")
            return []
        return entries or []

    def _narratives(self, value: Any) -> tuple[list[Narrative], list[Expression]]:
        narratives: list[Narrative] = []
        expressions: list[Expression] = []
        for index, item in enumerate(value if isinstance(value, list) else [] if value in (None, "") else [value]):
            name = f"narrative {index}" if isinstance(value, list) else ""
            entry = {"text": item} if isinstance(item, str) else item
            if not isinstance(entry, dict):
                self.problem(name, "narrative", f"expected a text, got {_shown(item)}")
                continue
            self._keys(name, entry, ("actor", "text"), "a narrative")
            actor, text = self._text(name, entry, "actor"), self._text(name, entry, "text")
            try:
                description, nouns = parse_linked(text)
            except UsageError as error:
                self.problem(name, "narrative", str(error).removeprefix("narrative: "), "correct the mark-up")
                continue
            narratives.append(Narrative(actor, description))
            expressions += [Expression(len(narratives) - 1, start, end, own) for start, end, own in nouns]
        return narratives, expressions

    def _object(self, key: str, value: Any) -> ClipObject:
        place = f"object {key[:60]!r}"
        if not key or (problem := surrogate_problem(key)):
            self.problem(place, "object", "an object needs a name" if not key else problem, "name it")
        if isinstance(value, list):
            value = {"points": value}
        if not isinstance(value, dict):
            self.problem(place, "", f"expected a list of points, or an object with {', '.join(OBJECT_KEYS)}")
            return ClipObject(object_id=key)
        self._keys(place, value, OBJECT_KEYS, "an object")
        points = [
            self._point(f"{place}, point {i}", point) for i, point in enumerate(self._list(place, value, "points"))
        ]
        boxes = [self._box(f"{place}, box {i}", box) for i, box in enumerate(self._list(place, value, "boxes"))]
        return ClipObject(
            object_id=key,
            name=self._text(place, value, "name"),
            points=tuple(point for point in points if point is not None),
            boxes=tuple(box for box in boxes if box is not None),
            masks=tuple(self._masks(place, value)),
        )

    def _point(self, place: str, value: Any) -> ClipPoint | None:
        if isinstance(value, list) and 3 <= len(value) <= 4:
            value = dict(zip(COLUMNS[1:], value, strict=False))
        if not isinstance(value, dict):
            self.problem(place, "", "expected {frame, x, y, label} or [frame, x, y, label]")
            return None
        return self._labelled(place, value)

    def _labelled(self, place: str, value: Mapping[str, Any]) -> ClipPoint | None:
        """A point of its fields; None where one of them is wrong."""
        before = len(self.problems)
        missing = [name for name in ("frame", "x", "y") if value.get(name, "") == ""]
        for name in missing:
            self.problem(place, name, "this field is missing")
        if isinstance(value, RepeatedKeys):
            self.problem(place, value.repeated, "this key repeats", "keep one of the two")
        for name in sorted(set(value) - set(COLUMNS)):
            self.problem(place, name[:60], f"unknown field; a point has {', '.join(COLUMNS[1:])}", "leave it out")
        given = value.get("label", "")
        label = LABELS.get(str("positive" if given in ("", None) else given).lower())
        if label is None or isinstance(given, bool):
            self.problem(
                place,
                "label",
                f"{_shown(given)} is not a label: use positive, negative or ambiguous",
                "correct it",
            )
        frame = None if "frame" in missing else self._frame(place, value["frame"])
        x, y = (None if name in missing else self._number(place, name, value[name]) for name in ("x", "y"))
        if len(self.problems) > before or frame is None or x is None or y is None or label is None:
            return None
        return ClipPoint(frame=frame, x=x, y=y, label=label, place=place)

    def _frame(self, place: str, value: Any) -> Frame | None:
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        self.problem(place, "frame", f"expected an index or the name of a frame, got {_shown(value)}", "correct it")
        return None

    def _number(self, place: str, name: str, value: Any) -> float | None:
        try:
            if isinstance(value, (int, float, str)) and not isinstance(value, bool):
                return float(value)
        except (ValueError, OverflowError):
            pass
        self.problem(place, name, f"expected a number, got {str(value)[:40]!r}", "correct it")
        return None

    def _box(self, place: str, value: Any) -> ClipBox | None:
        if not isinstance(value, list) or len(value) != 5:
            self.problem(place, "", f"expected [frame, x0, y0, x1, y1], got {_shown(value)}")
            return None
        frame = self._frame(place, value[0])
        corners = [self._number(place, name, v) for name, v in zip(("x0", "y0", "x1", "y1"), value[1:], strict=True)]
        x0, y0, x1, y1 = (float("nan") if corner is None else corner for corner in corners)
        if None not in corners and not (x0 < x1 and y0 < y1):
            self.problem(place, "", f"x1, y1 must lie right of and below x0, y0, got {_shown(value[1:])}", "correct it")
        return None if frame is None or None in corners else ClipBox(frame=frame, corners=(x0, y0, x1, y1), place=place)

    def _masks(self, place: str, value: Mapping[str, Any]) -> Iterator[ClipMask]:
        if (single := value.get("mask")) is not None:
            yield from self._mask(f"{place}, mask", None, single)
        if isinstance(value.get("masks"), list):
            for i, pair in enumerate(value["masks"]):
                if not isinstance(pair, list) or len(pair) != 2:
                    self.problem(f"{place}, mask {i}", "", f"expected [frame, mask], got {_shown(pair)}")
                elif (frame := self._frame(f"{place}, mask {i}", pair[0])) is not None:
                    yield from self._mask(f"{place}, mask {i}", frame, pair[1])
        else:
            for key, item in self._mapping(place, value, "masks").items():
                yield from self._mask(f"{place}, mask of frame {key[:60]!r}", FrameText(key), item)
        for i, item in enumerate(self._list(place, value, "absent")):
            if (frame := self._frame(f"{place}, absent {i}", item)) is not None:
                yield ClipMask(frame=frame, mask=None, place=f"{place}, absent {i}")

    def _mask(self, place: str, frame: Frame | None, value: Any) -> Iterator[ClipMask]:
        try:
            mask = value if isinstance(value, str) else from_json(value)
        except ValueError as error:
            self.problem(place, "", str(error), "a mask is the path of a PNG, or {size, counts}")
            return
        if isinstance(mask, str) and (problem := name_problem(mask)):
            self.problem(place, "", problem, "write it relative to the folder of this file")
        elif frame is None and not isinstance(mask, str):
            self.problem(place, "", "of which frame?", 'write "masks": {frame: {size, counts}}')
        else:
            yield ClipMask(frame=frame, mask=mask, place=place)

    def table(self, text: str) -> OwnClip:
        """A clip of the lines of a CSV file."""
        points: dict[str, list[ClipPoint]] = {}
        for place, row in self._rows(text):
            name = row["object"]
            if not name:
                self.problem(place, "object", "an object needs a name", "name it")
            fields = {key: value for key, value in row.items() if key != "object"}
            point = self._labelled(f"{place}, object {name!r}", fields | {"frame": FrameText(row["frame"])})
            points.setdefault(name, []).extend([] if point is None else [point])
        objects = [ClipObject(object_id=name, name=name, points=tuple(own)) for name, own in points.items()]
        return OwnClip(objects=tuple(objects), file=self.path)

    def _rows(self, text: str) -> Iterator[tuple[str, dict[str, str]]]:
        reader = csv.DictReader(text.splitlines(keepends=True), skipinitialspace=True)
        try:
            missing = [column for column in COLUMNS[:-1] if column not in (reader.fieldnames or [])]
            if missing:
                cure = f"begin the file with the line {','.join(COLUMNS)}"
                raise DataError(
                    self.path, record="line 1", field=missing[0], reason="this column is missing", cure=cure
                )
            for row in reader:
                place = f"line {reader.line_num}"
                if None in row or None in row.values():
                    reason = f"expected {len(reader.fieldnames or [])} columns"
                    raise DataError(self.path, record=place, reason=reason, cure="fix this line")
                yield place, {key: value.strip() for key, value in row.items()}
        except csv.Error as error:
            place = f"line {max(1, reader.line_num)}"
            raise DataError(self.path, record=place, reason=str(error), cure="fix this line") from error


def _named(item: ClipObject, name: str) -> ClipObject:
    return item if item.name else replace(item, name=name)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
