"""Annotations on disk, indexed by video: read once from any format, then looked up video by video.

Annotation files list records in any order of videos, and the published ones hold gigabytes. One pass checks the records
and writes them to a scratch SQLite file; memory stays constant, and every process reads only the videos it converts.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from vng.errors import Problem, surrogate_problem
from vng.frames import name_problem

_TABLES = """
create table item (kind text, key text, video text, place text, body blob, primary key (kind, key));
create table problem (body text);
"""
_INDEX = "create index by_video on item (kind, video)"


@dataclass(frozen=True)
class Item:
    """One record of an annotation file: `body` is its JSON, `place` its position in the file, for messages."""

    key: str
    place: str
    body: Any


class SpoolWriter:
    """Writes records in the order of their file; see `make_spool`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, kind: str, video: str, item: Item) -> bool:
        """Add one record about a video; returns False where one of this kind and key exists already.

        A record whose name no database or file system holds is a problem instead.
        """
        for name, reason in ((video, video and name_problem(video)), (item.key, surrogate_problem(item.key))):
            if reason:
                self.problem(
                    Problem(item.place or kind, record=name[:60], field="name", reason=reason, cure="rename it")
                )
                return True
        body = zlib.compress(json.dumps(item.body).encode(), 1)
        row = (kind, item.key, video, item.place, body)
        return self._connection.execute("insert or ignore into item values (?, ?, ?, ?, ?)", row).rowcount == 1

    def has(self, kind: str, key: str) -> bool:
        """Whether a record of this kind and key exists."""
        matches = self._connection.execute("select 1 from item where kind = ? and key = ?", (kind, key))
        return matches.fetchone() is not None

    def missing_videos(self, kind: str, videos: Collection[str]) -> set[str]:
        """Those of some videos about which there is no record of this kind; reads all records once."""
        missing = set(videos)
        if missing:
            for (video,) in self._connection.execute("select distinct video from item where kind = ?", (kind,)):
                missing.discard(video)
        return missing

    def problem(self, problem: Problem) -> None:
        """Add a problem found while reading."""
        self._connection.execute("insert into problem values (?)", (json.dumps(asdict(problem)),))


def make_spool(path: Path, fill: Callable[[SpoolWriter], None]) -> None:
    """Write a spool completely or not at all; `fill` adds all records to the writer passed to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    connection = sqlite3.connect(temporary, isolation_level=None)
    try:
        connection.executescript(f"pragma journal_mode = off; pragma synchronous = off;{_TABLES}")
        connection.execute("begin")
        fill(SpoolWriter(connection))
        connection.execute(_INDEX)
        connection.execute("commit")
    finally:
        connection.close()
    temporary.replace(path)


def is_intact(path: Path) -> bool:
    """Whether a spool exists and is undamaged; a power cut can leave a damaged one."""
    if not path.exists():
        return False
    try:
        with Spool(path) as spool:
            return spool.check()
    except sqlite3.DatabaseError:
        return False


class Spool:
    """A spool written by `make_spool`, opened for reading; any number of processes may have it open."""

    def __init__(self, path: Path) -> None:
        uri = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(uri, uri=True)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def check(self) -> bool:
        """Whether all pages can be read and the tables exist; raises sqlite3.DatabaseError for other files."""
        self._connection.execute("select count(*) from problem").fetchone()
        return bool(self._connection.execute("pragma quick_check(1)").fetchone()[0] == "ok")

    def videos(self, kind: str, having: str | None = None, limit: int | None = None) -> Iterator[str]:
        """Videos with a record of `kind`, in the order of their first one; with `having`, only those that also have a
        record of that kind."""
        also = "and video in (select video from item where kind = ?2)" if having else "and ?2 is null"
        query = f"select video from item where kind = ?1 {also} group by video order by min(rowid) limit ?3"
        for (name,) in self._connection.execute(query, (kind, having, -1 if limit is None else limit)):
            yield name

    def items(self, kind: str, video: str) -> list[Item]:
        """All records of `kind` about one video, in file order."""
        query = "select key, place, body from item where kind = ?1 and video = ?2 order by rowid"
        return [_item(*row) for row in self._connection.execute(query, (kind, video))]

    def count(self, kind: str) -> int:
        """Number of records of one kind."""
        return int(self._connection.execute("select count(*) from item where kind = ?", (kind,)).fetchone()[0])

    def problems(self) -> list[Problem]:
        """The problems found while reading, in order."""
        rows = self._connection.execute("select body from problem order by rowid")
        return [Problem(**json.loads(body)) for (body,) in rows]


def _item(key: str, place: str, body: bytes) -> Item:
    return Item(key, place, json.loads(zlib.decompress(body)))
