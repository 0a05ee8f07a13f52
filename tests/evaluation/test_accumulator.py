"""Scores of masks in memory: the commands' numbers, whatever the form, the order and the number of processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.narrative.test_referring import predict_expressions, referring
from tests.evaluation.walking_objects import NOTHING, TWO, Frames, H, T, W, make, predict, walk
from tests.helpers import box
from vng.evaluation.narrative.accumulator import NarrativeScore
from vng.evaluation.narrative.referring import evaluate_referring
from vng.evaluation.vos.accumulator import VosScore
from vng.evaluation.vos.scores import Protocol, evaluate_vos
from vng.evaluation.vos.tables import summary_figures
from vng.masks import encode
from vng.points import POSITIVE, Points

SHOWN: dict[str, Frames] = {"1": walk(1, 4), "2": walk(10, 15)}
PREDICTED = {i: np.stack(masks) for i, masks in SHOWN.items()}  # type: ignore[arg-type]


class TestVos:
    @pytest.mark.parametrize("name", ["davis", "davis-2016", "davis-unsupervised", "youtube-vos", "point-vos"])
    def test_the_command_s_numbers(self, name: str, tmp_path: Path) -> None:
        points = {i: Points([0], [(1, 1)], [POSITIVE]) for i in TWO}
        run = predict(tmp_path, {int(i): masks for i, masks in SHOWN.items()})
        of_files = evaluate_vos([make(TWO, points=points)], [run], Protocol(name))[0]
        score = VosScore(name)
        score.add("v", TWO, PREDICTED, points=points)
        assert score.compute() == summary_figures(of_files.summary()) and 0.3 < score.compute()["J&F"] < 0.9
        assert [s.j for s in score.scores().objects] == [s.j for s in of_files.objects]

    def test_arrays_and_rles_are_one(self) -> None:
        made = []
        for form in (lambda m: m, encode):
            score = VosScore("youtube-vos")
            truth = [None if m is None else form(m) for m in [*TWO["1"][:3], None]]
            score.add("v", truth, [form(m) for m in SHOWN["1"]])
            score.add("w", np.stack(TWO["2"]), PREDICTED["2"])  # type: ignore[arg-type]
            made.append(score.compute())
        assert made[0] == made[1] and len(score.scores().objects[0].frames) == 2

    def test_official_faults(self) -> None:
        score, right = VosScore("davis-unsupervised", official=True), VosScore("davis-unsupervised")
        for item in (score, right):
            item.add("v", {"1": TWO["1"], "3": TWO["2"]}, {"x": TWO["2"], "y": TWO["1"]})
        assert len(score.scores().objects) == 3 and len(right.scores().objects) == 2
        assert right.compute()["J&F"] == 1.0

    def test_void(self) -> None:
        void = np.zeros((T, H, W), bool)
        void[:, 9:] = True
        score, other = VosScore("davis-unsupervised"), VosScore("davis-unsupervised")
        score.add("v", TWO["2"], SHOWN["2"], void=void)
        other.add("v", TWO["2"], SHOWN["2"])
        assert score.compute()["J"] == 1.0 > other.compute()["J"]

    def test_seen_categories(self) -> None:
        score = VosScore("youtube-vos", seen={"dog"})
        score.add("v", TWO, {"1": TWO["1"], "2": SHOWN["2"]}, categories={"1": "dog", "2": "cat"})
        made = score.compute()
        assert made["J-seen"] == 1.0 > made["J-unseen"]
        assert made["G"] == np.mean([made[k] for k in ("J-seen", "F-seen", "J-unseen", "F-unseen")])

    def test_order_and_processes_do_not_matter(self) -> None:
        whole, first, second = VosScore(), VosScore(), VosScore()
        videos = [(f"v{i}", {"1": walk(i, 2)}, {"1": walk(i, 2 + i)}) for i in range(5)]
        whole.add_batch(videos)
        first.add_batch(videos[:1:-1])
        second.add_batch(videos[:2])
        first.merge(pickle.loads(pickle.dumps(second)))
        assert first.compute() == whole.compute() == whole.compute()
        with pytest.raises(ValueError, match="'v0' was added to both"):
            whole.merge(second)
        with pytest.raises(ValueError, match="different rules"):
            whole.merge(VosScore("davis-2016"))

    def test_what_is_missing(self) -> None:
        with pytest.raises(ValueError, match="video 'v': no prediction of object '2' in frame 1"):
            VosScore().add("v", TWO, {"1": SHOWN["1"]})
        with pytest.raises(ValueError, match="no prediction of object '1' in frame 1"):
            VosScore().add("v", TWO["1"], [SHOWN["1"][0], None, *SHOWN["1"][2:]])
        score = VosScore(missing="empty")
        score.add("v", TWO, {"1": TWO["1"]})
        assert [s.j for s in score.scores().objects] == [(1.0, 1.0), (0.0, 1.0)]

    @pytest.mark.parametrize(
        ("truth", "prediction", "words"),
        [
            (TWO["1"], SHOWN["1"][:3], "3 masks of '1' for 4 frames"),
            ([box(0, 0, 3, 3), *TWO["1"][1:]], SHOWN["1"], "expected one of each"),
            (TWO | {"3": TWO["1"][:3]}, SHOWN, "expected one of each"),
            ([None] * 4, SHOWN["1"], "expected one of each"),
            (TWO["1"], np.zeros((T, W, H)), "one size"),
            (np.zeros((T, 2, H, W)), SHOWN["1"], r"got a frame of shape \[2, 22, 31\]"),
        ],
    )
    def test_wrong_shapes(self, truth: Any, prediction: Any, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            VosScore().add("v", truth, prediction)

    def test_nothing_and_twice(self) -> None:
        score = VosScore()
        assert np.isnan(score.compute()["J&F"])
        score.add("v", TWO, SHOWN)
        with pytest.raises(ValueError, match="video 'v' was added before"):
            score.add("v", TWO, SHOWN)


class TestNarrative:
    NULLS: Frames = [None, *TWO["2"][1:]]  # noqa: RUF012

    @pytest.mark.parametrize("protocol", ["vng", "ref-youtube-vos", "ref-davis", "mevis"])
    def test_the_command_s_numbers(self, protocol: str, tmp_path: Path) -> None:
        truth, shown = {"1": TWO["1"], "2": self.NULLS}, [SHOWN["1"], SHOWN["2"], TWO["2"]]
        predict_expressions(tmp_path, shown)
        of_files = evaluate_referring([referring(truth, ["1", "2", "2"])], tmp_path, protocol)
        score = NarrativeScore(protocol)
        for number in (2, 0, 1):
            object_id = ["1", "2", "2"][number]
            score.add("v", number, truth[object_id], shown[number], object_id=object_id)
        assert score.compute() == {"J&F": of_files.jf, "J": of_files.j, "F": of_files.f}
        assert [s.j_frames for s in score.scores().expressions] == [s.j_frames for s in of_files.expressions]

    def test_order_and_processes_do_not_matter(self) -> None:
        rows = [(f"v{i % 2}", i, walk(1, 2), walk(1, 2 + i)) for i in range(5)]
        whole, first, second = NarrativeScore(), NarrativeScore(), NarrativeScore()
        whole.add_batch(rows)
        first.add_batch(rows[3:])
        second.add_batch(rows[:3])
        first.merge(second)
        assert first.compute() == whole.compute() == whole.compute()
        with pytest.raises(ValueError, match=r"\('v0', 0\) was added to both"):
            whole.merge(second)
        with pytest.raises(ValueError, match="different rules"):
            whole.merge(NarrativeScore("mevis"))

    def test_wrong_calls(self) -> None:
        score = NarrativeScore()
        assert np.isnan(score.compute()["J"])
        score.add("v", 0, [None] * T, [None] * T)  # nothing is known: it does not count
        assert np.isnan(score.compute()["J"])
        with pytest.raises(ValueError, match="4 true and 3 predicted masks"):
            score.add("v", 1, TWO["1"], TWO["1"][:3])
        with pytest.raises(ValueError, match="no prediction of expression 1 in frame 2"):
            score.add("v", 1, TWO["1"], [NOTHING, NOTHING, None, NOTHING])
        score.add("v", 1, TWO["1"], TWO["1"])
        with pytest.raises(ValueError, match="expression 1 of video 'v' was added before"):
            score.add("v", 1, TWO["1"], TWO["1"])


def test_the_package_gives_them_without_loading_them() -> None:
    code = (
        "import sys, vng; assert not {'numpy', 'torch'} & set(sys.modules);"
        "from vng import InstanceScore, NarrativeScore, PointScore, TraceScore, VosScore;"
        "assert 'torch' not in sys.modules; print(VosScore().compute()['J&F'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout == "nan\n", ended.stderr
