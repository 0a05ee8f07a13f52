"""Statistics of a dataset's points, as in the Point-VOS paper."""

from __future__ import annotations

import pytest

from vng.inspection.point_statistics import (
    PUBLISHED,
    PointStatistics,
    bar_name,
    bar_of,
    compare,
    parse_printed,
    published_like,
)
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE


class TestStatistics:
    def test_known_numbers(self) -> None:
        points = PointStatistics()
        points.add("v", [0, 0, 3, 3, 3], [POSITIVE, NEGATIVE, POSITIVE, POSITIVE, AMBIGUOUS])
        points.add("v", [0, 3, 5], [NEGATIVE] * 3)
        points.add("w", list(range(10)) * 3, [POSITIVE] * 30)
        assert points.table() == {
            "videos": 2,
            "annotations": 2 + 3 + 10,
            "objects": 3,
            "positive points": 33,
            "negative points": 4,
            "ambiguous points": 1,
            "frames": 3 + 10,
        }
        assert points.as_json()["objects by frames with a positive"] == {"0": 1, "2": 1, "10": 1}
        assert points.as_json()["objects by positive points"] == {"0-10": 2, "20-30": 1}
        assert points.as_json()["objects by negative points"] == {"0-10": 3}
        points.add(None, [1], [POSITIVE])
        assert points.videos is None and points.frames is None and points.objects == 4

    @pytest.mark.parametrize(
        ("count", "bar"),
        [(0, "0-10"), (10, "0-10"), (11, "10-20"), (20, "10-20"), (200, "190-200"), (201, "> 200"), (999, "> 200")],
    )
    def test_bars_are_the_published_ones(self, count: int, bar: str) -> None:
        assert bar_name(bar_of(count)) == bar

    @pytest.mark.parametrize(
        ("text", "value"), [("7.4K", (7400, 100)), ("93K", (93_000, 1_000)), ("1.2M", (1.2e6, 1e5)), ("991", (991, 1))]
    )
    def test_printed_figures(self, text: str, value: tuple[float, float]) -> None:
        assert parse_printed(text) == pytest.approx(value)

    def test_comparison(self) -> None:
        points = PointStatistics(objects=12_146, object_frames=92_499)
        rows = {row.name: row for row in compare(points, PUBLISHED["oops train"])}
        assert rows["objects"].agrees and rows["objects"].verdict == "agrees as printed"
        assert not rows["annotations"].agrees and rows["annotations"].verdict == "-0.5%"
        assert rows["videos"].verdict == "-100.0%" and rows["frames"].verdict == ""
        val = {row.name: row for row in compare(PointStatistics(objects=992), PUBLISHED["oops val"])}
        assert not val["objects"].agrees  # printed to the last digit

    @pytest.mark.parametrize(
        ("name", "splits", "found"),
        [
            ("x/Oops/train.json", {"train"}, "oops train"),
            ("oops_val", {"val"}, "oops val"),
            ("oops", {"train", "val"}, "oops"),
            ("oops", set(), "oops train"),
            ("data/Kinetics/train.jsonl", {"train"}, "kinetics"),
            ("OVIS_train", {"train"}, None),
            ("pv-davis DAVIS", {"train"}, "davis train"),
            ("DAVIS", {"val"}, "davis val"),
            ("DAVIS", {"train", "val"}, None),
            ("YouTube-VOS", {"train"}, "youtube train"),
            ("YouTube-VOS", {"valid"}, "youtube val"),
        ],
    )
    def test_which_set(self, name: str, splits: set[str], found: str | None) -> None:
        assert published_like(name, splits) == (PUBLISHED[found] if found else None)
