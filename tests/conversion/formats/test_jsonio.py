"""JSON files written section by section."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conversion.formats.jsonio import JsonSection, write_json_lines, write_json_sections


def test_sections_are_what_json_dumps_writes(tmp_path: Path) -> None:
    items, entries = JsonSection(tmp_path), JsonSection(tmp_path, "{}")
    for value in (1, {"ä": [None, 2.5]}, "x"):
        items.add(value)
    entries.add([1], 'a "key"')
    entries.add({}, "b")
    write_json_sections(
        {"items": items, "n": 3, "entries": entries, "none": JsonSection(tmp_path)}, tmp_path / "a.json"
    )
    expected = {"items": [1, {"ä": [None, 2.5]}, "x"], "n": 3, "entries": {'a "key"': [1], "b": {}}, "none": []}
    assert (tmp_path / "a.json").read_text() == json.dumps(expected, ensure_ascii=False) + "\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_lines_that_cannot_be_written_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json_lines([1, object()], tmp_path / "a.jsonl")
    assert list(tmp_path.iterdir()) == []
    write_json_lines([1, {"é": 2}], tmp_path / "new" / "a.jsonl")
    assert (tmp_path / "new" / "a.jsonl").read_text(encoding="utf-8") == '1\n{"é": 2}\n'


def test_a_value_that_cannot_be_written_leaves_the_earlier_file(tmp_path: Path) -> None:
    write_json_sections({"a": 1}, tmp_path / "a.json")
    with pytest.raises(TypeError):
        write_json_sections({"a": 2, "b": object()}, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == '{"a": 1}\n' and len(list(tmp_path.iterdir())) == 1
