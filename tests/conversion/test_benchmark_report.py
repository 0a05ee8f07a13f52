"""Decisions of the benchmark: records, totals, sentences, and the page about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conversion.benchmark_decisions import BenchmarkTotals, ExplainedObject, explained, read_decisions, sentences
from conversion.benchmark_report import write_report
from conversion.benchmark_rules import NO_REFERENCE, PLACED, PUBLISHED, place, published
from tests.conversion.test_build import files_of
from tests.conversion.test_point_benchmark import GOOD, HIGH, WIDE, T, a_video, points, write_dataset
from tests.helpers import Cli
from vng.dataset_writer import DatasetWriter
from vng.errors import DataError
from vng.masks import empty
from vng.points import Points

BAD = ((6, 1),) * T


def decided(counts: Any, trace: int | None = None, source: str = "orig_masks") -> ExplainedObject:
    video = a_video("v", a=(counts, source))
    return explained(video, video.objects[0], place(points(counts), trace))


class TestExplained:
    def test_names_and_counts(self) -> None:
        item = decided(GOOD, 4)
        assert (item.outcome, item.reference, item.frames_before, item.annotated_before) == (PLACED, "000002", 2, 2)
        assert (item.positive, item.negative, item.ambiguous) == (8, 2, 0)
        assert item.annotated_after == ("000003", "000004", "000005", "000006", "000008")
        assert item.even == ("000003", "000005", "000008") and item.evaluation == ("000004", "000005", "000008")
        assert (item.trace, item.replaced, item.lacking, item.absent) == ("000004", "000003", (), ())
        assert item.object_frames == 4

    def test_masks_that_lack_and_objects_that_are_absent(self) -> None:
        video = a_video("v", a=(GOOD, "orig_masks"))
        masks = tuple(
            None if t == 3 else empty(HIGH, WIDE) if t == 5 else rle
            for t, rle in enumerate(video.objects[0].segmentations)
        )
        item = explained(video, replace(video.objects[0], segmentations=masks), place(points(GOOD), None))
        assert (item.lacking, item.absent, item.object_frames) == (("000003",), ("000005",), 3)
        assert decided(GOOD, None, "points/embedded").lacking == ("000003", "000005", "000008")

    def test_sentences(self) -> None:
        assert sentences(decided(GOOD, 4)) == (
            "000002 is the first frame with at least 7 positive points. 2 frames before it are removed, 2 of them with "
            "points. For evaluation: 000004, 000005, 000008, evenly spaced among the 5 frames with points after it; "
            "000004, which has the mouse trace, takes the place of 000003."
        )
        assert sentences(decided(GOOD, 5)).endswith("after it; 000005 has the mouse trace.")
        assert sentences(decided([(7, 0), (3, 1)])) == (
            "000000 is the first frame with at least 7 positive points. It is the first frame of the video. "
            "For evaluation: 000001; the frame with the mouse trace is not known."
        )
        assert sentences(decided(BAD)) == "Dropped: no frame has 7 positive points (at most 6)."
        assert "Without a true mask: 000003, 000005, 000008." in sentences(decided(GOOD, None, "points/embedded"))

    def test_the_published_form(self) -> None:
        video = a_video("v", a=([(0, 0)] * 5 + [(5, 3)], "orig_masks"))
        decision = published(video.objects[0])
        assert decision is not None and decision.outcome == PUBLISHED
        item = explained(video, video.objects[0], decision)
        assert item.evaluation == ("000006", "000007", "000008") and item.positive == 5
        assert sentences(item) == (
            "All its points lie on 000005: the published form, taken as it is. For evaluation: 000006, 000007, 000008."
        )


def test_totals() -> None:
    kept = decided(GOOD)
    totals = BenchmarkTotals.of([kept, replace(kept, object_id="b", absent=("000005",)), decided(BAD)])
    assert (totals.videos, totals.objects, totals.object_frames) == (1, 2, 7)
    assert (totals.positive, totals.negative, totals.ambiguous, totals.lacking) == (16, 4, 0, 0)
    assert totals.outcomes[PLACED] == 2 and totals.outcomes[NO_REFERENCE] == 1
    figures = totals.as_json()
    assert figures["object_frames_an_object"] == 3.5 and figures["positive_points_an_object_frame"] == 2.29
    assert figures["dropped_no_reference"] == 1
    assert BenchmarkTotals.of([]).as_json()["positive_points_an_object"] == 0


class TestFile:
    def test_round_trip(self, tmp_path: Path) -> None:
        items = [decided(GOOD, 4), decided(BAD)]
        path = tmp_path / "decisions.jsonl"
        path.write_text("".join(json.dumps(item.as_json()) + "\n" for item in items))
        assert list(read_decisions(path)) == items

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"outcome": "lost"}, "line 1: outcome: expected one of placed"),
            ({"reference": None}, "line 1: reference: expected a string, got null"),
            ({"positive": "many"}, "line 1: positive: expected an integer"),
            ({"evaluation": [3]}, r"line 1: evaluation\[0\]: expected a string, got 3"),
        ],
    )
    def test_damaged_lines(self, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
        path = tmp_path / "decisions.jsonl"
        path.write_text(json.dumps(decided(GOOD).as_json() | change))
        with pytest.raises(DataError, match=reason):
            list(read_decisions(path))

    def test_no_decisions(self, tmp_path: Path) -> None:
        assert write_report(tmp_path) == {} and not list(tmp_path.iterdir())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A dataset of one video that is kept and one that is dropped."""
    videos = [a_video("w & x", b=(BAD, "orig_masks")), a_video("v", a=(GOOD, "orig_masks"), c=(BAD, "orig_masks"))]
    write_dataset(tmp_path / "data", *videos)
    return tmp_path / "data"


class TestCommand:
    def test_report_and_totals(self, tmp_path: Path, source: Path, cli: Callable[..., Cli]) -> None:
        call = ["convert", "point-benchmark", "--source", source, "--quiet", "--out", tmp_path / "out"]
        ended = cli(*call)
        assert ended.status == 0 and "positive points an object" in ended.out and "8" in ended.out
        items = list(read_decisions(tmp_path / "out" / "decisions.jsonl"))
        assert [(i.video_id, i.object_id, i.outcome) for i in items] == [
            ("w & x", "b", NO_REFERENCE),
            ("v", "a", PLACED),
            ("v", "c", NO_REFERENCE),
        ]
        page = (tmp_path / "out" / "report.html").read_text()
        assert "000002 is the first frame with at least 7" in page and "w &amp; x" in page
        assert page.count("data:image/webp") == 1 and "No frame has 7 positive points" in page
        again = json.loads(cli(*call, "--json").out)  # a finished benchmark: the report is written again
        assert (again["object_frames"], again["negative_points"], again["dropped_no_reference"]) == (4, 2, 2)

    def test_an_interrupted_run_ends_in_the_same_bytes(
        self, tmp_path: Path, source: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call = ["convert", "point-benchmark", "--source", source, "--quiet", "--out"]
        assert cli(*call, tmp_path / "a" / "out").status == 0
        write = DatasetWriter.write

        def dying(self: DatasetWriter, index: int, *more: Any) -> None:
            if index == 2:
                raise KeyboardInterrupt
            write(self, index, *more)

        monkeypatch.setattr(DatasetWriter, "write", dying)
        assert cli(*call, tmp_path / "b" / "out").status == 130
        assert not (tmp_path / "b" / "out" / "report.html").exists()
        monkeypatch.undo()
        assert cli(*call, tmp_path / "b" / "out").status == 0
        assert files_of(tmp_path / "a" / "out") == files_of(tmp_path / "b" / "out")

    def test_all_dropped_is_explained_too(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "data", a_video("v", b=(BAD, "orig_masks")))
        ended = cli("convert", "point-benchmark", "--source", tmp_path / "data", "--quiet", "--out", tmp_path / "out")
        assert ended.status == 1 and "no video could be converted" in ended.err
        (item,) = read_decisions(tmp_path / "out" / "decisions.jsonl")
        assert item.reason == "no frame has 7 positive points (at most 6)"


def test_points_without_a_reference_are_not_counted() -> None:
    video = a_video("v", a=([], "orig_masks"))
    item = explained(video, video.objects[0], place(Points.none(), None))
    assert (item.reference, item.positive, item.frames_before) == (None, 0, 0)
