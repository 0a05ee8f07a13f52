"""Point-VOS points: Oops JSON, Kinetics JSON lines, and folders of PNGs. Read and write.

A record is one object; its key is the object's id. `status` alone decides whether a point is on the object: a confirmed
background candidate is REJECTED too, so `is_fg_candidate` never decides a label. Reading holds one record in memory at
a time: Kinetics has 18 million points.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conversion.formats.jsonio import write_json_lines
from vng.errors import Problem
from vng.manifest import open_atomic
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE
from vng.records import MOST, Reader

STATUS_TO_LABEL = {"ACCEPTED": POSITIVE, "REJECTED": NEGATIVE, "AMBIGUOUS": AMBIGUOUS}
LABEL_TO_STATUS = {label: status for status, label in STATUS_TO_LABEL.items()}

# Start of an entry of the one-object file, to find the next entry after broken JSON.
_ENTRY = re.compile(
    r'"[^"\\\n]{1,200}"\s*:\s*\{\s*"(?:question_hash|question|object_name|video_name|annotated_points)"\s*:'
)


@dataclass(frozen=True, slots=True)
class AnnotatedPoint:
    """One verified point: pixel position, frame name ("000021"; None for null), label, and how it was proposed."""

    x: float
    y: float
    frame_id: str | None
    label: int
    is_fg_candidate: bool = False


@dataclass(frozen=True, kw_only=True)
class PointRecord:
    """All points of one object."""

    key: str
    object_name: str
    video_name: str | None  # with its split prefix, as in the file: "train/Some video 12"
    points: tuple[AnnotatedPoint, ...]
    question: str | None = None
    question_hash: str | None = None
    file: str = field(default="", compare=False)  # source file, for messages
    place: str = field(default="", compare=False)

    def problem(self, where: str, reason: str, cure: str = "") -> Problem:
        """A problem with this record."""
        return Problem(self.file, record=self.place or self.key, field=where, reason=reason, cure=cure)

    @property
    def split(self) -> str:
        """The split prefix of the video name, or ""."""
        name = self.video_name or ""
        return name.split("/", 1)[0] if "/" in name else ""

    @property
    def video_id(self) -> str:
        """The video name without its split prefix."""
        return (self.video_name or "").split("/", 1)[-1]


def from_json(key: str, value: Any, path: Path, place: str = "") -> PointRecord:
    """A record from the publisher's JSON object; `path` and `place` locate it in messages."""
    reader = Reader(value, path, place or key)
    points = _quick_points(reader.value.get("annotated_points"))
    return PointRecord(
        key=key,
        object_name=reader.get("object_name", str),
        video_name=reader.optional("video_name", str),
        points=_parse_points(reader) if points is None else points,
        question=reader.optional("question", str),
        question_hash=reader.optional("question_hash", str),
        file=str(path),
        place=reader.record,
    )


def _quick_points(values: Any) -> tuple[AnnotatedPoint, ...] | None:
    """The points, parsed fast where all of them are regular; None where `_parse_points` must check them."""
    points = []
    try:
        for value in values:
            x, y, frame = value["x"], value["y"], value["frame_id"]
            if type(x) is not int or type(y) is not int or not (type(frame) is str and frame.isascii()):
                return None
            if not -MOST < x < MOST or not -MOST < y < MOST:
                return None
            label = STATUS_TO_LABEL[value["status"]]
            points.append(AnnotatedPoint(x, y, frame, label, bool(value.get("is_fg_candidate", False))))
    except (TypeError, KeyError, AttributeError):
        return None
    return tuple(points) if type(values) is list else None


def _parse_points(reader: Reader) -> tuple[AnnotatedPoint, ...]:
    points = []
    for child in reader.children("annotated_points"):
        status = child.get("status", str)
        if status not in STATUS_TO_LABEL:
            raise child.error("status", f"expected one of {sorted(STATUS_TO_LABEL)}, got {status!r}")
        points.append(
            AnnotatedPoint(
                child.get("x", float),
                child.get("y", float),
                child.optional("frame_id", str),
                STATUS_TO_LABEL[status],
                bool(child.value.get("is_fg_candidate", False)),
            )
        )
    return tuple(points)


def as_json(record: PointRecord) -> dict[str, Any]:
    """The publisher's JSON object of one record (without its key)."""
    value: dict[str, Any] = {}
    if record.question_hash is not None:
        value["question_hash"] = record.question_hash
    if record.question is not None:
        value["question"] = record.question
    value |= {"object_name": record.object_name, "video_name": record.video_name}
    value["annotated_points"] = [
        {
            "x": point.x,
            "y": point.y,
            "frame_id": point.frame_id,
            "status": LABEL_TO_STATUS[point.label],
            "is_fg_candidate": point.is_fg_candidate,
        }
        for point in record.points
    ]
    return value


def write_points(records: Iterable[PointRecord], path: Path) -> None:
    """Write Kinetics JSON lines where `path` ends in .jsonl, one Oops JSON object otherwise; one record at a time.

    A file is written completely or not at all.
    """
    if path.suffix == ".jsonl":
        write_json_lines(({record.key: as_json(record)} for record in records), path)
        return
    with open_atomic(path) as file:
        file.write("{")
        for index, record in enumerate(records):
            entry = json.dumps({record.key: as_json(record)}, ensure_ascii=False)[1:-1]
            file.write(f", {entry}" if index else entry)
        file.write("}\n")
