"""Figures beside the official score: same nouns, swaps, presence."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers import Cli, box
from vng.dataset import Video, VideoObject
from vng.dataset_writer import write_dataset
from vng.evaluation.narrative.analysis import NarrativeAnalysis, analyse_narrative, noun_word, rivals
from vng.evaluation.narrative.scores import evaluate_narrative
from vng.frames import ArrayFrames
from vng.masks import encode
from vng.narratives import Expression, Narrative

H, W, T = 20, 30, 4
NOTHING = np.zeros((H, W), bool)
LEFT, RIGHT, LOW = box(2, 2, 9, 10), box(2, 18, 9, 28), box(13, 11, 19, 17)
TEXT = "A green Parrot meets the other parrot over a ball; the parrot leaves <b>&."
WORDS = [(8, 14, "a"), (31, 37, "b"), (45, 49, "c"), (55, 61, "a")]  # the last one: the first parrot again
MASKS: dict[str, list[np.ndarray | None]] = {
    "a": [LEFT, LEFT, LEFT, LEFT],
    "b": [RIGHT, RIGHT, NOTHING, None],
    "c": [LOW, NOTHING, NOTHING, LOW],
}


def make(name: str = "v", frames: bool = False) -> Video:
    objects = tuple(
        VideoObject(i, "", "orig_masks", tuple(None if mask is None else encode(mask) for mask in masks))
        for i, masks in MASKS.items()
    )
    expressions = tuple(Expression(0, start, end, i) for start, end, i in WORDS)
    pixels = ArrayFrames(np.full((T, H, W, 3), 90, np.uint8)) if frames else None
    names = tuple(f"{t:06d}" for t in range(T))
    return Video(
        video_id=name,
        dataset="hand-made",
        split="test",
        height=H,
        width=W,
        fps=0.0,
        frame_names=names,
        narratives=(Narrative("P", TEXT),),
        expressions=expressions,
        objects=objects,
        frames=pixels,
    )


def predict(folder: Path, masks: Sequence[Sequence[np.ndarray]], name: str = "v") -> None:
    """Masks of each expression on each frame."""
    for index, row in enumerate(masks):
        for t, mask in enumerate(row):
            path = folder / name / str(index) / f"{t:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), mask.astype(np.uint8) * 255)


def analysed(folder: Path, video: Video | None = None) -> NarrativeAnalysis:
    videos = [video or make()]
    return analyse_narrative(videos, folder, evaluate_narrative(videos, folder))


@pytest.mark.parametrize(
    ("noun", "word"),
    [("Parrot", "parrot"), ("green  parrot", "parrot"), ("T-shirt", "t-shirt"), ("parrot.", "parrot"), ("!?", "!?")],
)
def test_noun_word(noun: str, word: str) -> None:
    assert noun_word(noun) == word


def test_rivals_are_other_objects_of_the_same_word() -> None:
    assert [rivals(make(), index) for index in range(4)] == [["b"], ["a"], [], ["b"]]


class TestSwaps:
    def test_none_where_all_is_right(self, tmp_path: Path) -> None:
        predict(tmp_path, [[LEFT] * 4, [RIGHT, RIGHT, NOTHING, LOW], [LOW, NOTHING, NOTHING, LOW], [LEFT] * 4])
        found = analysed(tmp_path)
        assert [d.swapped for d in found.details] == [False, False, None, False]
        assert [d.rivals for d in found.details] == [1, 1, 0, 1]

    def test_the_other_parrot(self, tmp_path: Path) -> None:
        predict(tmp_path, [[RIGHT] * 4, [LEFT] * 4, [LEFT] * 4, [LEFT | RIGHT] * 4])
        found = analysed(tmp_path)
        assert [d.swapped for d in found.details] == [True, True, None, False]
        assert [d.swapped_to for d in found.details] == ["b", "a", "", ""]  # the union: 168 pixels of a, 140 of b
        swap = found.as_json()["swap"]
        assert (swap["expressions"], swap["swapped"], swap["rate"]["value"]) == (3, 2, pytest.approx(2 / 3))

    def test_frames_count_on_which_both_are_annotated(self, tmp_path: Path) -> None:
        """On the first three frames expression 0 lies on b, on the last one, where b is not annotated, on a."""
        predict(tmp_path, [[RIGHT, RIGHT, NOTHING, LEFT], [NOTHING] * 4, [LOW] * 4, [LEFT] * 4])
        found = analysed(tmp_path)
        assert found.details[0].swapped is True
        assert found.details[1].swapped is False  # nothing overlaps nothing

    def test_a_tie_is_no_swap(self, tmp_path: Path) -> None:
        predict(tmp_path, [[LOW] * 4] * 4)
        assert [d.swapped for d in analysed(tmp_path).details] == [False, False, None, False]


def test_presence(tmp_path: Path) -> None:
    predict(tmp_path, [[LEFT, LEFT, NOTHING, RIGHT], [LEFT, NOTHING, LOW, LOW], [LOW, LOW, NOTHING, LOW], [LEFT] * 4])
    found = analysed(tmp_path)
    counted = [(d.hits, d.misses, d.hallucinated, d.silent) for d in found.details]
    assert counted == [(3, 1, 0, 0), (1, 1, 1, 0), (2, 0, 1, 1), (4, 0, 0, 0)]
    presence = found.as_json()["presence"]
    assert (presence["present_frames"], presence["absent_frames"]) == (12, 3)
    values = [presence[name]["value"] for name in ("precision", "recall", "F1", "hallucination_rate")]
    assert values == pytest.approx([10 / 12, 10 / 12, 10 / 12, 2 / 3])


def test_same_noun_subset(tmp_path: Path) -> None:
    predict(tmp_path, [[LEFT] * 4, [RIGHT, RIGHT, NOTHING, LOW], [NOTHING] * 4, [RIGHT] * 4])
    found = analysed(tmp_path).as_json()
    assert found["same_noun"]["expressions"] == 3
    assert found["same_noun"]["J"] == pytest.approx(2 / 3) and found["same_noun"]["J&F"]["value"] == pytest.approx(
        2 / 3
    )
    assert found["same_noun"]["other J&F"]["value"] == pytest.approx(0.5)  # the ball: right where it is absent
    assert found["intervals"]["J&F"] == [pytest.approx(5 / 8)] * 2  # one video: nothing to draw from


def test_no_absent_frame_and_no_rival_are_not_known(tmp_path: Path) -> None:
    video = make()
    alone = Video(
        video_id="v",
        dataset="hand-made",
        split="test",
        height=H,
        width=W,
        fps=0.0,
        frame_names=video.frame_names,
        narratives=video.narratives,
        expressions=video.expressions[:1],
        objects=video.objects[:1],
    )
    predict(tmp_path, [[LEFT] * 4])
    found = analysed(tmp_path, alone)
    told = found.as_json()
    assert told["swap"]["rate"]["value"] is None and told["presence"]["hallucination_rate"]["value"] is None
    assert told["same_noun"]["J"] is None and "swap rate                 -" in found.table()


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        write_dataset(tmp_path / "d", [make("v", True), make("w x", True)], "t")
        good = [[LEFT] * 4, [RIGHT, RIGHT, NOTHING, LOW], [LOW, NOTHING, NOTHING, LOW], [LEFT] * 4]
        for name in ("v", "w x"):
            predict(tmp_path / "good", good, name)
            predict(tmp_path / "swapped", [[RIGHT] * 4, [LEFT] * 4, *good[2:]], name)
        return tmp_path

    def test_beside_the_official_line(self, data: Path, cli: Callable[..., Cli]) -> None:
        ended = cli(
            "evaluate",
            "vng",
            "--dataset",
            data / "d",
            "--results",
            data / "swapped",
            "--json",
            data / "s.json",
            "--csv",
            data / "s.csv",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        lines = ended.out.splitlines()
        assert lines[0].startswith("J&F ") and lines[0].endswith("(8 expressions)")
        assert [line.split()[:3] for line in lines if "swap rate" in line] == [["swap", "rate", "66.67"]]
        told = json.loads((data / "s.json").read_text())
        assert told.keys() >= {"J&F", "J", "F", "expressions", "intervals", "same_noun", "swap", "presence", "details"}
        rows = list(csv.DictReader(io.StringIO((data / "s.csv").read_text())))
        assert len(rows) == 8 and [row["swapped"] for row in rows].count("True") == 4
        scores = [float(row["J&F"]) for row in rows]
        assert scores == sorted(scores) and rows[0]["swapped_to"] == "b"

    def test_against(self, data: Path, cli: Callable[..., Cli]) -> None:
        ended = cli(
            "evaluate",
            "vng",
            "--dataset",
            data / "d",
            "--results",
            data / "good",
            "--against",
            data / "swapped",
            "--json",
            data / "s.json",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        told = json.loads((data / "s.json").read_text())["against"]
        assert (told["results"], told["against"]) == ("good", "swapped")
        swaps = told["measures"]["swap rate"]
        assert (swaps["results"], swaps["against"], swaps["difference"]) == pytest.approx((0, 2 / 3, -2 / 3))
        assert told["measures"]["J&F"]["difference"] > 0.3 and "diff." in ended.out

    @pytest.mark.parametrize("more", [("--html", "page"), ("--against", "good"), ("--csv", "s.csv")])
    def test_the_control_is_one_figure(self, data: Path, cli: Callable[..., Cli], more: Sequence[str]) -> None:
        ended = cli("evaluate", "vng", "--dataset", data / "d", "--results", data / "good", "--against-others", *more)
        assert ended.status == 2 and f"leave out {more[0]}" in ended.err
        plain = cli(
            "evaluate", "vng", "--dataset", data / "d", "--results", data / "good", "--against-others", "--quiet"
        )
        assert plain.status == 0 and len(plain.out.splitlines()) == 1
