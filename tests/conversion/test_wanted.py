"""Lists of the videos and objects of a subset."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversion.wanted import Subset, read_subset
from tests.conversion.point_records import record
from vng.errors import DataError


class TestSubsets:
    def test_keys_or_videos(self, tmp_path: Path) -> None:
        (tmp_path / "s.txt").write_bytes(b"\xef\xbb\xbfa\r\nw  w \n\ntrain/x")
        subset = read_subset(tmp_path / "s.txt")
        assert subset.names == {"a", "w  w ", "train/x"}
        kept = [
            subset.keeps(record(key, video))
            for key, video in (("a", None), ("b", "val/w  w "), ("c", "train/x"), ("d", "train/v"))
        ]
        assert kept == [True, True, True, False] and subset.check("p.json") == []
        assert not subset.keeps_video("x") and subset.keeps_video("w  w ")

    def test_what_was_never_met_is_said(self) -> None:
        subset = Subset("abcdef", "s.txt")
        with pytest.raises(
            DataError, match=r"s.txt: none of its 6 names is a key or a video of p.json \('a', 'b', 'c', \.\.\.\)"
        ):
            subset.check("p.json")
        assert subset.keeps(record("b"))
        (problem,) = subset.check("p.json")
        assert problem.reason == "names that are not in p.json (5 of 6): 'a', 'c', 'd', ..."

    @pytest.mark.parametrize(
        ("content", "words"),
        [(b"\n \n", "this list is empty"), (b"\xff\n", "byte 0: not UTF-8"), (None, "no such file")],
    )
    def test_bad_lists(self, tmp_path: Path, content: bytes | None, words: str) -> None:
        if content is not None:
            (tmp_path / "s.txt").write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_subset(tmp_path / "s.txt")
