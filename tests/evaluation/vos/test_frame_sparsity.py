"""Scores beside the number of annotated frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.vos.moving_discs import TWO, H, W, disc, make, predict, save
from tests.helpers import Cli
from vng.dataset import Video
from vng.dataset_writer import write_dataset
from vng.errors import UsageError
from vng.evaluation.vos.frame_sparsity import study_frame_sparsity
from vng.evaluation.vos.scores import Protocol, Run, evaluate_vos


class TestFrameSparsity:
    @pytest.fixture
    def study(self, tmp_path: Path) -> tuple[list[Video], list[Run]]:
        videos = [make("a", TWO), make("b", {"1": TWO["2"]}), make("c", {"9": TWO["1"]})]
        runs = []
        for shift in (3, 0, 1, 5):
            for video in videos:
                predict(video, tmp_path / f"shift{shift}", shift)
            runs.append(Run(tmp_path / f"shift{shift}"))
        return videos, runs

    def test_sparse_and_dense(self, study: tuple[list[Video], list[Run]]) -> None:
        videos, runs = study
        found = study_frame_sparsity(videos, runs, (2, 4))
        scores = evaluate_vos(videos, runs, Protocol())
        assert found.dense == pytest.approx([s.summary().jf for s in scores])
        assert found.methods == ("shift3", "shift0", "shift1", "shift5")
        two, four = found.agreements
        assert four.scores == pytest.approx(found.dense) and four.error == pytest.approx(0, abs=1e-12)
        ends = [np.mean([(s.j[0] + s.j[3] + s.f[0] + s.f[3]) / 4 for s in score.objects]) for score in scores]
        assert two.scores == pytest.approx(ends) and two.scores != pytest.approx(found.dense)
        assert (four.spearman, four.kendall, four.swapped, four.widest) == pytest.approx((1, 1, 0, 0))
        assert study_frame_sparsity(videos, runs, (2,), seed=3) == study_frame_sparsity(videos, runs, (2,), seed=3)

    def test_orders_that_turn(self, tmp_path: Path) -> None:
        """Three methods; on the middle frame the order is turned round between two of them."""
        masks = [disc(8, 8, 6)] * 5
        video = make("v", {"1": masks})
        for name, wrong in (("good", {2}), ("fair", {1, 3}), ("bad", {1, 2, 3})):
            predict(video, tmp_path / name)
            for t in wrong:
                save(np.zeros((H, W)), tmp_path / name / "v" / f"{5 * t:05d}.png")
        found = study_frame_sparsity([video], [Run(tmp_path / n) for n in ("good", "fair", "bad")], (1,)).agreements[0]
        assert found.scores == (0.0, 1.0, 0.0) and found.swapped == 1 and found.widest == pytest.approx(1 / 3)
        from scipy.stats import kendalltau, spearmanr

        dense = [2 / 3, 1 / 3, 0]
        assert found.spearman == pytest.approx(spearmanr(dense, found.scores).statistic)
        assert found.kendall == pytest.approx(kendalltau(dense, found.scores).statistic)

    def test_methods_that_score_the_same_have_no_order(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        video = make("v", TWO)
        write_dataset(tmp_path / "d", [video], "t")
        for name in ("a", "b"):
            predict(video, tmp_path / name)
        ended = cli(
            "evaluate",
            "frame-sparsity",
            "--dataset",
            tmp_path / "d",
            "--results",
            tmp_path / "a",
            tmp_path / "b",
            "--json",
            tmp_path / "s.json",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        row = json.loads((tmp_path / "s.json").read_text())["frames"]["3"]
        assert row["spearman"] is row["kendall"] is row["low"] is None and row["scores"] == {"a": 1.0, "b": 1.0}

    def test_one_method_is_a_wrong_call(self, study: tuple[list[Video], list[Run]], tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="two or more"):
            study_frame_sparsity(study[0], study[1][:1])

    def test_command(self, study: tuple[list[Video], list[Run]], tmp_path: Path, cli: Callable[..., Cli]) -> None:
        videos, runs = study
        write_dataset(tmp_path / "d", videos, "t")
        folders = [run.folder for run in runs]
        ended = cli(
            "evaluate",
            "frame-sparsity",
            "--dataset",
            tmp_path / "d",
            "--results",
            *folders,
            "--frame-counts",
            3,
            1,
            "--html",
            tmp_path / "page",
            "--quiet",
        )
        assert ended.status == 0 and "4 methods" in ended.out and "shift5" in ended.out, ended.err
        page = (tmp_path / "page" / "index.html").read_text()
        assert "data:image/png;base64," in page and "3 frames" in page and "shift5" in page
        with Image.open(tmp_path / "page" / "frame-sparsity.png") as plot:
            assert plot.width > plot.height
        assert cli("evaluate", "frame-sparsity", "--dataset", tmp_path / "d", "--results", folders[0]).status == 2
