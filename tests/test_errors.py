"""Errors and problems: what they show, and what a file of them may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from vng.errors import DataError, Problem, as_lines, printable, read_problems, summarise


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


def test_a_summary_names_what_is_missing() -> None:
    many = [Problem("f", record=f"clip {i}", reason=f"frame '{i}' is missing") for i in range(3)]
    told = summarise([*many, Problem("list.txt", record="line 3", reason="clip 'goat' is not there")])
    assert told.splitlines() == [
        "  3 x error: frame ... is missing (first: clip 0)",
        "  1 x error: list.txt: line 3: clip 'goat' is not there",
    ]
