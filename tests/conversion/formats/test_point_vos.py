"""Point-VOS annotations: records, and their faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conversion.formats.point_vos import as_json, write_points
from conversion.formats.points import read_points
from tests.conversion.narrated_video import record
from vng.errors import DataError, Problem
from vng.points import NEGATIVE, POSITIVE


class TestPointVos:
    @pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
    def test_round_trip(self, tmp_path: Path, name: str) -> None:
        made = [record("a" * 32, "ball", (5, 4)), record("b" * 32, "baby girl", (6, 5))]
        write_points(made, tmp_path / name)
        assert list(read_points(tmp_path / name)) == made
        assert made[0].video_id == "v" and made[0].split == "train"

    def test_label_comes_from_status_alone(self, tmp_path: Path) -> None:
        raw = as_json(record("k", "ball", (5, 4)))
        raw["annotated_points"][0] |= {"status": "REJECTED", "is_fg_candidate": True}
        raw["annotated_points"][1] |= {"status": "ACCEPTED", "is_fg_candidate": False}
        raw["video_name"] = None
        raw["annotated_points"][2]["frame_id"] = None
        (tmp_path / "p.json").write_text(json.dumps({"k": raw}))
        (read,) = read_points(tmp_path / "p.json")
        assert [p.label for p in read.points[:2]] == [NEGATIVE, POSITIVE]
        assert read.video_name is None and read.points[2].frame_id is None and read.question is None

    def test_bad_records_do_not_lose_good_ones(self, tmp_path: Path) -> None:
        good, bad = as_json(record("g", "ball", (5, 4))), as_json(record("b", "ball", (5, 4)))
        bad["annotated_points"][1]["status"] = "MAYBE"
        (tmp_path / "p.json").write_text(json.dumps({"g": good, "b": bad, "n": 5}))
        problems: list[Problem] = []
        assert [r.key for r in read_points(tmp_path / "p.json", problems.append)] == ["g"]
        assert "annotated_points[1].status" in str(problems[0]) and "'MAYBE'" in str(problems[0])
        assert problems[1].record == "n"
        (tmp_path / "p.json").write_text("{")
        with pytest.raises(DataError, match="line 1, column 2: broken JSON"):
            list(read_points(tmp_path / "p.json", problems.append))
