"""Text and JSON from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from vng.errors import DataError
from vng.records import Reader
from vng.text_files import load_json, parse_json, read_text


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa9"}\r\n')
    assert load_json(tmp_path / "a.json") == {"a": "é"} and read_text(tmp_path / "a.json").startswith("{")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1,\n oops}', r"a.json: line 2, column 2: broken JSON: Expecting property name"),
        (b"[" * 100_000, r"a.json: broken JSON: nested too deeply; fix the file"),
        (b'{"a": ' + b"9" * 5000 + b"}", r"a.json: broken JSON: a number of too many digits; fix the file"),
        (b'{"a": "\xff"}', r"a.json: byte 7: not UTF-8 text; save it as UTF-8"),
        (b"", r"a.json: line 1, column 1: broken JSON"),
    ],
)
def test_faults_are_errors_of_ours(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=words):
        load_json(tmp_path / "a.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.json: no such file; check --meta"):
        load_json(tmp_path / "none.json", "check --meta")
    with pytest.raises(DataError, match="expected a file, got a folder"):
        read_text(tmp_path)


def test_keys_that_repeat_are_refused_where_they_stand() -> None:
    tree = parse_json('{"videos": {"v": {"0": 1, "1": 2, "0": 3}, "w": {"0": 1}}}', "m.json")
    videos = Reader(tree, "m.json", "").child("videos")
    assert videos.child("w").value == {"0": 1}
    with pytest.raises(DataError, match=r"m.json: videos.v.0: this key repeats: the first value would be lost"):
        videos.child("v")


def test_half_a_character_is_refused() -> None:
    with pytest.raises(DataError, match=r"m.json: r: name: contains half a character"):
        Reader(parse_json('{"name": "a\\ud800"}', "m.json"), "m.json", "r").get("name", str)


@pytest.mark.parametrize("value", [0, -1, 2**40, 1.5, "3", True, None, [2]])
def test_sides_are_bounded(value: object) -> None:
    with pytest.raises(DataError, match=r"m.json: r: height"):
        Reader({"height": value}, "m.json", "r").side("height")
