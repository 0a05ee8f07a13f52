"""Reading point annotations, whatever their layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conversion.formats import json_stream
from conversion.formats.point_vos import as_json, write_points
from conversion.formats.points import read_points
from tests.conversion.point_records import record
from vng.errors import DataError, Problem


class TestReading:
    def test_formats_are_told_by_content(self, tmp_path: Path) -> None:
        made = [record("a"), record("b"), record("c")]
        write_points(made, tmp_path / "p.jsonl")
        (tmp_path / "p.jsonl").rename(tmp_path / "lines.json")
        assert list(read_points(tmp_path / "lines.json")) == made
        pretty = json.dumps({r.key: as_json(r) for r in made}, indent=1)
        (tmp_path / "pretty.json").write_text(pretty)
        assert list(read_points(tmp_path / "pretty.json")) == made
        one_a_line = "\n".join(json.dumps({r.key: as_json(r)}, indent=1) for r in made)  # objects over several lines
        (tmp_path / "several.json").write_text(one_a_line)
        assert list(read_points(tmp_path / "several.json")) == made

    def test_empty_files(self, tmp_path: Path) -> None:
        write_points([], tmp_path / "p.json")
        write_points([], tmp_path / "p.jsonl")
        assert (tmp_path / "p.json").read_text() == "{}\n"
        assert [*read_points(tmp_path / "p.json"), *read_points(tmp_path / "p.jsonl")] == []
        (tmp_path / "p.json").write_text("")
        with pytest.raises(DataError, match=r"p\.json: line 1, column 1: .* got the end of the file"):
            list(read_points(tmp_path / "p.json"))
        with pytest.raises(DataError, match="no such file"):
            list(read_points(tmp_path / "none.json"))

    @pytest.mark.parametrize(
        "damage",
        [
            lambda b: b.replace('"x": 3', '"x": '),  # no value
            lambda b: b[: len(b) // 2],  # its second half is missing
            lambda b: b.replace('"annotated_points": [', '"annotated_points": '),
            lambda b: b.replace("ball", 'ba"ll'),
            lambda b: b.replace("ball", "ba\\xll"),
        ],
    )
    @pytest.mark.parametrize("indent", [None, 1])
    def test_broken_json_in_the_middle_loses_one_record(
        self, tmp_path: Path, damage: Callable[[str], str], indent: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json_stream, "READ_AHEAD", 50)
        entries = [json.dumps({r.key: as_json(r)}, indent=indent)[1:-1] for r in map(record, ("a", "b", "c", "d"))]
        (tmp_path / "p.json").write_text("{" + ",".join([entries[0], damage(entries[1].rstrip()), *entries[2:]]) + "}")
        problems: list[Problem] = []
        assert [r.key for r in read_points(tmp_path / "p.json", problems.append)] == ["a", "c", "d"]
        assert problems and all("broken JSON" in p.reason and p.record.startswith("line ") for p in problems)
        with pytest.raises(DataError, match="broken JSON"):
            list(read_points(tmp_path / "p.json"))

    def test_a_brace_never_closed_is_a_file_cut_short(self, tmp_path: Path) -> None:
        entries = [json.dumps({r.key: as_json(r)})[1:-1] for r in map(record, ("a", "b", "c"))]
        (tmp_path / "p.json").write_text("{" + ",".join([entries[0], entries[1][:-1], entries[2]]) + "}")  # b holds c
        with pytest.raises(DataError, match=r"broken JSON: .* got the end of the file"):
            list(read_points(tmp_path / "p.json", lambda problem: None))

    def test_a_missing_comma_loses_nothing(self, tmp_path: Path) -> None:
        entries = [json.dumps({r.key: as_json(r)})[1:-1] for r in map(record, ("a", "b", "c"))]
        (tmp_path / "p.json").write_text("{" + entries[0] + " " + entries[1] + "," + entries[2] + "}")
        problems: list[Problem] = []
        assert [r.key for r in read_points(tmp_path / "p.json", problems.append)] == ["a", "b", "c"]
        assert len(problems) == 1 and "expected ',' or '}' after an entry" in problems[0].reason

    def test_a_file_cut_short_is_never_taken_for_whole(self, tmp_path: Path) -> None:
        write_points(map(record, "abc"), tmp_path / "p.json")
        whole = (tmp_path / "p.json").read_text()
        for length in (len(whole) - 2, len(whole) - 30, whole.index('"c"') + 1, whole.index('"c"') + 6):
            (tmp_path / "p.json").write_text(whole[:length])
            keys: list[str] = []
            with pytest.raises(DataError, match="broken JSON: "):
                for item in read_points(tmp_path / "p.json", lambda problem: None):
                    keys.append(item.key)
            assert keys[:2] == ["a", "b"]

    def test_bad_line_of_kinetics(self, tmp_path: Path) -> None:
        lines = [json.dumps({r.key: as_json(r)}) for r in map(record, "abcd")]
        lines[1] = lines[1][:-9]
        lines[2] = lines[2].replace("ACCEPTED", "MAYBE")
        (tmp_path / "p.jsonl").write_text("\n".join(lines))
        problems: list[Problem] = []
        assert [r.key for r in read_points(tmp_path / "p.jsonl", problems.append)] == ["a", "d"]
        assert [p.record for p in problems] == ["line 2", "line 3: c"]

    def test_what_may_be_missing(self, tmp_path: Path) -> None:
        raw = as_json(record("k", None))
        del raw["question_hash"]
        raw["annotated_points"][0] |= {"frame_id": None, "x": 2.5}
        del raw["annotated_points"][1]["is_fg_candidate"]
        (tmp_path / "p.jsonl").write_text(json.dumps({"k": raw}) + "\n")
        (read,) = read_points(tmp_path / "p.jsonl")
        assert read.video_name is None and read.question is None and read.question_hash is None
        assert (read.points[0].frame_id, read.points[0].x, read.points[1].is_fg_candidate) == (None, 2.5, False)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"x": "3"}, r'annotated_points\[1\].x: expected a number, got "3"'),
            ({"x": True}, r"annotated_points\[1\].x: expected a number, got true"),
            ({"y": 10**12}, r"annotated_points\[1\].y: expected a number between -1e9 and 1e9"),
            ({"frame_id": 7}, r"annotated_points\[1\].frame_id: expected a string"),
            ({"frame_id": "\ud800"}, r"annotated_points\[1\].frame_id: contains half a character"),
            ({"status": None}, r"annotated_points\[1\].status: expected a string"),
            ({"status": ["ACCEPTED"]}, r"annotated_points\[1\].status: expected a string"),
        ],
    )
    def test_faults_of_points_name_the_field(self, tmp_path: Path, change: dict, words: str) -> None:
        raw = as_json(record("k"))
        raw["annotated_points"][1] |= change
        (tmp_path / "p.json").write_text(json.dumps({"k": raw}))
        with pytest.raises(DataError, match=words):
            list(read_points(tmp_path / "p.json"))
        for wrong in ({"points": 1}, {"annotated_points": {}}, {"annotated_points": [1]}):
            (tmp_path / "p.json").write_text(json.dumps({"k": {"object_name": "x", **wrong}}))
            with pytest.raises(DataError, match="annotated_points"):
                list(read_points(tmp_path / "p.json"))
