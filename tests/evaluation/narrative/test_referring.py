"""Referring expressions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.walking_objects import NOTHING, TWO, Frames, H, T, W, make, predict, walk, write_png
from tests.helpers import Cli
from vng.dataset import Video
from vng.dataset_writer import write_dataset
from vng.errors import DataErrors, UsageError
from vng.evaluation.metrics import boundary_f, jaccard
from vng.evaluation.narrative.referring import annotator_runs, evaluate_referring
from vng.evaluation.vos.scores import Protocol, evaluate_vos
from vng.narratives import Expression, Narrative


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
