"""Scores: equal to the published metrics, and honest about predictions that are not there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from conversion.formats.official_vng import TrioFiles
from tests.helpers import Cli, H, T, W, box, make_video
from vng.dataset_writer import write_dataset
from vng.evaluation.metrics import boundary_f, jaccard, statistics, tolerance
from vng.evaluation.narrative.scores import evaluate_narrative, other_object
from vng.grounding.result import write_mask_pngs
from vng.masks import empty

FULL, NONE, LEFT = (
    np.broadcast_to(m, (1, 4, 6)) for m in (np.ones((4, 6), bool), np.zeros((4, 6), bool), box(0, 0, 4, 3, 4, 6))
)


@pytest.mark.parametrize(
    ("gt", "pred", "j", "f"),
    [
        (FULL, FULL, 1.0, 1.0),
        (NONE, NONE, 1.0, 1.0),
        (FULL, NONE, 0.0, 1.0),  # neither has a boundary: the official program's decision
        (NONE, LEFT, 0.0, 0.0),
        (FULL, LEFT, 0.5, 0.0),
        (LEFT, LEFT, 1.0, 1.0),
    ],
)
def test_known_numbers(gt: np.ndarray, pred: np.ndarray, j: float, f: float) -> None:
    assert jaccard(gt, pred).tolist() == [j] and boundary_f(gt, pred).tolist() == [f]


def test_shapes_and_empty_input() -> None:
    nothing = np.zeros((0, 4, 6), bool)
    assert jaccard(nothing, nothing).shape == boundary_f(nothing, nothing).shape == (0,)
    assert jaccard(np.ones((3, 4, 6)), np.ones((3, 4, 6))).dtype == np.float64
    for bad in (np.ones((3, 6, 4)), np.ones((4, 6))):
        with pytest.raises(ValueError, match="must all be"):
            jaccard(np.ones((3, 4, 6)), bad)


def test_void_is_left_out() -> None:
    void = np.broadcast_to(box(0, 3, 4, 6, 4, 6), (1, 4, 6))
    assert jaccard(FULL, LEFT, void).tolist() == [1.0]


def brute_force_f(gt: np.ndarray, pred: np.ndarray, radius: int) -> float:
    """The measure by its definition, one pixel at a time."""

    def edge(mask: np.ndarray) -> np.ndarray:
        height, width = mask.shape
        at = lambda y, x: mask[min(y, height - 1), min(x, width - 1)]  # noqa: E731
        out = np.zeros_like(mask)
        for y in range(height):
            for x in range(width):
                ends = (y == height - 1, x == width - 1)
                neighbours = [at(y, x + 1), at(y + 1, x)] + ([at(y + 1, x + 1)] if not any(ends) else [])
                out[y, x] = any(n != mask[y, x] for n in neighbours) and not all(ends)
        return out

    a, b = np.argwhere(edge(gt)), np.argwhere(edge(pred))
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    distance = ((a[:, None] - b[None]) ** 2).sum(-1)
    precision, recall = (distance.min(0) <= radius**2).mean(), (distance.min(1) <= radius**2).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(60))
def test_boundary_f_is_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 26, 2)

    def blob() -> np.ndarray:
        small = rng.random((height // 4 + 1, width // 4 + 1))
        return cv2.resize(small, (int(width), int(height)))[None] > rng.choice([0.2, 0.5, 0.8, 0.95])

    gt, pred, radius = blob(), blob(), int(rng.integers(1, 4))
    assert boundary_f(gt, pred, bound_th=radius)[0] == pytest.approx(brute_force_f(gt[0], pred[0], radius), abs=1e-12)


def test_statistics() -> None:
    ramp = statistics(np.linspace(1, 0, 300))
    assert ramp.mean == pytest.approx(0.5) and ramp.recall == 0.5 and ramp.decay == pytest.approx(0.75, abs=0.01)
    assert np.isnan(statistics(np.linspace(1, 0, 300), official=True).decay)  # uint8 in the official program
    assert statistics(np.array([1.0, np.nan, 0.0])).recall == pytest.approx(1 / 3)
    assert np.isnan(statistics(np.array([])).mean)
    assert (tolerance(480, 854), tolerance(60, 80), tolerance(60, 80, 4)) == (8, 1, 4)


class TestGoldens:
    def test_all_edge_cases(self, shared: Path) -> None:
        golden = json.loads((shared / "goldens" / "metrics" / "goldens_edge.json").read_text())

        def paint(recipe: dict) -> np.ndarray:
            mask = np.zeros(recipe["size"])
            for y0, x0, y1, x1, value in recipe["rects"]:
                mask[y0:y1, x0:x1] = value
            return mask[None]

        assert len(golden["cases"]) == 134
        for name, case in golden["cases"].items():
            gt, pred = paint(case["gt"]), paint(case["pred"])
            void = paint(case["void"]) if case["void"] else None
            assert jaccard(gt, pred, void)[0] == pytest.approx(case["J"], abs=1e-12), name
            assert boundary_f(gt, pred, void)[0] == pytest.approx(case["F"], abs=1e-12), name
        for size, pixels in golden["bound_pix"].items():
            assert tolerance(*map(int, size.split("x"))) == pixels
        for case in golden["db_statistics"].values():
            got = statistics(np.array(case["x"], float), official=True)
            np.testing.assert_allclose([got.mean, got.recall, got.decay], np.array(case["MRD"], float), atol=1e-12)

    def test_twenty_videos(self, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = shared / "goldens" / "metrics"
        monkeypatch.syspath_prepend(str(folder))
        import gen_synth

        golden = json.loads((folder / "goldens_synth.json").read_text())["per_frame"]
        for index in range(20):
            gt, pred = gen_synth.make_video(20240, index, 40, 3, 480, 854)
            for label in (1, 2, 3):
                expected = golden[f"synth{index:02d}"][str(label)]
                np.testing.assert_allclose(jaccard(gt == label, pred == label), expected["J"], atol=1e-9, rtol=0)
                np.testing.assert_allclose(boundary_f(gt == label, pred == label), expected["F"], atol=1e-9, rtol=0)
        sys.modules.pop("gen_synth")


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
        from conversion.formats.official_vng import write_trio

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
