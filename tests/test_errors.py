"""Errors and problems: what they show, and what a file of them may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from vng.errors import DataError, DataErrors, Problem, as_lines, listed, printable, read_problems, summarise


def test_control_characters_are_shown_as_codes() -> None:
    assert printable("a\x1b[31mred\nb\u200e") == "a\\x1b[31mred\\nb\\u200e" and printable("é 🎉") == "é 🎉"
    assert str(DataError("f", record="a\x1b[2J", reason="bad")) == "f: a\\x1b[2J: bad"


def test_half_characters_can_be_written(tmp_path: Path) -> None:
    problem = Problem("f\udcff.json", record="\ud800", reason="bad")
    (tmp_path / "p.jsonl").write_text(as_lines([problem]), encoding="utf-8")
    assert read_problems(tmp_path / "p.jsonl") == [problem] and problem.record == "\\ud800"


@pytest.mark.parametrize("line", ["[1]", "{", '{"file": 3}', '{"file": "a"}', '{"no": "b"}', "[" * 100_000])
def test_damaged_lines_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(as_lines([Problem("a", reason="b")]) + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"p.jsonl: line 2: .*; run the same `vng convert` again"):
        read_problems(path)


def test_long_lists_are_cut_reason_by_reason() -> None:
    many = [Problem(f"r/{i}", reason="no video has this name; skipped", kind="note") for i in range(900)]
    lines = listed([*many[:450], Problem("g", reason="another"), *many[450:]], 3)
    assert lines == [
        "r/0: no video has this name; skipped",
        "r/1: no video has this name; skipped",
        "r/2: no video has this name; skipped",
        "g: another",
        "... and 897 more: no video has this name; skipped",
    ]
    assert listed([], 3) == []
    text = str(DataErrors([*many, *(Problem("p", record=str(i), reason="bad") for i in range(30))]))
    assert text.count("p: ") == 20 and "... and 10 more: bad" in text and "note: ... and 880 more: no video" in text


def test_a_summary_names_what_is_missing() -> None:
    many = [Problem("f", record=f"clip {i}", reason=f"frame '{i}' is missing") for i in range(3)]
    told = summarise([*many, Problem("list.txt", record="line 3", reason="clip 'goat' is not there")])
    assert told.splitlines() == [
        "  3 x error: frame ... is missing (first: clip 0)",
        "  1 x error: list.txt: line 3: clip 'goat' is not there",
    ]
