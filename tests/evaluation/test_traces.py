"""Precision of traces: VidLN's location questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.evaluation.walking_objects import TWO, H, W, make, write_png
from tests.helpers import Cli, assert_stands_alone, box, tables
from vng.dataset import Video
from vng.dataset_writer import write_dataset
from vng.errors import DataError, DataErrors
from vng.evaluation.traces import (
    TraceScore,
    evaluate_questions,
    evaluate_traced_expressions,
    recall_and_precision,
    trace_square,
)
from vng.masks import encode
from vng.narratives import Expression, Narrative
from vng.points import POSITIVE, Points


def traced() -> Video:
    """Two expressions; the second one's object has a trace on frames 1 (three points) and 3 (one), the other's none."""
    points = Points([1, 1, 1, 3], [(4, 3), (5, 3), (25, 20), (6, 6)], [POSITIVE] * 4)
    video = replace(
        make(TWO, points={"1": points}),
        narratives=(Narrative("", "it and it"),),
        expressions=(Expression(0, 0, 2, "2"), Expression(0, 7, 9, "1")),
    )
    return replace(video, objects=tuple(replace(o, source="trace/x") for o in video.objects))


def question(trace: np.ndarray, key: str = "q") -> dict[str, Any]:
    return {"question_hash": key, "question": "where?", "trace_frame": "000007.png", "trace": encode(trace).as_dict()}


class TestTraces:
    TRACE = box(10, 12, 11, 19, 40, 50)  # seven pixels in a row: centre (10, 15), extent 6 of 40

    def test_the_square(self) -> None:
        extent = 6 / 40
        side = (0.239715 + 1.6737112 * extent - 0.42075962 * extent**2) * 40
        assert 19 < side < 20 and trace_square(self.TRACE) == (round(10 - side / 2), round(15 - side / 2), 20, 25)
        assert trace_square(np.eye(3, 5, dtype=bool)) == (0, 0, 3, 3)  # cut to the frame

    def test_known_numbers(self) -> None:
        # columns 12..15 of the trace; the box lies in the square in its upper rows
        shown = box(6, 10, 30, 16, 40, 50) & ~box(8, 11, 20, 14, 40, 50)  # a hole changes nothing
        recall, precision = recall_and_precision(self.TRACE, shown)
        assert recall == 4 / 7 and precision == (20 - 6) / 24
        assert recall_and_precision(self.TRACE, np.zeros((40, 50), bool)) == (0.0, 0.0)
        with pytest.raises(ValueError, match="the trace has no pixel"):
            recall_and_precision(np.zeros((4, 6), bool), np.ones((4, 6), bool))

    def test_shares_and_halves(self) -> None:
        score, other = TraceScore(), TraceScore()
        score.add("v", "a", self.TRACE, encode(self.TRACE))
        other.add_batch([("v", "b", encode(self.TRACE), np.ones((40, 50)))])
        score.merge(other)
        made = score.compute()
        whole = (20 - 0) * (25 - 5) / 2000
        assert made["recall"] == 1.0 and made["precision"] == pytest.approx((1 + whole) / 2)
        assert (made["recall-met"], made["precision-met"], made["both-met"]) == (1.0, 0.5, 0.5)
        with pytest.raises(ValueError, match="was added to both"):
            score.merge(other)
        with pytest.raises(ValueError, match=r"a trace of \[40, 50\] and a prediction of \[50, 40\]"):
            score.add("v", "c", self.TRACE, np.ones((50, 40)))
        assert all(np.isnan(v) for v in TraceScore().compute().values())

    def test_questions(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        file = tmp_path / "qa.json"
        file.write_text(json.dumps({"a film": [question(self.TRACE), question(self.TRACE, "r")]}))
        path = tmp_path / "r" / "a film"
        write_png(path / "q" / "000007.png", self.TRACE)
        how = ["evaluate", "traces", "--questions", file, "--results", tmp_path / "r"]
        ended = cli(*how)
        assert ended.status == 1 and "r/000007.png: this prediction is missing" in ended.err
        ended = cli(*how, "--missing", "empty", "--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv")
        assert ended.status == 0 and "both-met 50.00  (2 questions)" in ended.out, ended.err
        assert json.loads((tmp_path / "s.json").read_text())["questions"][1]["recall"] == 0.0
        assert len((tmp_path / "s.csv").read_text().splitlines()) == 3
        assert cli("evaluate", "traces", "--results", tmp_path).status == 2

    def test_every_fault_is_told_at_once(self, tmp_path: Path) -> None:
        file, nothing = tmp_path / "qa.json", np.zeros((40, 50), bool)
        items = [question(self.TRACE, "small"), question(nothing, "bare"), {**question(nothing, "null"), "trace": None}]
        file.write_text(json.dumps({"v": [*items, question(self.TRACE, "torn")]}))
        write_png(tmp_path / "v" / "small" / "000007.png", np.zeros((5, 6)))
        for key in ("bare", "null", "torn"):
            write_png(tmp_path / "v" / key / "000007.png", nothing)
        (tmp_path / "v" / "torn" / "000007.png").write_bytes(b"no png")
        with pytest.raises(DataErrors) as raised:
            evaluate_questions(file, tmp_path)
        reasons = [problem.reason for problem in raised.value.problems]
        assert reasons == [
            "prediction of 5x6, the frame has 40x50",
            "the trace has no pixel",
            "no trace",
            "this prediction cannot be read",
        ]
        for text in ("{", '{"v": [{}]}', "[]"):
            file.write_text(text)
            with pytest.raises(DataError, match=r"broken JSON|not a readable file of location questions"):
                evaluate_questions(file, tmp_path)
        file.write_text("{}")
        with pytest.raises(DataError, match="no question"):
            evaluate_questions(file, tmp_path)

    def test_processes_and_notes(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        file, results = tmp_path / "qa.json", tmp_path / "r"
        file.write_text(json.dumps({name: [question(self.TRACE, name)] for name in "abc"}))
        for name in "abc":
            write_png(results / name / name / "000007.png", box(9, 10, 12, 12 + ord(name) % 5, 40, 50))
        how = ["evaluate", "traces", "--questions", file, "--results", results, "--quiet"]
        ends = [cli(*how, "--processes", n) for n in (1, 2)]
        assert ends[0].status == 0 and ends[0].out == ends[1].out and ends[0].err == "", ends[0].err
        (results / "a" / "other").mkdir()
        (results / "d").mkdir()
        ended = cli(*how)
        assert ended.status == 0 and "no question of the video has this name" in ended.err
        assert ended.err.count("vng: note: ") == 2 and cli(*how, "--strict").status == 1

    def test_report_of_questions(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        file = tmp_path / "qa.json"
        asked = [question(self.TRACE), question(self.TRACE, "r") | {"question": "<b>why?"}]
        file.write_text(json.dumps({"a film": asked}))
        for name, shown in (("good", self.TRACE), ("bad", box(30, 30, 36, 40, 40, 50))):
            for key in "qr":
                write_png(tmp_path / name / "a film" / key / "000007.png", shown)
        ended = cli(
            "evaluate",
            "traces",
            "--questions",
            file,
            "--results",
            tmp_path / "good",
            "--against",
            tmp_path / "bad",
            "--html",
            tmp_path / "p",
            "--json",
            tmp_path / "s.json",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        tested = json.loads((tmp_path / "s.json").read_text())["against"]["measures"]
        assert (tested["both-met"]["results"], tested["both-met"]["against"]) == (1.0, 0.0)
        page = (tmp_path / "p" / "index.html").read_text()
        assert_stands_alone(page)
        found = tables(page)["cases"]
        names = [column["name"] for column in found["columns"]]
        assert names[:3] == ["question", "R&P", "R&P of bad"] and names[-2:] == ["recall met", "precision met"]
        assert [row[0] for row in found["rows"]] == ["q", "r"] and found["rows"][0][1:3] == [1.0, 0.0]
        assert "over the course of all" not in page  # one frame is no course
        assert "<b>why?" not in page and "<b>why?" in found["texts"] and page.count("data:image/webp") == 2 * 4

    def test_report_of_a_dataset(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        video = traced()
        write_dataset(tmp_path / "d", [video], "t")
        for t in (1, 3):
            write_png(tmp_path / "r" / "v" / "1" / f"{3 * t:05d}.png", box(2, 3, 8, 8, H, W))
        call = ("evaluate", "traces", "--dataset", tmp_path / "d", "--results", tmp_path / "r", "--quiet")
        ended = cli(*call, "--html", tmp_path / "p")
        assert ended.status == 0, ended.err
        page = (tmp_path / "p" / "index.html").read_text()
        assert_stands_alone(page)
        rows = tables(page)["cases"]["rows"]
        assert [row[0] for row in rows] == ["it", "it"] and rows[0][-1]["span"] == [7, 9]
        assert "it and <mark" in page and page.count("data:image/webp") == 2 * 3
        (tmp_path / "r" / "v" / "1" / "strange.png").write_bytes(b"")
        (tmp_path / "r" / "v" / "9").mkdir()
        ended = cli(*call)
        assert ended.status == 0 and ended.err.count("vng: note: ") == 2 and cli(*call, "--strict").status == 1

    def test_a_dataset_made_from_traces(self, tmp_path: Path) -> None:
        video = traced()
        for t in (1, 3):
            path = tmp_path / "v" / "1" / f"{3 * t:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), box(2, 3, 8, 8, H, W).astype(np.uint8))
        score = evaluate_traced_expressions([video], tmp_path)
        assert [(a.question, a.recall) for a in score.answers] == [("1/00003", pytest.approx(2 / 3)), ("1/00009", 1.0)]
        with pytest.raises(DataError, match="no object made from a trace"):
            evaluate_traced_expressions([make(TWO)], tmp_path)
        with pytest.raises(DataError, match="no such folder of predictions"):
            evaluate_traced_expressions([video], tmp_path / "nowhere")
