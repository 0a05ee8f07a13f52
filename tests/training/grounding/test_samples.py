"""Training clips of the grounder as a sampler gives and a collator pads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import H, W, make_video
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError
from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer
from vng.training.grounding.clips import ClipSampler, Collator, sample_frames
from vng.training.grounding.recipe import DataSettings


class TestClips:
    def sampler(self, dataset: Path, **settings: object) -> ClipSampler:
        tokenizer = train_tokenizer(["A red ball meets the other ball."], 280, 64)
        processor = ReferFormerProcessor(tokenizer, short_side=0)
        chosen = DataSettings(path=dataset, **{"frames": 2, **settings})  # type: ignore[arg-type]
        return ClipSampler([VngDataset(dataset)], chosen, processor, 5, 40)

    def test_a_sample_depends_on_seed_and_index_alone(self, dataset: Path) -> None:
        first, second = self.sampler(dataset), self.sampler(dataset)
        for index in (7, 3, 7):
            a, b = first[index], second[index]
            assert torch.equal(a.pixels, b.pixels) and a.narrative == b.narrative
            assert np.array_equal(a.truth.masks, b.truth.masks)
        assert len({first[i].pixels.sum().item() for i in range(12)}) > 3

    def test_all_expressions_of_a_narrative(self, dataset: Path) -> None:
        clip = self.sampler(dataset, flip=0)[0]
        assert [clip.narrative[a:b] for a, b in clip.spans] == ["ball", "ball"]
        assert clip.truth.masks.shape == (2, 2, H, W)
        assert clip.truth.known[0].all()

    def test_flip_mirrors_pixels_and_masks(self, dataset: Path) -> None:
        plain, mirrored = (self.sampler(dataset, flip=f)[4] for f in (0, 1))
        assert torch.equal(plain.pixels.flip(-1), mirrored.pixels)
        assert np.array_equal(plain.truth.masks[..., ::-1], mirrored.truth.masks)

    def test_batches_are_padded(self, dataset: Path) -> None:
        sampler = self.sampler(dataset)
        batch = Collator(sampler.processor)([sampler[0], sampler[1]])
        assert batch["pixel_values"].shape == (2, 2, 3, 32, 32) and batch["target_masks"].shape == (2, 2, 2, 32, 32)
        assert batch["pixel_mask"].sum() == 2 * 2 * H * W and batch["noun_tokens"].any(-1).all()

    def test_min_agreement_leaves_objects_out(self, dataset: Path) -> None:
        clip = self.sampler(dataset, min_agreement=0.9)[0]  # the first object has 0.75
        assert len(clip.spans) == 1

    def test_nothing_to_train_on(self, tmp_path: Path) -> None:
        write_dataset(tmp_path / "d", [replace(make_video("v"), expressions=())], "t")
        with pytest.raises(DataError, match="no video of this dataset has an expression"):
            self.sampler(tmp_path / "d")

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
    def test_frames_of_a_clip(self, count: int, rng: np.random.Generator) -> None:
        candidates = np.array([2, 3, 5, 8, 9, 11])
        for _ in range(20):
            chosen = sample_frames(candidates, count, 3, rng)
            assert len(chosen) == count and set(chosen) <= set(candidates) and (np.diff(chosen) >= 0).all()
