"""Point-VOS points: Oops JSON and Kinetics JSON lines. Read and write.

A record is one object; its key is the object's id. `status` alone says whether a point is on the object: a confirmed
background candidate is REJECTED too, so `is_fg_candidate` never decides a label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conversion.jsonio import OnProblem, Reader, iterate_json_lines, load_json, write_json, write_json_lines
from vng.errors import DataError, Problem
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE

STATUS_TO_LABEL = {"ACCEPTED": POSITIVE, "REJECTED": NEGATIVE, "AMBIGUOUS": AMBIGUOUS}
LABEL_TO_STATUS = {label: status for status, label in STATUS_TO_LABEL.items()}


@dataclass(frozen=True)
class AnnotatedPoint:
    """One verdict: pixel position, frame name ("000021"; None where the file has null), label, and how it was proposed."""

    x: float
    y: float
    frame_id: str | None
    label: int
    is_fg_candidate: bool = False


@dataclass(frozen=True)
class PointRecord:
    """All verdicts about one object."""

    key: str
    object_name: str
    video_name: str | None  # with its split prefix, as in the file: "train/Some video 12"
    points: tuple[AnnotatedPoint, ...]
    question: str | None = None
    question_hash: str | None = None
    file: str = field(default="", compare=False)  # where it was read from, for messages
    place: str = field(default="", compare=False)

    def problem(self, where: str, reason: str, cure: str = "") -> Problem:
        """A problem with this record."""
        return Problem(self.file, self.place or self.key, where, reason, cure)

    @property
    def split(self) -> str:
        """The split prefix of the video name, or ""."""
        name = self.video_name or ""
        return name.split("/", 1)[0] if "/" in name else ""

    @property
    def video_id(self) -> str:
        """The video name without its split prefix."""
        return (self.video_name or "").split("/", 1)[-1]


def read_points(path: Path, on_problem: OnProblem | None = None) -> Iterator[PointRecord]:
    """Read an Oops JSON file or a Kinetics JSON-lines file, told apart by content, record by record.

    Bad records go to `on_problem`; DataError is raised where it is None, and always for a file that is broken as a whole.
    """
    if _is_json_lines(path):
        for records in iterate_json_lines(path, lambda value, record: _parse_all(value, path, record), on_problem):
            yield from records
        return
    whole = load_json(path)
    if not isinstance(whole, dict):
        raise DataError(path, "", "", "expected an object {key: record}", "see docs/formats.md, Point-VOS points")
    for key, value in whole.items():
        try:
            yield from_json(key, value, path)
        except DataError as error:
            if on_problem is None:
                raise
            on_problem(error.problem)


def _is_json_lines(path: Path) -> bool:
    if path.suffix == ".jsonl":
        return True
    try:
        with path.open("rb") as file:
            first = next((line for line in file if line.strip()), b"")
            second = next((line for line in file if line.strip()), b"")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(path, "", "", "no such file", "check --points") from error
    # A one-object-a-line file has lines that close themselves; a single-line Oops file has one such line only.
    return first.rstrip().endswith(b"}") and second.lstrip().startswith(b"{")


def _parse_all(value: Any, path: Path, record: str) -> list[PointRecord]:
    reader = Reader(value, path, record)
    return [from_json(key, item, path, f"{record}: {key}") for key, item in reader.value.items()]


def from_json(key: str, value: Any, path: Path, place: str = "") -> PointRecord:
    """A record from the publisher's JSON object; `path` and `place` say in messages where it stood."""
    reader = Reader(value, path, place or key)
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
    return PointRecord(
        key,
        reader.get("object_name", str),
        reader.optional("video_name", str),
        tuple(points),
        reader.optional("question", str),
        reader.optional("question_hash", str),
        str(path),
        reader.record,
    )


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


def write_points(records: list[PointRecord], path: Path) -> None:
    """Write Kinetics JSON lines where `path` ends in .jsonl, one Oops JSON object otherwise."""
    if path.suffix == ".jsonl":
        write_json_lines([{record.key: as_json(record)} for record in records], path)
    else:
        write_json({record.key: as_json(record) for record in records}, path)
