"""Clicking: a clip's narrative, objects, points and absent frames, changed one step at a time.

Every change is made by an annotator who holds the clip, and is on the disk when the function returns. The ids of objects
never change and are not given twice.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from conversion.annotation.database import Database
from conversion.annotation.leases import CLIP, Leases
from conversion.annotation.project import ClipRow, Project, free_id
from vng.errors import DataError, UsageError
from vng.narratives import link, parse_linked
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE

WORD = re.compile(r"\w+(?:['’-]\w+)*")
MOST_TEXT = 20_000  # characters of a narrative
MOST_NAME = 200


@dataclass(kw_only=True)
class Clicking:
    """The clips of a project while people click on them."""

    project: Project
    leases: Leases = field(default_factory=Leases)

    @property
    def database(self) -> Database:
        """The project's database."""
        return self.project.database

    def open(self, clip: int, annotator: str) -> str | None:
        """Take the clip; returns who else holds it, None where it is this annotator's now."""
        self._row(clip)
        with self.database.writing() as connection:
            holder = self.leases.holder(connection, CLIP, clip)
            if holder not in (None, annotator):
                return holder
            self.leases.release(connection, CLIP, annotator)
            self.leases.hold(connection, CLIP, clip, annotator)
        return None

    def release(self, annotator: str) -> None:
        """Give back what an annotator holds, as when the page is closed."""
        with self.database.writing() as connection:
            self.leases.release(connection, CLIP, annotator)

    def state(self, clip: int) -> dict[str, Any]:
        """A clip with all that is known of it, as the page shows it."""
        row = self._row(clip)
        sql = "SELECT * FROM objects WHERE clip = ? ORDER BY object"
        return {
            "clip": clip,
            "video_id": row.video_id,
            "frames": len(row.names),
            "names": list(row.names),
            "size": list(row.size),
            "fps": row.fps,
            "narratives": [self._narrative(item) for item in self._narrative_rows(clip)],
            "objects": [self._object(item) for item in self.database.rows(sql, clip)],
        }

    def _narrative_rows(self, clip: int) -> list[sqlite3.Row]:
        return self.database.rows("SELECT * FROM narratives WHERE clip = ? ORDER BY position", clip)

    def _narrative(self, row: sqlite3.Row) -> dict[str, Any]:
        description, nouns = parse_linked(row["text"])
        # Offsets are of code points, which a browser does not count: it gets the pieces themselves.
        words = [[match.start(), match.end(), match.group()] for match in WORD.finditer(description)]
        return {
            "position": row["position"],
            "actor": row["actor"],
            "text": row["text"],
            "pieces": _pieces(description, words),
            "nouns": [{"start": start, "end": end, "object_id": own} for start, end, own in nouns],
        }

    def _object(self, row: sqlite3.Row) -> dict[str, Any]:
        key, given = row["object"], json.loads(row["given"])
        clicks = self.database.rows("SELECT * FROM clicks WHERE object = ? ORDER BY click", key)
        absent = self.database.rows("SELECT frame FROM absent WHERE object = ? ORDER BY frame", key)
        sure = self.database.rows("SELECT frame, confidence FROM masklets WHERE object = ? ORDER BY frame", key)
        return {
            "object": key,
            "object_id": row["object_id"],
            "name": row["name"],
            "points": [[c["click"], c["frame"], c["x"], c["y"], c["label"]] for c in clicks],
            "absent": [item["frame"] for item in absent],
            "given": sorted({int(t) for kind in ("boxes", "masks") for t in given[kind]}),
            "boxes": given["boxes"],
            "confidence": {item["frame"]: round(item["confidence"], 3) for item in sure},
        }

    def add_object(self, clip: int, name: str, annotator: str) -> int:
        """Add an object and return its key; its id is a free letter."""
        self._row(clip)
        with self.database.writing() as connection:
            self.leases.hold(connection, CLIP, clip, annotator)
            return self._new_object(connection, clip, name)

    def _new_object(self, connection: sqlite3.Connection, clip: int, name: str, own_id: str = "") -> int:
        taken = [row[0] for row in connection.execute("SELECT object_id FROM objects WHERE clip = ?", (clip,))]
        if not own_id:
            made = connection.execute("SELECT made FROM clips WHERE clip = ?", (clip,)).fetchone()[0]
            own_id = free_id(made, taken)
            connection.execute("UPDATE clips SET made = made + 1 WHERE clip = ?", (clip,))
        sql = "INSERT INTO objects (clip, object_id, name, given) VALUES (?, ?, ?, ?)"
        given = json.dumps({"boxes": {}, "masks": {}})
        return int(connection.execute(sql, (clip, own_id, name[:MOST_NAME], given)).lastrowid or 0)

    def rename(self, key: int, name: str, annotator: str) -> None:
        """Change an object's name; its id stays."""
        with self._changing(key, annotator) as (connection, _):
            connection.execute("UPDATE objects SET name = ? WHERE object = ?", (name[:MOST_NAME], key))

    def remove_object(self, key: int, annotator: str) -> None:
        """Remove an object with its points and nouns; raises UsageError where it has candidates to verify."""
        with self._changing(key, annotator) as (connection, row):
            if connection.execute("SELECT 1 FROM tasks WHERE object = ?", (key,)).fetchone():
                raise UsageError("this object has candidates to verify: it cannot be removed")
            for item in self._narrative_rows(row["clip"]):
                description, nouns = parse_linked(item["text"])
                kept = [noun for noun in nouns if noun[2] != row["object_id"]]
                self._write_text(connection, row["clip"], item["position"], link(description, kept))
            for table in ("clicks", "absent", "masklets", "objects"):
                connection.execute(f"DELETE FROM {table} WHERE object = ?", (key,))

    def click(self, key: int, frame: int, x: float, y: float, label: int, annotator: str) -> int:
        """Add a point and return its key.

        Args:
            key: the object.
            frame, x, y: where, in pixels; the centre of the first pixel is (0, 0).
            label: POSITIVE, NEGATIVE or AMBIGUOUS.
            annotator: who clicks.

        Raises:
            UsageError: outside the video; the frame has a drawn mask of the object; the pixel has a point of it, or is
                positive for another object.
            HeldError: somebody else holds the clip.
        """
        if label not in (POSITIVE, NEGATIVE, AMBIGUOUS):
            raise UsageError(f"a label is 1, 0 or -1, got {label}")
        with self._changing(key, annotator) as (connection, row):
            clip = self.project.clip(row["clip"])
            _check_place(clip, frame, x, y)
            if str(frame) in json.loads(row["given"])["masks"]:
                raise UsageError("this frame has a mask that was drawn elsewhere: points change nothing here")
            self._check_free(connection, clip.clip, key, frame, x, y, label)
            connection.execute("DELETE FROM absent WHERE object = ? AND frame = ?", (key, frame))
            sql = "INSERT INTO clicks (object, frame, x, y, label, annotator, time) VALUES (?, ?, ?, ?, ?, ?, ?)"
            values = (key, frame, x, y, label, annotator, self.leases.clock())
            return int(connection.execute(sql, values).lastrowid or 0)

    def _check_free(
        self, connection: sqlite3.Connection, clip: int, key: int, frame: int, x: float, y: float, label: int
    ) -> None:
        sql = (
            "SELECT clicks.*, objects.object_id FROM clicks JOIN objects USING (object) WHERE clip = ? AND frame = ? "
            "AND round(x) = ? AND round(y) = ?"
        )
        for other in connection.execute(sql, (clip, frame, round(x), round(y))):
            if other["object"] == key:
                raise UsageError("this pixel has a point of this object already: undo it first")
            if label == POSITIVE and other["label"] == POSITIVE:
                raise UsageError(f"this pixel is on object {other['object_id']} already: a pixel belongs to one object")

    def remove_click(self, click: int, annotator: str) -> int:
        """Remove a point, and return its object."""
        row = self.database.one("SELECT object FROM clicks WHERE click = ?", click)
        if row is None:
            raise UsageError("this point is gone already")
        with self._changing(row["object"], annotator) as (connection, _):
            connection.execute("DELETE FROM clicks WHERE click = ?", (click,))
        return int(row["object"])

    def set_absent(self, key: int, frame: int, absent: bool, annotator: str) -> None:
        """Say that an object is not in a frame, or take that back; raises UsageError where it has positives there."""
        with self._changing(key, annotator) as (connection, row):
            _check_place(self.project.clip(row["clip"]), frame, 0, 0)
            positive = "SELECT 1 FROM clicks WHERE object = ? AND frame = ? AND label = ?"
            if absent and connection.execute(positive, (key, frame, POSITIVE)).fetchone():
                raise UsageError("it has a point on it in this frame: undo that first")
            connection.execute("DELETE FROM absent WHERE object = ? AND frame = ?", (key, frame))
            if absent:
                connection.execute("INSERT INTO absent VALUES (?, ?)", (key, frame))

    def write_narrative(self, clip: int, position: int, text: str, annotator: str, actor: str = "") -> None:
        """Write a narrative in mark-up, `[noun](id)`; ids that are new become objects; an empty text removes it.

        Raises:
            UsageError: wrong brackets, or a text that is too long. HeldError: somebody else holds the clip.
        """
        if len(text) > MOST_TEXT:
            raise UsageError(f"a narrative of {len(text):,} characters, at most {MOST_TEXT:,} are kept")
        description, nouns = parse_linked(text)
        self._row(clip)
        with self.database.writing() as connection:
            self.leases.hold(connection, CLIP, clip, annotator)
            taken = {row[0] for row in connection.execute("SELECT object_id FROM objects WHERE clip = ?", (clip,))}
            for start, end, own in nouns:
                if own not in taken:
                    self._new_object(connection, clip, description[start:end], own)
                    taken.add(own)
            if not text.strip():
                connection.execute("DELETE FROM narratives WHERE clip = ? AND position = ?", (clip, position))
                return
            exists = "SELECT 1 FROM narratives WHERE clip = ? AND position = ?"
            if connection.execute(exists, (clip, position)).fetchone():
                self._write_text(connection, clip, position, link(description, nouns))
                return
            last = "SELECT coalesce(max(position) + 1, 0) FROM narratives WHERE clip = ?"
            position = connection.execute(last, (clip,)).fetchone()[0]
            values = (clip, position, actor[:MOST_NAME], link(description, nouns))
            connection.execute("INSERT INTO narratives VALUES (?, ?, ?, ?)", values)

    def _write_text(self, connection: sqlite3.Connection, clip: int, position: int, text: str) -> None:
        sql = "UPDATE narratives SET text = ? WHERE clip = ? AND position = ?"
        connection.execute(sql, (text, clip, position))

    def mark_noun(self, clip: int, position: int, start: int, end: int, key: int | None, annotator: str) -> int | None:
        """Mark a span as a noun of an object; marked again, it is unmarked.

        Args:
            clip, position: the narrative.
            start, end: characters of the description.
            key: the object; None makes a new one, named by the noun.
            annotator: who marks.

        Returns:
            The object; None where the mark was taken away.

        Raises:
            UsageError: the span is outside the narrative, or overlaps another noun.
        """
        self._row(clip)
        with self.database.writing() as connection:
            self.leases.hold(connection, CLIP, clip, annotator)
            sql = "SELECT text FROM narratives WHERE clip = ? AND position = ?"
            row = connection.execute(sql, (clip, position)).fetchone()
            description, nouns = parse_linked("" if row is None else row[0])
            if not 0 <= start < end <= len(description):
                raise UsageError("these words are not in the narrative any more; reload the page")
            here = [noun for noun in nouns if noun[:2] == (start, end)]
            if key is None and here:
                self._write_text(connection, clip, position, link(description, [n for n in nouns if n not in here]))
                return None
            if key is None:
                key = self._new_object(connection, clip, description[start:end])
            own = connection.execute("SELECT * FROM objects WHERE object = ? AND clip = ?", (key, clip)).fetchone()
            if own is None:
                raise UsageError("this object is not in the clip any more; reload the page")
            noun = (start, end, own["object_id"])
            marked = [n for n in nouns if n != noun] if noun in nouns else [*nouns, noun]
            try:
                self._write_text(connection, clip, position, link(description, marked))
            except ValueError as error:
                raise UsageError(f"{error}: unmark the other one first") from error
            if not own["name"]:
                name = description[start:end][:MOST_NAME]
                connection.execute("UPDATE objects SET name = ? WHERE object = ?", (name, key))
            return key if noun in marked else None

    @contextmanager
    def _changing(self, key: int, annotator: str) -> Iterator[tuple[sqlite3.Connection, sqlite3.Row]]:
        """A transaction on an object, whose clip the annotator holds."""
        with self.database.writing() as connection:
            row = connection.execute("SELECT * FROM objects WHERE object = ?", (key,)).fetchone()
            if row is None:
                raise UsageError("this object is not there any more; reload the page")
            self.leases.hold(connection, CLIP, row["clip"], annotator)
            yield connection, row

    def _row(self, clip: int) -> ClipRow:
        row = self.project.clip(clip)
        if row.reason:
            raise DataError(row.root / row.video, reason=f"this clip cannot be opened: {row.reason}")
        return row


def _check_place(clip: ClipRow, frame: int, x: float, y: float) -> None:
    height, width = clip.size
    if not 0 <= frame < len(clip.names):
        raise UsageError(f"frame {frame} of {len(clip.names)}")
    if not (0 <= round(x) < width and 0 <= round(y) < height):
        raise UsageError(f"({x:g}, {y:g}) is outside the frame of {width}x{height} pixels")


def _pieces(description: str, words: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """The description cut into words, with their characters, and what is between them."""
    pieces: list[dict[str, Any]] = []
    last = 0
    for start, end, text in words:
        if start > last:
            pieces.append({"text": description[last:start]})
        pieces.append({"text": text, "start": start, "end": end})
        last = end
    if last < len(description):
        pieces.append({"text": description[last:]})
    return pieces
