"""The database of an annotation project: made, opened again, full, damaged, of another program."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from conversion.annotation.database import VERSION, Database
from conversion.annotation.leases import HeldError, Leases
from vng.errors import DataError


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.sqlite"
    database = Database(path, create=True)
    with database.writing() as connection:
        connection.execute("INSERT INTO meta VALUES ('k', 'v')")
    database.close()
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    again = Database(path)
    row = again.one("SELECT * FROM meta")
    assert row is not None and tuple(row) == ("k", "v")
    assert again.one("SELECT * FROM meta WHERE key = ?", "other") is None


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.sqlite", create=True)
    with pytest.raises(KeyError), database.writing() as connection:
        connection.execute("INSERT INTO meta VALUES ('k', 'v')")
        raise KeyError
    assert database.rows("SELECT * FROM meta") == []


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.sqlite", create=True)
    with database.writing() as connection:
        connection.execute("INSERT INTO meta VALUES ('kept', 'v')")
    pages = database.rows("PRAGMA page_count")[0][0]
    database.rows(f"PRAGMA max_page_count = {pages}")
    message = "no room is left for the database: this was not saved, all that was acknowledged before is"
    with pytest.raises(DataError, match=message), database.writing() as connection:
        connection.execute("INSERT INTO meta VALUES ('lost', ?)", ("x" * 100_000,))
    assert [row["key"] for row in database.rows("SELECT key FROM meta")] == ["kept"]


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.sqlite: this database (is not of this program|cannot be used)"):
        Database(path)


def test_another_version_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such database; make one with `vng annotate serve`"):
        Database(tmp_path / "a.sqlite")
    Database(tmp_path / "a.sqlite", create=True).close()
    with sqlite3.connect(tmp_path / "a.sqlite") as plain:
        plain.execute("PRAGMA user_version = 77")
    with pytest.raises(DataError, match=f"of version 77, this program reads {VERSION}"):
        Database(tmp_path / "a.sqlite", create=True)


def test_leases(tmp_path: Path) -> None:
    now = [1000.0]
    leases = Leases(seconds=60, clock=lambda: now[0])
    database = Database(tmp_path / "a.sqlite", create=True)
    with database.writing() as connection:
        leases.hold(connection, "clip", 7, "Ann")
        with pytest.raises(HeldError, match="Ann is working on this clip"):
            leases.hold(connection, "clip", 7, "Bob")
        leases.hold(connection, "task", 7, "Bob")  # another kind
        now[0] += 59
        leases.hold(connection, "clip", 7, "Ann")  # renewed
        now[0] += 59
        assert leases.holder(connection, "clip", 7) == "Ann" and leases.holder(connection, "task", 7) is None
        now[0] += 2
        leases.hold(connection, "clip", 7, "Bob")
        now[0] -= 5000  # a clock that is set back does not hold anything for ever
        assert leases.holder(connection, "clip", 7) is None
        now[0] += 5000
        leases.release(connection, "clip", "Bob")
        assert leases.holder(connection, "clip", 7) is None
