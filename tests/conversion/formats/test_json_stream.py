"""JSON files of any size, read record by record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conversion.formats import json_stream
from conversion.formats.json_stream import iterate_json_object
from conversion.formats.point_vos import write_points
from conversion.formats.points import read_points
from tests.conversion.point_records import record
from vng.errors import DataError, Problem


@pytest.fixture(params=["p.json", "p.jsonl"])
def points_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Four records over two videos, in both formats."""
    path = tmp_path / request.param
    keys = [("a", "train/v"), ("b", "train/w w"), ("c", "train/v"), ("d", None)]
    write_points((record(key, video, 2 + i) for i, (key, video) in enumerate(keys)), path)
    return path


class TestStreaming:
    @pytest.mark.parametrize("window", [1, 2, 3, 7, 64, 1 << 20])
    @pytest.mark.parametrize("indent", [None, 2])
    def test_any_window_gives_what_json_gives(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, indent: int | None
    ) -> None:
        monkeypatch.setattr(json_stream, "READ_AHEAD", window)
        value = {
            "a": {"x": [1, 2.5e-3, True, None, 'quote " \\ and é \U0001f600'], "": {}},
            "clé": -123456789012345678901234567890,
            "b": [],
            "last": 12,
        }
        for ascii_only in (True, False):
            path = tmp_path / "x.json"
            path.write_text(json.dumps(value, indent=indent, ensure_ascii=ascii_only) + "\n\n", encoding="utf-8")
            found = list(iterate_json_object(path, lambda key, item: (key, item)))
            assert dict(found) == value and len(found) == len(value)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "line 1, column 1: broken JSON: expected an object .* got the end of the file"),
            ("[1]", r"line 1, column 1: .* got '\['"),
            ('{"a": 1', "line 1, column 8: .* got the end of the file"),
            ('{"a": {"b": 1, ', "line 1, column 16: broken JSON: the file ends in the middle of an entry"),
            ('{"a": 1,}', "line 1, column 9: .* ',' before the closing"),
            ('{"a": 1} x', "line 1, column 10: .* expected the end of the file, got 'x'"),
            ('{"a": 1,\n "b": nul, "c": 1}', "line 2, column 7: broken JSON: Expecting value"),
            ('{"a": "\\ud8"}', "broken JSON"),
            ('{"a" 1}', "line 1, column 6: .* expected ':' after a key, got '1'"),
            ("{a: 1}", "line 1, column 2: .* expected a key in quotes"),
            ('{"a": ' + "[" * 100_000, "broken JSON"),
            ('{"a": ' + "1" * 5_000 + "}", "broken JSON"),
        ],
    )
    def test_faults_name_line_and_column(self, tmp_path: Path, text: str, words: str) -> None:
        (tmp_path / "x.json").write_text(text)
        for on_problem in (None, [].append):
            with pytest.raises(DataError, match=words):
                list(iterate_json_object(tmp_path / "x.json", lambda key, value: key, on_problem))

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_bytes(b'{"a": "\xff"}')
        with pytest.raises(DataError, match="byte 7: not UTF-8 text"):
            list(iterate_json_object(tmp_path / "x.json", lambda key, value: key))
        with pytest.raises(DataError, match="no such file"):
            list(iterate_json_object(tmp_path / "none.json", lambda key, value: key))

    def test_an_entry_without_end_does_not_fill_the_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json_stream, "READ_AHEAD", 100)
        monkeypatch.setattr(json_stream, "MOST_CHARACTERS", 1_000)
        (tmp_path / "x.json").write_text('{"a": "' + "x" * 100_000)
        held = []
        more = json_stream._Window._more
        monkeypatch.setattr(json_stream._Window, "_more", lambda self: held.append(len(self.text)) or more(self))
        with pytest.raises(DataError, match="Unterminated string"):
            list(iterate_json_object(tmp_path / "x.json", lambda key, value: key))
        assert max(held) < 3_000

    def test_reading_is_lazy_and_holds_one_record(self, points_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first record is there before the second is read; of a file broken at its end too."""
        monkeypatch.setattr(json_stream, "READ_AHEAD", 64)
        text = points_file.read_text()
        points_file.write_text(text.rstrip("}\n")[:-5])
        records = read_points(points_file)
        assert [next(records).key for _ in range(3)] == ["a", "b", "c"]
        with pytest.raises(DataError, match=r"the file ends|line 4"):
            next(records)

    def test_window_forgets_what_was_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(json_stream, "READ_AHEAD", 256)
        write_points((record(f"{i:032x}") for i in range(200)), tmp_path / "p.json")
        held = []
        more = json_stream._Window._more
        monkeypatch.setattr(json_stream._Window, "_more", lambda self: held.append(len(self.text)) or more(self))
        assert len(list(read_points(tmp_path / "p.json"))) == 200
        assert max(held) < 2_000 < (tmp_path / "p.json").stat().st_size / 20


@pytest.mark.parametrize("damage", ["\x01", "\t", "\\x"])
def test_a_broken_key_is_passed_over_once(tmp_path: Path, damage: str) -> None:
    """A key with a control character looks like the start of a record, and must not be tried for ever."""
    write_points((record(key, "train/v", 2) for key in ("first", "second", "third")), tmp_path / "p.json")
    text = (tmp_path / "p.json").read_text()
    (tmp_path / "p.json").write_text(text.replace('"second"', f'"sec{damage}ond"'))
    problems: list[Problem] = []
    assert [item.key for item in read_points(tmp_path / "p.json", problems.append)] == ["first", "third"]
    assert len(problems) == 1 and "broken JSON" in problems[0].reason
