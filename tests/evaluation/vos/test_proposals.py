"""Proposals without names: the unsupervised protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.walking_objects import NOTHING, TWO, H, T, W, make, predict, walk, write_png
from tests.helpers import Cli, box
from vng.dataset import Video
from vng.dataset_writer import write_dataset
from vng.errors import DataError, DataErrors, UsageError
from vng.evaluation.vos.proposals import ProposalScores
from vng.evaluation.vos.scores import Protocol, Run, VosScores, evaluate_vos


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
