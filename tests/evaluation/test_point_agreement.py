"""Agreement of masks with annotated points."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.walking_objects import TWO, make, predict, walk
from tests.helpers import Cli, assert_stands_alone, tables
from vng.dataset import Video
from vng.dataset_writer import write_dataset
from vng.errors import DataError
from vng.evaluation.point_agreement import PointScore, evaluate_points
from vng.masks import encode
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points


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
