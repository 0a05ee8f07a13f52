"""The database of an annotation project: one SQLite file with clips, objects, clicks, candidates and verdicts.

It is written ahead and synced at every commit, so that what was acknowledged survives a killed process. One server at a
time writes; readers, such as `vng annotate export`, may look at it meanwhile.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vng.errors import DataError

VERSION = 1
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE clips (
    clip INTEGER PRIMARY KEY, video_id TEXT NOT NULL UNIQUE, video TEXT NOT NULL, root TEXT NOT NULL, split TEXT NOT NULL,
    frames INTEGER NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL, fps REAL NOT NULL,
    names TEXT NOT NULL, reason TEXT NOT NULL, -- why it does not open, or ''
    made INTEGER NOT NULL DEFAULT 0); -- objects made on the page, so that no id is given twice
CREATE TABLE narratives (
    clip INTEGER NOT NULL, position INTEGER NOT NULL, actor TEXT NOT NULL, text TEXT NOT NULL, -- text with [noun](id)
    PRIMARY KEY (clip, position)) WITHOUT ROWID;
CREATE TABLE objects (
    object INTEGER PRIMARY KEY AUTOINCREMENT, clip INTEGER NOT NULL, object_id TEXT NOT NULL, name TEXT NOT NULL,
    given TEXT NOT NULL, -- boxes and masks of the annotations, by frame
    rough_frame INTEGER, rough_mask TEXT, UNIQUE (clip, object_id));
CREATE TABLE clicks (
    click INTEGER PRIMARY KEY AUTOINCREMENT, object INTEGER NOT NULL, frame INTEGER NOT NULL, x REAL NOT NULL,
    y REAL NOT NULL, label INTEGER NOT NULL, annotator TEXT NOT NULL, time REAL NOT NULL);
CREATE INDEX clicks_of_object ON clicks (object, frame);
CREATE TABLE absent (object INTEGER NOT NULL, frame INTEGER NOT NULL, PRIMARY KEY (object, frame)) WITHOUT ROWID;
CREATE TABLE masklets (
    object INTEGER NOT NULL, frame INTEGER NOT NULL, mask TEXT NOT NULL, confidence REAL NOT NULL,
    PRIMARY KEY (object, frame)) WITHOUT ROWID;
CREATE TABLE tasks ( -- an object to verify; reading 1 is the second one, by another person
    task INTEGER PRIMARY KEY, object INTEGER NOT NULL, reading INTEGER NOT NULL, annotator TEXT NOT NULL,
    questions INTEGER NOT NULL, answered INTEGER NOT NULL DEFAULT 0, UNIQUE (object, reading));
CREATE TABLE candidates (
    candidate INTEGER PRIMARY KEY, object INTEGER NOT NULL, position INTEGER NOT NULL, frame INTEGER NOT NULL,
    x REAL NOT NULL, y REAL NOT NULL, kind TEXT NOT NULL, UNIQUE (object, position));
CREATE TABLE verdicts (
    task INTEGER NOT NULL, candidate INTEGER NOT NULL, label INTEGER NOT NULL, annotator TEXT NOT NULL,
    time REAL NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (task, candidate)) WITHOUT ROWID;
CREATE INDEX verdicts_of_annotator ON verdicts (annotator, time);
CREATE TABLE refused (task INTEGER NOT NULL, annotator TEXT NOT NULL, time REAL NOT NULL,
    PRIMARY KEY (task, annotator)) WITHOUT ROWID; -- objects that a person skipped
CREATE TABLE leases (
    kind TEXT NOT NULL, item INTEGER NOT NULL, annotator TEXT NOT NULL, expires REAL NOT NULL,
    PRIMARY KEY (kind, item)) WITHOUT ROWID;
CREATE TABLE places (annotator TEXT PRIMARY KEY, clip INTEGER, frame INTEGER, object INTEGER) WITHOUT ROWID;
"""
_FULL = "no room is left for the database: this was not saved, all that was acknowledged before is"


class Database:
    """An open database; usable from several threads.

    Args:
        path: the file.
        create: make it where there is none.

    Raises:
        DataError: there is no such file, it is no database of this program, or of another version.
    """

    def __init__(self, path: Path, create: bool = False) -> None:
        self.path = path
        if not create and not path.is_file():
            raise DataError(path, reason="no such database", cure="make one with `vng annotate serve`")
        self._lock = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=20)
        self._connection.row_factory = sqlite3.Row
        try:
            self._prepare(create)
        except sqlite3.Error as error:
            self._connection.close()
            raise self._error(error) from error
        except DataError:
            self._connection.close()
            raise

    def _prepare(self, create: bool) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and create:
            self._connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION or not tables:
            found = f"of version {version}, this program reads {VERSION}" if version else "not of this program"
            raise DataError(self.path, reason=f"this database is {found}", cure="choose another --database")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on the disk when the block ends, or none of it where it raises.

        Raises:
            DataError: the disk is full, or the file cannot be written.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._error(error) from error

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """The rows of a query; raises DataError for a damaged file."""
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise self._error(error) from error

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        return next(iter(self.rows(sql, *values)), None)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _error(self, error: sqlite3.Error) -> DataError:
        text = str(error)
        if "full" in text or "disk I/O" in text:
            return DataError(self.path, reason=_FULL, cure="free some space, and answer again")
        if "locked" in text:
            return DataError(self.path, reason="another process is writing to it", cure="stop that process")
        return DataError(self.path, reason=f"this database cannot be used ({text})", cure="choose another --database")
