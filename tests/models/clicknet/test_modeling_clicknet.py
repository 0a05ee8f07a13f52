"""ClickNet: its evidence, shapes, gradients and checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vng.errors import DataError
from vng.models.clicknet import evidence
from vng.models.clicknet.configuration_clicknet import STAGES, ClickNetConfig
from vng.models.clicknet.modeling_clicknet import ClickNet, Rivals
from vng.models.clicknet.processing_clicknet import pad, to_clicks
from vng.points import PointPrompts
from vng.segmenters.embedded import EmbeddedSegmenter

TINY_BACKBONE = {
    "model_type": "efficientnet-lite",
    "embedding_size": 4,
    "hidden_sizes": [4, 6, 8, 8, 8, 8],
    "depths": [1, 1, 1, 1, 1, 1],
    "expansion": 2,
    "out_features": STAGES,
}
TINY = {
    "pyramid_dim": 6,
    "head_widths": [4, 5, 6, 7],
    "refine_dim": 6,
}
NO_POINTS = np.empty((0, 2))


def tiny_model(seed: int = 0) -> ClickNet:
    torch.manual_seed(seed)
    return ClickNet(ClickNetConfig(TINY_BACKBONE, **TINY, embedding_heads=2, embedding_dim=3, basis_dim=2)).eval()


def points(*xy: tuple[float, float]) -> np.ndarray:
    return np.array(xy, np.float32).reshape(-1, 2)


def picture(rng: np.random.Generator, height: int = 64, width: int = 96) -> torch.Tensor:
    coarse = torch.from_numpy(rng.integers(0, 255, (1, 3, height // 8, width // 8), dtype=np.uint8))
    return coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)


class TestEvidence:
    def test_nearest(self) -> None:
        xy, valid = pad([points((1.5, 1.5), (13.5, 1.5)), points()])
        found = evidence.nearest(xy, valid, 3, 5)
        assert found.shape == (2, 3, 5) and (found[1] == evidence.FAR).all()
        assert found[0, 0].tolist() == [0, 4, 8, 4 * 1.0, 0.0 + 4] or found[0, 0, 0] == 0
        assert found[0, 2, 0] == 8 and found[0, 0, 3] == 0

    def test_no_points_at_all(self) -> None:
        xy, valid = pad([points(), points()])
        assert (evidence.nearest(xy, valid, 2, 3) == evidence.FAR).all()
        assert not evidence.density(xy, valid, 2, 3).any()

    def test_hull_is_negative_within(self) -> None:
        found = evidence.hull(points((2, 2), (30, 2), (30, 22), (2, 22)), 8, 11)
        assert found.shape == (8, 11) and found[3, 4] < 0 < found[7, 10]
        assert (evidence.hull(points(), 8, 11) == evidence.FAR).all()

    def test_ways_go_round_walls(self) -> None:
        lab = np.zeros((1, 7, 9, 3), np.float32)
        lab[0, :6, 4, 0] = 100  # a wall with a gap in the last row
        seeds = np.zeros((2, 7, 9), bool)
        seeds[0, 0, 0] = seeds[1, 0, 8] = True
        ways = evidence.Ground.of_colours(lab).ways(seeds)
        assert ways.shape == (2, 7, 9) and ways[0, 0, 3] == 3 * evidence.CELL
        straight, around = 8 * evidence.CELL + 400, evidence.CELL * (8 * 2**0.5 + 4)
        assert ways[0, 0, 8] == pytest.approx(min(straight, around)) and ways[1, 0, 8] == 0
        assert np.allclose(ways[1], ways[0][:, ::-1])

    def test_outlines_are_obstacles(self) -> None:
        outline = np.zeros((2, 5, 6), np.float32)
        outline[1, :, 3] = 1
        seeds = np.zeros((2, 5, 6), bool)
        seeds[:, 2, 0] = True
        free, walled = evidence.Ground.of_outlines(outline).ways(seeds)
        assert free[2, 5] == 5 * evidence.CELL and walled[2, 2] == free[2, 2] and walled[2, 5] > 5 * free[2, 5]


class TestModel:
    def test_shapes_and_loss(self, rng: np.random.Generator) -> None:
        model = tiny_model().train()
        clicks = to_clicks([PointPrompts(points((9, 9), (20, 30)), points((50, 5))), PointPrompts(points((3, 4)), [])])
        two = [x.unflatten(0, (1, 2)) for x in vars(clicks).values()]
        targets = torch.zeros(1, 2, 64, 96, dtype=torch.bool)
        targets[:, :, 5:20, 5:30] = True
        output = model(picture(rng), *two, targets=targets, outlines=targets[:, 0])
        assert output.logits.shape == (1, 2, 64, 96) and set(output.loss_terms) == {
            "mask",
            "jaccard",
            "vote",
            "outline",
        }
        output.loss.backward()
        untrained = [name for name, p in model.named_parameters() if p.grad is None]
        assert untrained == []
        assert model(picture(rng), *two).loss is None

    def test_objects_do_not_see_each_other_unless_told(self, rng: np.random.Generator) -> None:
        model, image = tiny_model(), picture(rng)
        prompts = [PointPrompts(points((9, 9)), points((50, 5))), PointPrompts(points((70, 40), (60, 44)), NO_POINTS)]
        with torch.inference_mode():
            scene = model.encode(image)
            alone = [model.decode(scene, to_clicks([p]))[0][0] for p in prompts]
            together, _ = model.decode(scene, to_clicks(prompts))
            rivals, _ = model.decode(scene, to_clicks(prompts), others=True)
        assert together.shape == (2, 64, 96)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(alone, together, strict=True))
        assert not torch.allclose(together[1], rivals[1], atol=1e-4)

    def test_rivals(self) -> None:
        on, off = torch.tensor([[1.0], [2.0], [3.0]]), torch.full((3, 1), 9.0)
        heeding = Rivals(torch.tensor([True, True, False]))
        assert heeding.nearer(off, on).flatten().tolist() == [2, 1, 9]

    def test_other_objects_as_points_or_as_rivals(self, rng: np.random.Generator) -> None:
        model, image = tiny_model(), picture(rng)
        first, second = points((9, 9), (12, 20)), points((70, 40), (60, 44))
        told = [PointPrompts(first, second), PointPrompts(second, first)]
        with torch.inference_mode():
            scene = model.encode(image)
            as_points, _ = model.decode(scene, to_clicks(told))
            as_rivals, _ = model.decode(
                scene, to_clicks([PointPrompts(first, NO_POINTS), PointPrompts(second, NO_POINTS)]), others=True
            )
        assert torch.allclose(as_points, as_rivals, atol=1e-4)

    def test_folding_changes_nothing(self, rng: np.random.Generator) -> None:
        model, image = tiny_model().train(), picture(rng)
        clicks = to_clicks([PointPrompts(points((9, 9)), points((50, 5)))])
        model.decode(model.encode(image), clicks)  # statistics that are not the initial ones
        with torch.inference_mode():
            before, _ = model.eval().decode(model.encode(image), clicks)
            folded = model.fused()
            after, _ = folded.decode(folded.encode(image), clicks)
        assert torch.allclose(before, after, atol=1e-3)

    def test_a_trace_is_thinned_and_its_strays_are_not_believed(self) -> None:
        path = np.concatenate([np.tile([[20.0, 20.0]], (60, 1)), np.tile([[90.0, 90.0]], (12, 1))])
        clicks = to_clicks([PointPrompts(path, NO_POINTS, trace=True), PointPrompts(points((1, 1)), NO_POINTS)])
        assert clicks.valid[0].sum() <= 36 and clicks.trace.tolist() == [True, False]
        core = clicks.positive[0][clicks.core[0]]
        assert (core == 20).all() and clicks.core[1].sum() == 1


class TestLoading:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        tiny_model().save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    def test_misfits_are_named(self, folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        del weights["head.out.bias"]
        weights["head.extra"] = torch.zeros(2)
        weights["outline.bias"] = torch.zeros(7)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(DataError) as error:
            EmbeddedSegmenter(str(folder))
        for words in ("1 missing: head.out.bias", "1 unknown: head.extra", r"outline.bias [7] instead of [1]"):
            assert words in str(error.value)

    def test_what_is_no_checkpoint(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no trained model here"):
            EmbeddedSegmenter(str(tmp_path))
        (folder / "model.safetensors").write_bytes(b"torn")
        with pytest.raises(DataError, match="no model loads from here"):
            EmbeddedSegmenter(str(folder))

    def test_pickles_are_not_opened(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        torch.save({"head.out.bias": torch.zeros(1)}, folder / "pytorch_model.bin")
        with pytest.raises(DataError, match="no model loads from here"):
            EmbeddedSegmenter(str(folder))
