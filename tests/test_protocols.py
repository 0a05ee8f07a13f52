"""Protocols beside the main ones: proposals without names, referring expressions, points, traces."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers import Cli, assert_stands_alone, box, tables
from vng.dataset import Video, VideoObject
from vng.dataset_writer import write_dataset
from vng.errors import DataError, DataErrors, UsageError
from vng.evaluation.metrics import boundary_f, jaccard
from vng.evaluation.narrative.referring import annotator_runs, evaluate_referring
from vng.evaluation.point_agreement import PointScore, evaluate_points
from vng.evaluation.traces import (
    TraceScore,
    evaluate_questions,
    evaluate_traced_expressions,
    recall_and_precision,
    trace_square,
)
from vng.evaluation.vos.proposals import ProposalScores
from vng.evaluation.vos.scores import Protocol, Run, VosScores, evaluate_vos
from vng.masks import encode
from vng.narratives import Expression, Narrative
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points

H, W, T = 22, 31, 4
Frames = list[np.ndarray | None]
NOTHING = np.zeros((H, W), bool)


def walk(top: int, left: int, hidden: tuple[int, ...] = ()) -> Frames:
    """A box that walks right, and is hidden in some frames."""
    return [NOTHING if t in hidden else box(top, left + t, top + 7, left + t + 8, H, W) for t in range(T)]


TWO: dict[str, Frames] = {"1": walk(1, 2), "2": walk(12, 15, hidden=(2,))}


def make(layers: dict[str, Frames], name: str = "v", points: dict[str, Points] | None = None, **rest: Any) -> Video:
    objects = tuple(
        VideoObject(
            i,
            f"kind {i}",
            "points/x",
            tuple(None if m is None else encode(m) for m in masks),
            (points or {}).get(i, Points.none()),
        )
        for i, masks in layers.items()
    )
    names = tuple(f"{3 * t:05d}" for t in range(T))
    return replace(
        Video(
            video_id=name,
            dataset="hand-made",
            split="val",
            height=H,
            width=W,
            fps=0.0,
            frame_names=names,
            narratives=(),
            expressions=(),
            objects=objects,
        ),
        **rest,
    )


def write_png(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def predict(folder: Path, layers: dict[int, Frames], name: str = "v") -> Run:
    """Write label maps: number -> masks."""
    for t in range(T):
        labels = np.zeros((H, W), np.uint8)
        for number, masks in layers.items():
            mask = masks[t]
            labels[NOTHING if mask is None else mask] = number
        write_png(folder / name / f"{3 * t:05d}.png", labels)
    return Run(folder)


def unsupervised(video: Video, run: Run, missing: Any = "error", **how: Any) -> VosScores:
    return evaluate_vos([video], [run], Protocol("davis-unsupervised", **how), missing)[0]


class TestUnsupervised:
    def test_proposals_find_their_objects(self, tmp_path: Path) -> None:
        scores = unsupervised(make(TWO), predict(tmp_path, {9: TWO["1"], 4: TWO["2"]}))
        assert [(s.object_id, s.j, s.f) for s in scores.objects] == [(i, (1.0,) * T, (1.0,) * T) for i in ("1", "2")]
        assert scores.objects[0].frames == ("00000", "00003", "00006", "00009")  # the first and the last too

    def test_the_sum_counts_not_each_alone(self) -> None:
        # proposal 1 is the best one for both objects; the sum is highest where the second has it
        scores = ProposalScores([(0,), (0, 4)])
        scores.add(0, [1, 2], (np.array([[0.6, 0.5, 0.0], [0.9, 0.1, 0.0]]),) * 2)
        scores.add(4, [2], (np.array([[0.3, 0.2]]),) * 2)  # proposal 1 shows nothing here
        assert scores.matched() == [[(0.5, 0.5)], [(0.9, 0.9), (0.2, 0.2)]]
        assert scores.matched(by_proposal=True) == scores.matched()  # their frames differ: nothing to mix up

    def test_in_the_order_of_proposals(self) -> None:
        scores = ProposalScores([(0,), (0,)])
        scores.add(0, [1, 2], (np.array([[0.6, 0.5, 0.0], [0.9, 0.1, 0.0]]),) * 2)
        assert scores.matched() == [[(0.5, 0.5)], [(0.9, 0.9)]]
        assert scores.matched(by_proposal=True) == scores.matched()[::-1]

    def test_without_proposals_absence_is_right(self, tmp_path: Path) -> None:
        scores = unsupervised(make(TWO), predict(tmp_path, {}))
        assert scores.objects[0].j == (0.0,) * T and scores.objects[1].j == (0.0, 0.0, 1.0, 0.0)

    def test_a_number_skipped_is_an_empty_proposal(self, tmp_path: Path) -> None:
        hidden = {"1": walk(1, 2), "2": walk(12, 15, hidden=(1, 2, 3))}
        run = predict(tmp_path, {1: hidden["1"], 3: [box(0, 20, 3, 25, H, W)] * T})
        assert unsupervised(make(hidden), run).objects[1].j == (0.0, 1.0, 1.0, 1.0)  # number 2, which is never there

    def test_null_frames_and_late_objects(self, tmp_path: Path) -> None:
        layers = {**TWO, "3": [NOTHING, *walk(1, 20)[1:]], "4": [walk(12, 1)[0], None, None, walk(12, 1)[3]]}
        scores = unsupervised(make(layers), predict(tmp_path, {1: layers["4"], 2: TWO["2"]}))
        assert [(s.object_id, len(s.frames)) for s in scores.objects] == [("1", 4), ("2", 4), ("4", 2)]
        assert scores.objects[2].j == (1.0, 1.0) and scores.left_out[0].reason == "not in the first frame"

    def test_official_lists_by_proposal(self, tmp_path: Path) -> None:
        gap = {"1": TWO["1"], "3": TWO["2"]}
        run = predict(tmp_path, {1: TWO["2"], 2: walk(2, 3)})
        scores = unsupervised(make(gap), run, official=True)
        assert len(scores.objects) == 3 and scores.objects[0].j == (1.0,) * T and scores.objects[1].j[0] < 1
        assert scores.objects[2].j == (1.0,) * T  # an object that is never there, met by an empty proposal
        assert [round(s.j[0], 2) for s in unsupervised(make(gap), run).objects] == [0.6, 1.0]

    def test_void_pixels(self, tmp_path: Path) -> None:
        run = predict(tmp_path / "r", {1: walk(1, 2), 2: walk(12, 14)})
        for t in range(T):
            labels = np.zeros((H, W), np.uint8)
            labels[11:] = 255
            write_png(tmp_path / "void" / "v" / f"{3 * t:05d}.png", labels)
        scores = unsupervised(make(TWO), run, void=tmp_path / "void")
        assert scores.objects[1].j == (1.0,) * T and unsupervised(make(TWO), run).objects[1].j[0] < 1
        (tmp_path / "void" / "v" / "00003.png").unlink()
        with pytest.raises(DataError, match=r"00003.png: this annotation is missing; check --void"):
            unsupervised(make(TWO), run, void=tmp_path / "void")

    def test_faults(self, tmp_path: Path) -> None:
        run = predict(tmp_path, {20: TWO["1"], 21: TWO["2"]})
        (tmp_path / "v" / "00009.png").unlink()
        with pytest.raises(DataErrors, match=r"numbers \[21\]") as raised:
            unsupervised(make(TWO), run)
        assert (
            len(raised.value.problems) == 4 - 1 + 1 - 1
        )  # the number on frames 0 and 1 and 3 is hidden once; one lost
        for call, words in (
            (lambda: Protocol("youtube-vos", void=tmp_path), "--void requires"),
            (lambda: Protocol("youtube-vos", official=True), "davis-unsupervised"),
        ):
            with pytest.raises(UsageError, match=words):
                call()

    def test_command(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "d", [make(TWO)], "t")
        predict(tmp_path / "r", {2: TWO["1"], 1: TWO["2"]})
        how = ["evaluate", "vos", "--dataset", tmp_path / "d", "--results", tmp_path / "r"]
        ended = cli(*how, "--protocol", "davis-unsupervised", "--json", tmp_path / "s.json", "--quiet")
        assert ended.status == 0 and json.loads((tmp_path / "s.json").read_text())["J&F"] == 1.0
        assert cli(*how, "--void", tmp_path).status == 2
        assert cli(*how, "--protocol", "davis-unsupervised", "--archive", tmp_path / "x.zip").status == 2


def referring(layers: dict[str, Frames], meant: list[str]) -> Video:
    text = "the one"
    return make(layers, narratives=(Narrative("", text),), expressions=tuple(Expression(0, 0, 7, i) for i in meant))


def predict_expressions(folder: Path, predictions: list[Frames]) -> None:
    for e, masks in enumerate(predictions):
        for t, mask in enumerate(masks):
            write_png(folder / "v" / str(e) / f"{3 * t:05d}.png", (NOTHING if mask is None else mask) * 255)


class TestReferring:
    NULLS: dict[str, Frames] = {"1": TWO["1"], "2": [None, *TWO["2"][1:]]}  # noqa: RUF012

    def test_ref_youtube_vos_is_the_pooled_score(self, tmp_path: Path) -> None:
        predict_expressions(tmp_path, [TWO["1"], TWO["1"], walk(12, 16)])
        video = referring(self.NULLS, ["1", "2", "2"])
        scores = evaluate_referring([video], tmp_path)
        truth, shown = np.stack(TWO["2"][1:]), np.stack(walk(12, 16)[1:])  # type: ignore[arg-type]
        assert [s.frames for s in scores.expressions] == [4, 3, 3] and scores.annotators == (0, 0, 1)
        expected = [1.0, 0.0, jaccard(truth, shown).mean()]
        np.testing.assert_allclose([s.j for s in scores.expressions], expected, atol=1e-15)
        assert scores.j == pytest.approx(np.mean(expected)) and scores.jf == 0.5 * (scores.j + scores.f)
        assert scores.expressions[2].f == pytest.approx(boundary_f(truth, shown).mean())

    def test_mevis_takes_null_as_absent(self, tmp_path: Path) -> None:
        predict_expressions(tmp_path, [TWO["2"]])
        video = referring(self.NULLS, ["2"])
        assert evaluate_referring([video], tmp_path, "mevis").j == 0.75
        assert evaluate_referring([video], tmp_path).j == 1.0

    def test_ref_davis_is_the_mean_of_annotators(self, tmp_path: Path) -> None:
        video = referring(TWO, ["1", "1", "2"])  # the second annotator describes object 1 alone
        predict_expressions(tmp_path, [TWO["1"], TWO["1"], [NOTHING] * T])
        scores = evaluate_referring([video], tmp_path, "ref-davis")
        by = scores.by_annotator()
        assert [(k, v["J"], v["expressions"]) for k, v in by.items()] == [(0, 0.625, 2), (1, 1.0, 1)]
        assert scores.j == 0.8125 and evaluate_referring([video], tmp_path).j == pytest.approx(0.75)
        assert scores.as_json()["annotators"]["1"]["J"] == 1.0

    def test_ref_davis_as_label_maps(self, tmp_path: Path) -> None:
        predict(tmp_path / "anno_10", {1: TWO["1"]})
        predict(tmp_path / "anno_2", {1: TWO["1"], 2: TWO["2"]})
        (tmp_path / "anno_x").mkdir()
        runs = annotator_runs(tmp_path)
        assert [run.name for run in runs] == ["anno_2", "anno_10"]
        scores = evaluate_vos([make(TWO)], runs, Protocol("davis-unsupervised"))
        assert [s.summary().j.mean for s in scores] == [1.0, 0.625]

    def test_faults(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="unknown protocol 'refcoco'; choose one of: mevis, ref-davis"):
            evaluate_referring([], tmp_path, "refcoco")
        predict_expressions(tmp_path, [TWO["1"], TWO["2"]])
        (tmp_path / "v" / "0" / "00003.png").unlink()
        write_png(tmp_path / "v" / "1" / "00000.png", np.zeros((W, H)))
        with pytest.raises(DataErrors) as raised:
            evaluate_referring([referring(TWO, ["1", "2"])], tmp_path, "mevis")
        assert [p.reason.split(",")[0] for p in raised.value.problems] == [
            "this prediction is missing",
            "prediction of 31x22",
        ]

    def test_command(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "d", [referring(TWO, ["1", "1", "2", "2"])], "t")
        predict_expressions(tmp_path / "r", [TWO["1"], TWO["1"], TWO["2"], [NOTHING] * T])
        how = ["evaluate", "referring", "--dataset", tmp_path / "d", "--quiet"]
        ended = cli(*how, "--results", tmp_path / "r", "--protocol", "ref-davis", "--csv", tmp_path / "s.csv")
        assert ended.status == 0 and "J 81.25" in ended.out and "annotator 1: J 62.50" in ended.out, ended.err
        rows = list(csv.DictReader((tmp_path / "s.csv").open()))
        assert [row["annotator"] for row in rows] == ["0", "1", "0", "1"] and float(rows[3]["j"]) == 0.25
        assert cli(*how, "--results", tmp_path / "r", "--official").status == 2
        predict(tmp_path / "maps" / "anno_0", {1: TWO["1"], 2: TWO["2"]})
        predict(tmp_path / "maps" / "anno_1", {1: TWO["1"]})
        ended = cli(
            *how,
            "--results",
            tmp_path / "maps",
            "--protocol",
            "ref-davis",
            "--json",
            tmp_path / "s.json",
            "--csv",
            tmp_path / "s.csv",
            "--official",
        )
        assert ended.status == 0 and "J 81.25" in ended.out and "anno_1" in ended.out, ended.err
        assert json.loads((tmp_path / "s.json").read_text())["J"] == 0.8125
        assert len((tmp_path / "s.csv").read_text().splitlines()) == 5


def pointed() -> Video:
    """Object 1: two positives (one off it), one negative, one ambiguous; object 2: a trace; object 3: ambiguous alone."""
    points = Points([0, 1, 1, 2], [(3, 2), (30, 1), (20, 20), (3, 2)], [POSITIVE, POSITIVE, NEGATIVE, AMBIGUOUS])
    video = make(
        TWO | {"3": walk(1, 20)},
        points={"1": points, "2": Points([3], [(1, 1)], [POSITIVE]), "3": Points([3], [(1, 1)], [AMBIGUOUS])},
    )
    return replace(
        video, objects=tuple(replace(o, source="trace/x") if o.object_id == "2" else o for o in video.objects)
    )


class TestPoints:
    def test_known_numbers(self, tmp_path: Path) -> None:
        run = predict(tmp_path, {1: TWO["1"], 2: TWO["2"]})
        for t in (2, 3):  # frames without a point that counts need not be there
            (tmp_path / "v" / f"{3 * t:05d}.png").unlink()
        score = evaluate_points([pointed()], run)
        (item,) = score.objects
        assert (item.positives, item.positives_inside, item.negatives, item.negatives_outside) == (2, 1, 1, 1)
        assert item.frames == 2 and item.name == "kind 1" and item.agreement == pytest.approx(2 / 3)
        made = score.compute()
        assert (made["positives-inside"], made["negatives-outside"]) == (0.5, 1.0)
        assert made["agreement"] == made["object-agreement"] == pytest.approx(2 / 3)

    def test_pooled_and_per_object(self) -> None:
        score, other = PointScore(), PointScore()
        score.add("v", "a", Points([0, 0, 1], [(0, 0)] * 3, [POSITIVE] * 3), {0: np.ones((4, 6)), 1: None})
        other.add_batch([("v", "b", Points([1], [(5, 3)], [NEGATIVE]), [None, encode(np.ones((4, 6)))])])
        score.merge(other)
        made = score.compute()
        assert made["agreement"] == 0.5 and made["object-agreement"] == pytest.approx(1 / 3)
        with pytest.raises(ValueError, match="was added to both"):
            score.merge(other)
        with pytest.raises(ValueError, match="was added before"):
            score.add("v", "a", Points.none(), {})
        with pytest.raises(ValueError, match=r"point \(6, 3\) is outside the frame of 6x4"):
            score.add("v", "c", Points([0], [(6, 3)], [POSITIVE]), np.ones((1, 4, 6)))

    def test_nothing(self, tmp_path: Path) -> None:
        assert all(np.isnan(v) for v in PointScore().compute().values())
        with pytest.raises(DataError, match="no verified point"):
            evaluate_points([make(TWO)], predict(tmp_path, {}))

    def test_command(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "d", [pointed()], "t")
        predict(tmp_path / "r", {1: TWO["1"]})
        how = ["evaluate", "points", "--dataset", tmp_path / "d", "--results", tmp_path / "r", "--quiet"]
        ended = cli(*how, "--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv")
        assert ended.status == 0 and "positives-inside 50.00" in ended.out and "(3 points of 1 objects)" in ended.out
        assert json.loads((tmp_path / "s.json").read_text())["objects"][0]["positives_inside"] == 1
        assert (tmp_path / "s.csv").read_text().startswith("video,object_id,name,frames,positives,")
        (tmp_path / "r" / "v" / "00000.png").unlink()
        ended = cli(*how)
        assert ended.status == 1 and "00000.png: this prediction is missing" in ended.err
        assert "positives-inside 0.00" in cli(*how, "--missing", "empty").out

    def test_frames(self) -> None:
        score = PointScore()
        points = Points([2, 0, 2], [(0, 0), (5, 3), (1, 1)], [NEGATIVE, POSITIVE, POSITIVE])
        score.add("v", "a", points, np.ones((3, 4, 6)), frame_names=("00000", "00005", "00010"))
        score.add("v", "b", points, np.ones((3, 4, 6)))
        first, second = score.objects
        assert first.frame_names == ("00000", "00010") and first.frame_agreement == (1.0, 0.5)
        assert second.frame_names == ("0", "2") and second.frame_agreement == first.frame_agreement

    def test_processes_and_notes(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        videos = [replace(pointed(), video_id=name) for name in ("u", "v", "w")]
        write_dataset(tmp_path / "d", videos, "t")
        for name in "uvw":
            predict(tmp_path / "r", {1: TWO["1"]} if name == "v" else {2: TWO["2"]}, name)
        how = ["evaluate", "points", "--dataset", tmp_path / "d", "--results", tmp_path / "r", "--quiet"]
        told = []
        for processes in (1, 2):
            ended = cli(*how, "--processes", processes, "--json", tmp_path / "s.json")
            assert ended.status == 0 and ended.err == "", ended.err
            told.append((ended.out, (tmp_path / "s.json").read_text()))
        assert told[0] == told[1] and "(9 points of 3 objects)" in told[0][0]
        (tmp_path / "r" / "u" / "strange.png").write_bytes(b"")
        (tmp_path / "r" / "nobody").mkdir()
        ended = cli(*how)
        assert ended.status == 0 and ended.err.count("vng: note: ") == 2
        assert "strange.png: no frame of the video has this name" in ended.err and "nobody" in ended.err
        assert cli(*how, "--strict").status == 1

    def test_report(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "d", [pointed()], "t")
        predict(tmp_path / "good", {1: TWO["1"]})
        predict(tmp_path / "bad", {2: TWO["1"]})
        ended = cli(
            "evaluate",
            "points",
            "--dataset",
            tmp_path / "d",
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
        assert ended.status == 0 and ended.out.splitlines()[-1] == str(tmp_path / "p" / "index.html"), ended.err
        tested = json.loads((tmp_path / "s.json").read_text())["against"]["measures"]
        assert tested["agreement"]["results"] == pytest.approx(2 / 3)
        assert tested["positives-inside"] | {"low": 0, "high": 0, "p": 0} == {
            "results": 0.5,
            "against": 0.0,
            "difference": 0.5,
            "low": 0,
            "high": 0,
            "p": 0,
        }
        page = (tmp_path / "p" / "index.html").read_text()
        assert_stands_alone(page)
        found = tables(page)["cases"]
        names = [column["name"] for column in found["columns"]]
        assert names[:3] == ["object", "agreement", "agreement of bad"] and names[-2:] == ["positives", "negatives"]
        assert {"positives inside", "negatives outside", "agreement over time"} < set(names) and "J&F" not in page
        assert found["rows"][0][0] == "1 (kind 1)" and found["rows"][0][-1]["lines"] == [[100, 50], [0, 50]]
        assert page.count("data:image/webp") == 2 * 4  # two frames with points, four pictures each


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
            with pytest.raises(DataError, match="not a readable file of location questions"):
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
