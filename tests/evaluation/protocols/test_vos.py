"""`vng evaluate vos` and its kin from a shell."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.vos.moving_discs import TWO, make, predict
from tests.helpers import Cli
from vng.dataset_writer import write_dataset


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        videos = [make("walk", TWO, {"1": "cat", "2": "tapir"}), make("run", {"3": TWO["1"]}, {"3": "cat"})]
        write_dataset(tmp_path / "d", videos, "t")
        for video in videos:
            predict(video, tmp_path / "r", 2)
            for n in (1, 10):
                predict(video, tmp_path / "runs" / f"points-{n}" / "seed-0", 3 if n == 1 else 1)
        return tmp_path

    def test_davis(self, data: Path, cli: Callable[..., Cli]) -> None:
        ended = cli(
            "evaluate",
            "vos",
            "--dataset",
            data / "d",
            "--results",
            data / "r",
            "--json",
            data / "s.json",
            "--csv",
            data / "s.csv",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        scores = json.loads((data / "s.json").read_text())
        assert scores["protocol"] == "davis" and scores["official"] is False
        run = scores["runs"][0]
        assert [(o["video"], o["object_id"], len(o["frames"])) for o in run["objects"]] == [
            ("walk", "1", 4),
            ("walk", "2", 4),
            ("run", "3", 4),
        ]
        assert scores["J&F"] == run["J&F"] == pytest.approx(np.mean([o["J&F"] for o in run["objects"]]))
        rows = list(csv.DictReader((data / "s.csv").open()))
        assert [float(row["J"]) for row in rows] == [o["J"] for o in run["objects"]]
        lines = ended.out.splitlines()
        assert lines[0] == "davis: 2 sequences, 3 objects, 12 masks scored"
        assert lines[2].split()[:3] == ["all", "3", f"{100 * scores['J&F']:.2f}"]
        assert lines[3].split()[:3] == ["walk", "2", f"{100 * run['sequences']['walk']['J&F']:.2f}"]

    def test_youtube_vos(self, data: Path, cli: Callable[..., Cli]) -> None:
        call = (
            "evaluate",
            "vos",
            "--dataset",
            data / "d",
            "--results",
            data / "r",
            "--protocol",
            "youtube-vos",
            "--quiet",
        )
        unknown = cli(*call, "--json", data / "s.json")
        assert unknown.status == 0 and "G is not known: --seen" in unknown.out
        assert "G" not in json.loads((data / "s.json").read_text())
        (data / "seen").write_text("cat\n")
        ended = cli(*call, "--seen", data / "seen", "--json", data / "s.json")
        scores = json.loads((data / "s.json").read_text())
        assert ended.status == 0 and f"G {100 * scores['G']:.2f}" in ended.out
        run = scores["runs"][0]
        assert scores["G"] == pytest.approx((run["seen"]["J&F"] + run["unseen"]["J&F"]) / 2)
        assert run["seen"]["objects"] == 2 and [o["seen"] for o in run["objects"]] == [True, False, True]

    def test_categories_must_be_there_for_g(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        video = make("v", TWO, {"1": "cat"})
        write_dataset(tmp_path / "d", [video], "t")
        predict(video, tmp_path / "r")
        (tmp_path / "seen").write_text("cat")
        ended = cli(
            "evaluate",
            "vos",
            "--dataset",
            tmp_path / "d",
            "--results",
            tmp_path / "r",
            "--protocol",
            "youtube-vos",
            "--seen",
            tmp_path / "seen",
            "--quiet",
        )
        assert ended.status == 1 and "v: 2: objects.name: 1 objects have no category" in ended.err

    def test_point_vos(self, data: Path, cli: Callable[..., Cli]) -> None:
        ended = cli(
            "evaluate",
            "vos",
            "--dataset",
            data / "d",
            "--results",
            data / "runs",
            "--protocol",
            "point-vos",
            "--json",
            data / "s.json",
            "--quiet",
        )
        scores = json.loads((data / "s.json").read_text())
        assert ended.status == 0 and scores["points"].keys() == {"1", "10"} and scores["mean"] is None
        assert scores["points"]["10"]["spread"] is None and len(scores["runs"]) == 2
        assert scores["points"]["1"]["mean"] < scores["points"]["10"]["mean"]
        assert "(no runs with 2, 5 points)" in ended.out and "10 points, seed 0" in ended.out
        (data / "seen").write_text("cat\n")
        ended = cli(
            "evaluate",
            "vos",
            "--dataset",
            data / "d",
            "--results",
            data / "runs",
            "--protocol",
            "point-vos",
            "--seen",
            data / "seen",
            "--json",
            data / "s.json",
            "--quiet",
        )
        with_g = json.loads((data / "s.json").read_text())
        assert ended.status == 0 and with_g["measure"] == "G" and scores["measure"] == "J&F"
        assert with_g["points"]["1"]["seeds"] == [with_g["runs"][0]["G"]]
        assert len(with_g["runs"][0]["objects"][0]["frames"]) == 5  # the last frame too

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (("--protocol", "youtube-vos", "--official"), "--official requires"),
            (("--truth", "dense"), "--truth requires protocol point-vos"),
            (("--seen", "x"), "--seen requires"),
            (("--meta", "x"), "--meta requires --archive"),
            (("--archive", "x.zip", "--protocol", "point-vos"), "--archive requires"),
            (("--archive", "x.zip", "--meta", "x"), "--meta requires --protocol youtube-vos"),
            (("--archive", "x.zip", "--json", "x"), "--archive does not score"),
            (("--protocol", "davis-2018"), "invalid choice"),
        ],
    )
    def test_wrong_calls(self, data: Path, cli: Callable[..., Cli], more: Sequence[str], words: str) -> None:
        ended = cli("evaluate", "vos", "--dataset", data / "d", "--results", data / "r", *more)
        assert ended.status == 2 and words in ended.err

    def test_from_a_shell(self, data: Path) -> None:
        call = [sys.executable, "-m", "vng.cli", "evaluate", "vos", "--dataset", str(data / "d"), "--results"]
        good = subprocess.run([*call, str(data / "r")], capture_output=True, text=True, timeout=120)
        assert good.returncode == 0 and "walk" in good.stdout, good.stderr
        (data / "r" / "run" / "00010.png").unlink()
        bad = subprocess.run([*call, str(data / "r"), "--quiet"], capture_output=True, text=True, timeout=120)
        assert bad.returncode == 1 and "00010.png: this prediction is missing" in bad.stderr and not bad.stdout

    def test_no_such_folder(self, data: Path, cli: Callable[..., Cli]) -> None:
        ended = cli("evaluate", "vos", "--dataset", data / "d", "--results", data / "none")
        assert ended.status == 1 and "no such folder of predictions" in ended.err
