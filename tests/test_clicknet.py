"""ClickNet, its evidence, its training task and the embedded segmenter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import Cli
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError
from vng.models.clicknet import evidence
from vng.models.clicknet.configuration_clicknet import ClickNetConfig
from vng.models.clicknet.modeling_clicknet import ClickNet, Clicks, Rivals
from vng.models.clicknet.processing_clicknet import pad, to_clicks
from vng.points import PointPrompts
from vng.segmenters.embedded import SHIPPED, EmbeddedSegmenter, EmbeddedSettings, View
from vng.training.clicks.prompts import Wish, piece_of, region_of, scatter, simulate_prompt, simulate_trace
from vng.training.clicks.recipe import ClickDataSettings
from vng.training.clicks.scenes import ObjectScene, beside, moved, recoloured
from vng.training.clicks.task import ClickSampler, collate, outline_of

TINY = {
    "widths": [4, 6, 8, 8, 8],
    "depths": [0, 1, 0, 0, 1],
    "pyramid_dim": 6,
    "head_widths": [4, 5, 6, 7],
    "refine_dim": 6,
}
NO_POINTS = np.empty((0, 2))


def tiny_model(seed: int = 0) -> ClickNet:
    torch.manual_seed(seed)
    return ClickNet(ClickNetConfig(**TINY, embedding_heads=2, embedding_dim=3, basis_dim=2)).eval()


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

    def test_the_mirror_image_of_an_image_is_the_same_scene(self, rng: np.random.Generator) -> None:
        model, image = tiny_model(), picture(rng)
        with torch.inference_mode():
            one, other = model.encode(image, mirrored=True), model.encode(image.flip(-1), mirrored=True)
        assert torch.allclose(one.outline, other.outline.flip(-1), atol=1e-5)
        around, back = one.basis[..., :9, :], other.basis[..., :9, :].flip(2)
        back = back.unflatten(4, (4, 4)).flip(5).flatten(4).unflatten(3, (3, 3)).flip(4).flatten(3, 4)
        assert torch.allclose(around, back, atol=1e-5) and torch.allclose(around.sum(3), torch.ones(()), atol=1e-5)

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


class TestSimulation:
    def test_scattered_clicks_keep_their_distance(self, rng: np.random.Generator) -> None:
        mask = np.zeros((40, 70), bool)
        mask[10:30, 20:60] = True
        xy = scatter(mask, 6, 5, rng)
        apart = np.linalg.norm(xy[:, None] - xy[None], axis=-1) + 99 * np.eye(len(xy))
        assert xy.shape == (6, 2) and apart.min() >= 5 and mask[xy[:, 1].astype(int), xy[:, 0].astype(int)].all()
        assert scatter(np.zeros((4, 5), bool), 3, 1, rng).shape == (0, 2)

    def test_prompts(self, rng: np.random.Generator) -> None:
        mask = np.zeros((40, 70), bool)
        mask[10:30, 5:25] = True
        other = mask[:, ::-1]
        prompt = simulate_prompt(mask, [other], Wish(3, 2, True, False), 4, rng)
        assert len(prompt.positive) == 3 and len(prompt.negative) == 5 and not prompt.trace
        on_other = other[prompt.negative[:, 1].astype(int), prompt.negative[:, 0].astype(int)]
        assert on_other.sum() >= 3
        assert simulate_prompt(mask, [other], Wish(3, 2, True, True), 4, rng).trace

    def test_traces_stray_by_about_a_quarter(self, rng: np.random.Generator) -> None:
        mask = np.zeros((120, 160), bool)
        mask[30:90, 40:110] = True
        inside = []
        for _ in range(60):
            xy = simulate_trace(mask, rng)
            inside.append(mask[np.rint(xy[:, 1]).astype(int), np.rint(xy[:, 0]).astype(int)].mean())
        assert 0.65 < np.mean(inside) < 0.9

    def test_pieces_and_regions(self, rng: np.random.Generator) -> None:
        image = np.full((60, 80, 3), 90, np.uint8)
        image[10:50, 20:40], image[10:50, 40:60] = (220, 30, 30), (30, 30, 220)
        mask = np.zeros((60, 80), bool)
        mask[10:50, 20:60] = True
        pieces = [piece_of(mask, image, rng) for _ in range(20)]
        assert all((piece <= mask).all() for piece in pieces)
        assert any(abs(piece[:, :40].sum() - 800) < 90 and not piece[:, 42:].any() for piece in pieces)
        assert not (region_of(image, mask, rng) & mask).any()

    def test_scenes(self, rng: np.random.Generator) -> None:
        image = rng.integers(0, 255, (50, 90, 3), dtype=np.uint8)
        mask = np.zeros((50, 90), bool)
        mask[15:35, 30:60] = True
        settings = ClickDataSettings.model_validate({"path": "x", "size": (64, 96)})
        for _ in range(10):
            scene = moved(ObjectScene(image, [mask]), settings, rng)
            assert scene.image.shape == (64, 96, 3) and scene.masks[0].sum() > 40
        crowded = [beside(scene, scene, rng) for _ in range(20)]
        assert max(len(s.masks) for s in crowded) == 2
        assert all(np.sum(s.masks, 0).max() == 1 for s in crowded)  # visible masks never overlap
        assert recoloured(image, rng).dtype == np.uint8 and not np.array_equal(recoloured(image, rng), image)

    def test_outlines(self) -> None:
        mask = np.zeros((8, 9), bool)
        mask[2:6, 3:7] = True
        outline = outline_of([mask])
        assert outline[2, 3] and outline[1, 3] and not outline[4, 5] and not outline[0, 0]


class TestTraining:
    def sampler(self, path: Path, **changes: object) -> ClickSampler:
        settings = ClickDataSettings.model_validate({"path": path, "size": (32, 64), "prompts": 3, **changes})
        return ClickSampler([VngDataset(path)], settings, 5, 40)

    def test_a_sample_depends_on_seed_and_index_alone(self, dataset: Path) -> None:
        first, second = self.sampler(dataset), self.sampler(dataset)
        for index in (7, 3, 7):
            a, b = first[index], second[index]
            assert np.array_equal(a.image, b.image) and np.array_equal(a.masks, b.masks)
            assert np.array_equal(a.prompts[0].positive, b.prompts[0].positive)
        assert len({first[i].image.sum() for i in range(12)}) > 3

    def test_batches(self, dataset: Path) -> None:
        sampler = self.sampler(dataset)
        batch = collate([sampler[0], sampler[1]])
        assert batch["pixel_values"].shape == (2, 3, 32, 64) and batch["targets"].shape == (2, 3, 32, 64)
        assert batch["positive"].shape[:2] == batch["trace"].shape == (2, 3) and batch["positive_valid"].any(-1).all()
        assert batch["outlines"].any()

    def test_nothing_to_train_on(self, tmp_path: Path) -> None:
        from dataclasses import replace

        from tests.helpers import make_video

        write_dataset(tmp_path / "d", [replace(make_video("v"), expressions=(), objects=())], "t")
        with pytest.raises(DataError, match="no video of this dataset has a mask"):
            self.sampler(tmp_path / "d")

    def test_wrong_settings(self, cli: Callable[..., Cli], tmp_path: Path) -> None:
        ended = cli("train", "embedded", "data.size=[30, 64]", "data.weigh=shares", f"out={tmp_path}")
        assert ended.status == 2 and "data.weigh: input should be" in ended.err
        ended = cli("train", "embedded", "model.sizes.depth=3", f"out={tmp_path}")
        assert ended.status == 2 and "unknown sizes ['depth']" in ended.err

    def train(self, cli: Callable[..., Cli], dataset: Path, out: Path, *more: str) -> Cli:
        sizes = json.dumps(TINY | {"embedding_heads": 1, "embedding_dim": 3, "basis_dim": 2})
        few = ["data.size=[32, 64]", "data.prompts=2", f"model.sizes={sizes}", "save_every=2"]
        steps = ["optimizer.steps=6", "optimizer.batch_size=2", "log_every=1", f"data.path={dataset}", f"out={out}"]
        return cli("train", "embedded", *few, *steps, "--quiet", *more)

    def test_trains_resumes_and_segments(self, cli: Callable[..., Cli], dataset: Path, tmp_path: Path) -> None:
        whole, halved = tmp_path / "whole", tmp_path / "halved"
        assert self.train(cli, dataset, whole).status == 0
        import vng.training.loop as loop

        saved, count = loop._save_checkpoint, []

        def stop(*arguments: object) -> None:
            saved(*arguments)  # type: ignore[arg-type]
            count.append(1)
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "_save_checkpoint", stop)
            assert self.train(cli, dataset, halved).status == 130 and count == [1]
        assert self.train(cli, dataset, halved).status == 0
        assert (whole / "model.safetensors").read_bytes() == (halved / "model.safetensors").read_bytes()
        segment = EmbeddedSegmenter(str(whole))
        probabilities = segment(np.zeros((20, 30, 3), np.uint8), [PointPrompts(points((4, 5)), NO_POINTS)])
        assert probabilities.shape == (1, 20, 30) and 0 <= probabilities.min() <= probabilities.max() <= 1
        more = self.train(cli, dataset, tmp_path / "more", f"model.init={whole}")
        assert more.status == 0

    def test_another_seed_is_refused(self, cli: Callable[..., Cli], dataset: Path, tmp_path: Path) -> None:
        assert self.train(cli, dataset, tmp_path / "r").status == 0
        ended = self.train(cli, dataset, tmp_path / "r", "seed=3")
        assert ended.status == 1 and "seed" in ended.err


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


class TestEmbedded:
    def prompts(self) -> list[PointPrompts]:
        spots = [(5, 5), (20, 9), (33, 14), (12, 30), (40, 28)]
        return [PointPrompts(points(spot), points((48, 2))) for spot in spots]

    def test_shipped_weights_are_small_and_whole(self) -> None:
        assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 12e6
        card = (SHIPPED / "README.md").read_text()
        assert "license: apache-2.0" in card and "@" not in card  # nothing left to fill in
        assert sum(p.numel() for p in EmbeddedSegmenter().model.parameters()) > 1e6

    def test_an_image_is_looked_at_once_for_all_objects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        segmenter, looks = EmbeddedSegmenter(), []
        look = ClickNet._look
        monkeypatch.setattr(ClickNet, "_look", lambda self, pixels: looks.append(1) or look(self, pixels))
        image = np.zeros((240, 432, 3), np.uint8)
        segmenter(image, self.prompts()[:1])
        once = len(looks)
        segmenter(image, self.prompts())
        assert len(looks) == 2 * once == 6

    def test_same_again(self, rng: np.random.Generator) -> None:
        image = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        first, second = (EmbeddedSegmenter()(image, self.prompts()) for _ in range(2))
        assert np.array_equal(first, second)

    def test_half_a_file_is_computed_in_full(self) -> None:
        assert next(EmbeddedSegmenter().model.parameters()).dtype == torch.float32

    def test_others_is_a_switch_and_traces_ignore_it(self, rng: np.random.Generator) -> None:
        image = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        heeding, alone = EmbeddedSegmenter(), EmbeddedSegmenter(settings=EmbeddedSettings("never"))
        assert not np.allclose(heeding(image, self.prompts()), alone(image, self.prompts()), atol=1e-3)
        traces = [PointPrompts(p.positive, NO_POINTS, trace=True) for p in self.prompts()]
        assert np.allclose(heeding(image, traces), alone(image, traces), atol=1e-5)

    def test_objects_without_positives_stay_empty(self, rng: np.random.Generator) -> None:
        image = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        prompts = [PointPrompts(NO_POINTS, points((3, 3))), *self.prompts()[:2]]
        found = EmbeddedSegmenter()(image, prompts)
        assert not found[0].any() and found[1:].any((1, 2)).all()

    def test_many_objects_and_points_outside(self) -> None:
        prompts = [PointPrompts(points((-3, 400), (i, i)), points((900, -2))) for i in range(30)]
        assert EmbeddedSegmenter()(np.zeros((33, 47, 3), np.uint8), prompts).shape == (30, 33, 47)


class TestView:
    @pytest.mark.parametrize("size", [(480, 854), (240, 432), (60, 90), (9, 12), (1, 1), (37, 1000)])
    def test_there_and_back(self, size: tuple[int, int]) -> None:
        view = View.of(*size)
        seen = view.apply(np.zeros((*size, 3), np.uint8))
        assert seen.shape[2] % 32 == seen.shape[3] % 32 == 0 and view.rows * view.columns < 1.1 * 240 * 432
        back = np.empty(size, np.float32)
        view.restore(np.ones(seen.shape[2:], np.float32), back)
        assert np.allclose(back, 1)

    def test_points_move_with_the_pixels(self) -> None:
        moved_points = View.of(480, 864).move(PointPrompts(points((0, 0), (863, 479)), points((100.5, 3))))
        assert np.allclose(moved_points.positive, [(-0.25, -0.25), (431.25, 239.25)])
        assert np.allclose(moved_points.negative, [(50, 1.25)])


def test_the_wrong_kind_of_clicks_cannot_be_made() -> None:
    clicks = to_clicks([])
    assert isinstance(clicks, Clicks) and clicks.positive.shape == (0, 0, 2)
