"""Scores of narrative grounding, and predictions that are missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from conversion.formats.official_vng import TrioFiles
from tests.helpers import Cli, H, T, W, make_video
from vng.dataset_writer import write_dataset
from vng.evaluation.narrative.scores import evaluate_narrative, other_object
from vng.grounding.result import write_mask_pngs
from vng.masks import empty


def write_predictions(root: Path, shift: int = 0) -> None:
    """Perfect predictions of `make_video`, moved right by `shift` pixels; unannotated frames get nothing."""
    for name, seed in (("one", 0), ("two words", 1)):
        video = make_video(name, seed)
        for index, expression in enumerate(video.expressions):
            from vng.masks import decode, encode

            rles = video.object_by_id[expression.object_id].segmentations
            moved = [empty(H, W) if r is None else encode(np.roll(decode(r), shift, 1)) for r in rles]
            write_mask_pngs(moved, video.frame_names, root / name / str(index))


class TestNarrativeProtocol:
    def test_perfect_and_shifted(self, tmp_path: Path) -> None:
        videos = [make_video("one"), make_video("two words", 1)]
        write_predictions(tmp_path / "r")
        assert evaluate_narrative(videos, tmp_path / "r").jf == 1.0
        write_predictions(tmp_path / "s", 3)
        scores = evaluate_narrative(videos, tmp_path / "s")
        # boxes of 9 columns shifted by 3 overlap in 6 of 12; the empty truth in the last frame scores 1
        assert scores.expressions[0].j == pytest.approx(0.5) and scores.expressions[1].j == pytest.approx(0.75)
        assert [s.frames for s in scores.expressions] == [3, 2, 3, 2]
        assert scores.j == pytest.approx(0.625)

    def test_control_against_others(self, tmp_path: Path) -> None:
        write_predictions(tmp_path)
        scores = evaluate_narrative([make_video("one")], tmp_path, truth_of=other_object)
        assert scores.expressions[0].object_id == "4850600790259722026" and scores.j < 0.3

    @pytest.mark.parametrize(("pattern", "first"), [("{}.png", 0), ("img_{:07d}.png", 1), ("{:05d}.png", 1)])
    def test_official_numbering(self, tmp_path: Path, pattern: str, first: int) -> None:
        write_predictions(tmp_path)
        for folder in tmp_path.glob("*/*"):
            for t in range(T):
                (folder / f"{t:06d}.png").rename(folder / pattern.format(t + first))
        assert evaluate_narrative([make_video("one")], tmp_path).jf == 1.0

    def test_every_fault_is_said_at_once(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "d", [make_video("one"), make_video("two words", 1)], "t")
        write_predictions(tmp_path / "r")
        r = tmp_path / "r"
        (r / "one" / "0" / "000000.png").unlink()
        (r / "one" / "1" / "000002.png").write_bytes(b"x")
        cv2.imwrite(str(r / "two words" / "0" / "000001.png"), np.zeros((H, W + 1), np.uint8))
        cv2.imwrite(str(r / "two words" / "1" / "000000.png"), np.zeros((H, W, 3), np.uint8))
        ended = cli("evaluate", "vng", "--dataset", tmp_path / "d", "--results", r, "--quiet")
        assert ended.status == 1
        lines = ended.err.strip().splitlines()
        assert len(lines) == 4 and all(line.startswith("vng: ") for line in lines)
        for line, words in zip(lines, ("missing", "cannot be read", "20x31", "got colours (mode RGB)"), strict=True):
            assert words in line and ".png" in line

    def test_missing_as_empty(self, tmp_path: Path) -> None:
        write_predictions(tmp_path)
        (tmp_path / "one" / "0" / "000001.png").unlink()
        scores = evaluate_narrative([make_video("one")], tmp_path, missing="empty")
        assert scores.expressions[0].j == pytest.approx(2 / 3)

    def test_command_on_dataset_and_on_trio(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        from conversion.formats.official_export import write_trio

        videos = [make_video("one"), make_video("two words", 1)]
        write_dataset(tmp_path / "d", videos, "t")
        files: TrioFiles = write_trio([videos[0]], tmp_path / "trio")
        write_predictions(tmp_path / "r", 3)
        ended = cli(
            "evaluate",
            "vng",
            "--dataset",
            tmp_path / "d",
            "--results",
            tmp_path / "r",
            "--json",
            tmp_path / "s.json",
            "--quiet",
        )
        assert ended.status == 0 and "(4 expressions)" in ended.out
        scores = json.loads((tmp_path / "s.json").read_text())
        assert scores["J"] == pytest.approx(0.625) and scores["J&F"] == pytest.approx((scores["J"] + scores["F"]) / 2)
        ended = cli(
            "evaluate",
            "vng",
            "--meta",
            files.meta,
            "--extra-masks",
            files.extra_masks,
            "--orig-masks",
            files.orig_masks,
            "--results",
            tmp_path / "r",
            "--quiet",
        )
        assert ended.status == 0 and "J 62.50" in ended.out
        assert cli("evaluate", "vng", "--results", tmp_path / "r").status == 2
        assert cli("evaluate", "vng", "--dataset", tmp_path / "d", "--results", tmp_path / "none").status == 1
