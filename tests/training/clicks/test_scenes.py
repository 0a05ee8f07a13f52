"""Training samples of the click segmenter: simulated prompts, scenes and batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import Cli
from tests.models.clicknet.test_modeling_clicknet import NO_POINTS, TINY, TINY_BACKBONE, points
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError
from vng.points import PointPrompts
from vng.segmenters.embedded import EmbeddedSegmenter
from vng.training.clicks import task
from vng.training.clicks.prompts import Wish, piece_of, region_of, scatter, simulate_prompt, simulate_trace
from vng.training.clicks.recipe import ClickDataSettings
from vng.training.clicks.scenes import ObjectScene, beside, moved, recoloured
from vng.training.clicks.task import ClickSampler, collate, outline_of


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

    def test_draws_are_bounded(self, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sampler = self.sampler(dataset)
        monkeypatch.setattr(task, "MOST_DRAWS", 0)  # the frame is then drawn from those with an object
        assert task._read(sampler.datasets[0][0], np.random.default_rng(0)).masks
        monkeypatch.setattr(task, "MOST_DRAWS", 3)
        monkeypatch.setattr(sampler, "_scene", lambda *_: ObjectScene(np.zeros((32, 64, 3), np.uint8), []))
        with pytest.raises(DataError, match="dataset: segmentations: no object stays visible in 3 draws"):
            sampler[0]

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
        ended = cli("train", "embedded", "model.sizes.backbone=x", f"out={tmp_path}")
        assert ended.status == 2 and "sizes.backbone: write model.backbone" in ended.err

    def train(self, cli: Callable[..., Cli], dataset: Path, out: Path, *more: str) -> Cli:
        sizes = json.dumps(TINY | {"embedding_heads": 1, "embedding_dim": 3, "basis_dim": 2})
        model = [f"model.backbone={json.dumps(TINY_BACKBONE)}", f"model.sizes={sizes}"]
        few = ["data.size=[32, 64]", "data.prompts=2", *model, "save_every=2"]
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
