"""Spools of finished videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversion.spool import Item, Spool, SpoolWriter, make_spool
from vng.errors import DataError, Problem


class TestSpool:
    def test_records_by_video(self, tmp_path: Path) -> None:
        def fill(spool: SpoolWriter) -> None:
            for key, video in (("a", "two"), ("b", "one ☂"), ("c", "two")):
                assert spool.add("points", video, Item(key, f"line {key}", {"key": key}))
            assert not spool.add("points", "two", Item("a", "", {})) and spool.has("points", "a")
            spool.add("narratives", "two", Item("two", "line 1", [1]))
            spool.problem(Problem("f", record="r", reason="odd"))

        make_spool(tmp_path / "x" / "s.sqlite", fill)
        with Spool(tmp_path / "x" / "s.sqlite") as spool:
            assert list(spool.videos("points")) == ["two", "one ☂"] and list(spool.videos("points", limit=1)) == ["two"]
            assert list(spool.videos("points", having="narratives")) == ["two"] and list(spool.videos("masks")) == []
            assert [(i.key, i.place, i.body) for i in spool.items("points", "two")] == [
                ("a", "line a", {"key": "a"}),
                ("c", "line c", {"key": "c"}),
            ]
            assert spool.items("points", "none") == [] and spool.count("points") == 3
            assert spool.problems() == [Problem("f", record="r", reason="odd")]

    def test_a_failed_reading_leaves_no_spool(self, tmp_path: Path) -> None:
        def fill(spool: SpoolWriter) -> None:
            raise DataError("f", reason="broken")

        with pytest.raises(DataError):
            make_spool(tmp_path / "s.sqlite", fill)
        assert not (tmp_path / "s.sqlite").exists()
