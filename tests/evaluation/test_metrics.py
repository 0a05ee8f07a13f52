"""J and F: known numbers, their definitions, and the official program's values."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers import box
from vng.evaluation.metrics import boundary_f, jaccard, statistics, tolerance

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
