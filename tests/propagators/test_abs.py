"""ABS: its parts, its start from a Point-STCN, its training, and the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vng.errors import UsageError
from vng.frames import ArrayFrames
from vng.models.abs.configuration_abs import AbsConfig
from vng.models.abs.modeling_abs import Abs, AbsFeatures, positions, spoilt
from vng.models.abs.processing_abs import flow_map
from vng.models.stcn.configuration_stcn import StcnConfig
from vng.models.stcn.modeling_stcn import Stcn
from vng.points import PointPrompts
from vng.propagators import FramePrompts
from vng.propagators.abs import AbsPropagator
from vng.propagators.stcn import StcnSettings
from vng.training.abs.recipe import AbsModelSettings, AbsRecipe
from vng.training.abs.task import TrainedAbs, attention_loss, collate_with_flow
from vng.training.stcn.clips import VosClip
from vng.training.tasks import recipe_of

KEY = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 12, 16],
    "depths": [1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage1", "stage2", "stage3"],
}
VALUE = {**KEY, "num_channels": 5, "hidden_sizes": [8, 12], "depths": [1, 1], "out_features": ["stage2"]}
SIZES: dict[str, Any] = {
    "key_backbone": KEY,
    "value_backbone": VALUE,
    "key_dim": 8,
    "value_dim": 12,
    "thin_dim": 8,
    "decoder_dims": [12, 8],
    "key_level": -2,
    "point_radius": 2.0,
    "points_by": "model",
    "takes_points": True,
    "reads_reference": True,
}


def tiny(seed: int = 0, **changed: Any) -> Abs:
    torch.manual_seed(seed)
    return Abs(AbsConfig(**{**SIZES, "dim": 16, "heads": 2, "memory_frames": 2, **changed})).eval()


def saved(folder: Path, **changed: Any) -> str:
    tiny(**changed).save_pretrained(folder)
    return str(folder)


def video(count: int = 6) -> ArrayFrames:
    frames = np.random.default_rng(0).integers(0, 60, (count, 48, 80, 3)).astype(np.uint8)
    for t in range(count):
        frames[t, 10:30, 10 + 3 * t : 30 + 3 * t] = (200, 90, 40)
    return ArrayFrames(frames)


def clip(frames: int = 3, objects: int = 2) -> VosClip:
    rng = np.random.default_rng(1)
    prompts = np.zeros((objects, 48, 64), np.float32)
    prompts[:, 10:14, 10:14] = 1
    return VosClip(
        pixels=rng.integers(0, 255, (frames, 48, 64, 3)).astype(np.uint8),
        prompts=prompts,
        others=None,
        labels=rng.integers(0, objects + 1, (frames, 48, 64)).astype(np.uint8),
        xy=np.zeros((frames, objects, 0, 2), np.float32),
        verdicts=np.zeros((frames, objects, 0), np.int8),
        robust=False,
        progress=0.0,
    )


class TestNetwork:
    def batch(self, model: Abs) -> dict[str, torch.Tensor]:
        batch = collate_with_flow([clip()], objects=2)
        return {name: batch[name] for name in ("pixel_values", "prompts", "valid", "others", "flow")}

    def test_shapes(self) -> None:
        model = tiny()
        output = model(**self.batch(model), read_reference=True)
        assert output.logits.shape == (1, 3, 3, 48, 64) and output.attention.shape == (1, 3, 2, 3, 4)
        assert model(**self.batch(model)).logits.shape == (1, 2, 3, 48, 64)

    def test_untrained_it_is_the_point_stcn_it_starts_from(self) -> None:
        stcn = Stcn(StcnConfig(**SIZES)).eval()
        model = tiny(1)
        missing, unexpected = model.load_state_dict(stcn.state_dict(), strict=False)
        assert missing and not unexpected
        batch = self.batch(model)
        plain = {name: value for name, value in batch.items() if name != "flow"}
        with torch.no_grad():
            ours, theirs = model(**batch, read_reference=True).logits, stcn(**plain, read_reference=True).logits
        assert torch.allclose(ours, theirs, atol=1e-4)

    def test_every_part_learns(self) -> None:
        model = tiny().train()
        for layer in (model.enhanced_thin, model.object_readout.out):
            torch.nn.init.normal_(layer.weight, std=0.1)
        batch = collate_with_flow([clip()], objects=2)
        settings = AbsRecipe.model_validate(RECIPE).loss
        output = TrainedAbs(model, settings)(**batch)
        output.loss.backward()
        silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        # identities of objects that the clip has not; norms before a softmax that a key's bias does not change
        assert not [n for n in silent if not n.endswith(("in_proj_bias", "bias"))], silent
        assert set(output.loss_terms) >= {"masks", "attention"}

    def test_flow_and_the_object_memory_can_be_left_out(self) -> None:
        model = tiny(uses_flow=False, uses_objects=False)
        batch = self.batch(model)
        first = model(**batch).logits
        assert torch.equal(first, model(**{**batch, "flow": batch["flow"] * 5}).logits)

    def test_spoilt_masks_are_repeatable(self) -> None:
        masks = torch.rand(8, 2, 20, 30)
        torch.manual_seed(3)
        first = spoilt(masks, 0.5)
        torch.manual_seed(3)
        assert torch.equal(first, spoilt(masks, 0.5)) and not torch.equal(first, masks)
        assert torch.equal(spoilt(masks, 0.0), masks)

    def test_positions_differ_and_have_the_right_size(self) -> None:
        codes = positions((3, 5), 8, torch.zeros(1))
        assert codes.shape == (15, 8) and len(torch.unique(codes, dim=0)) == 15

    def test_attention_loss_ignores_unknown_pixels_and_padding(self) -> None:
        labels = torch.zeros(1, 2, 8, 8, dtype=torch.long)
        labels[:, :, :4] = 1
        logits = torch.full((1, 2, 2, 2, 2), -20.0)
        logits[:, :, 0, 0] = 20.0
        valid = torch.tensor([[True, False]])
        assert attention_loss(logits, labels, valid) < 1e-3
        logits[:, :, 0, 1] = 20.0
        assert attention_loss(logits, labels, valid) > 1
        labels[:, :, 4:] = 255
        assert attention_loss(logits, labels, valid) < 1e-3

    @pytest.mark.parametrize("changed", [{"dim": 18}, {"heads": 3}, {"memory_frames": 0}])
    def test_sizes_that_cannot_be(self, changed: dict[str, int]) -> None:
        with pytest.raises(ValueError, match=r"dim|memory_frames"):
            AbsConfig(**{**SIZES, "dim": 16, "heads": 2, **changed})


class TestFlow:
    def test_the_object_stands_out_of_the_cameras_motion(self) -> None:
        motion = np.zeros((20, 30, 2), np.float32)
        motion[..., 0] = 4
        motion[5:10, 5:10, 1] = 8
        seen = flow_map(np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30, 3), np.uint8), lambda a, b: motion)
        assert seen.shape == (3, 20, 30) and seen[:, 0, 0].tolist() == [0, 0, 0] and seen[1, 7, 7] > 0.9

    def test_still_frames(self) -> None:
        image = np.full((20, 30, 3), 90, np.uint8)
        assert not flow_map(image, image).any()


RECIPE: dict[str, Any] = {
    "task": "abs",
    "out": "out/abs",
    "data": {"sources": [{"path": "data/d"}]},
    "model": {"stcn": None, "sizes": {**SIZES, "dim": 16, "heads": 2}},
    "optimizer": {"steps": 2, "lr": 1.0e-3},
}


class TestRecipe:
    def test_by_its_task(self) -> None:
        recipe = recipe_of(dict(RECIPE), "r.yaml")
        assert isinstance(recipe, AbsRecipe) and recipe.loss.attention == 0.3

    def test_an_unknown_size_lists_the_known_ones(self) -> None:
        with pytest.raises(ValueError, match=r"unknown sizes \['size'\].*memory_frames"):
            AbsModelSettings(sizes={"size": 3})

    def test_other_supervisions_are_refused(self) -> None:
        with pytest.raises(UsageError, match="supervision"):
            recipe_of({**RECIPE, "supervision": "points"}, "r.yaml")


class TestEngine:
    def prompts(self) -> dict[int, FramePrompts]:
        late = PointPrompts([(60, 40)], [])
        return {
            1: FramePrompts(points=(PointPrompts([(20, 20)], [(70, 5)]), None)),
            3: FramePrompts(points=(None, late)),
        }

    def test_every_frame_once_and_disjoint(self, tmp_path: Path) -> None:
        engine = AbsPropagator(saved(tmp_path), StcnSettings(device="cpu", every=1))
        found = dict(engine(video(), self.prompts()))
        assert sorted(found) == list(range(6))
        for t, probabilities in found.items():
            assert probabilities.shape == (2, 48, 80) and probabilities.dtype == np.float32
            assert np.isfinite(probabilities).all() and ((probabilities > 0.5).sum(0) <= 1).all()
            assert t >= 3 or not probabilities[1].any()

    def test_an_object_enters_by_a_mask_while_another_is_tracked(self, tmp_path: Path) -> None:
        late = np.zeros((48, 80), bool)
        late[30:44, 50:70] = True
        prompts = {
            0: FramePrompts(masks=(None, None), points=(PointPrompts([(20, 20)], []), None)),
            2: FramePrompts(masks=(None, late)),
        }
        found = dict(AbsPropagator(saved(tmp_path), StcnSettings(device="cpu"))(video(), prompts))
        assert sorted(found) == list(range(6)) and (found[2][1] == late).all() and not found[1][1].any()

    def test_masks_stay_exact_and_a_single_frame_does_not_move(self, tmp_path: Path) -> None:
        mask = np.zeros((48, 80), bool)
        mask[10:30, 10:30] = True
        engine = AbsPropagator(saved(tmp_path), StcnSettings(device="cpu"))
        found = dict(engine(video(1), {0: FramePrompts(masks=(mask,))}))
        assert (found[0][0] == mask).all()

    def test_the_click_stays_in_memory_and_predictions_make_room(self, tmp_path: Path) -> None:
        engine = AbsPropagator(saved(tmp_path), StcnSettings(device="cpu", every=1))
        sizes = []
        session = engine._session

        def watched(*values: Any) -> Any:
            made = session(*values)
            sizes.append(made)
            return made

        engine._session = watched  # type: ignore[method-assign]
        list(engine(video(12), {0: FramePrompts(points=(PointPrompts([(20, 20)], []),))}))
        cells = (48 // 8) * (80 // 8)
        assert len(sizes[0].memory) == 2 * cells and sizes[0].memory._never_dropped == cells

    def test_any_flow_function(self, tmp_path: Path) -> None:
        asked = []

        def flow(image: np.ndarray, other: np.ndarray) -> np.ndarray:
            asked.append(image.shape)
            return np.zeros((*image.shape[:2], 2), np.float32)

        engine = AbsPropagator(saved(tmp_path), StcnSettings(device="cpu"), flow=flow)
        list(engine(video(4), {0: FramePrompts(points=(PointPrompts([(20, 20)], []),))}))
        assert asked == [(48, 80, 3)] * 4

    def test_the_same_features_as_in_training(self, tmp_path: Path) -> None:
        """The engine's first frame equals the network's, fused and streamed or not."""
        model = tiny(3)
        for layer in (model.enhanced_thin, model.object_readout.out):
            torch.nn.init.normal_(layer.weight, std=0.1)
        model.save_pretrained(tmp_path)
        engine = AbsPropagator(str(tmp_path), StcnSettings(device="cpu", top_k=10_000))
        frames = video(2)
        click = PointPrompts([(20, 20)], [])
        found = dict(engine(frames, {0: FramePrompts(points=(click,))}))
        pixels = torch.from_numpy(np.stack([frames[0], frames[1]])).permute(0, 3, 1, 2)[None]
        prompt = torch.zeros(1, 1, 48, 80)
        prompt[0, 0, 18:23, 18:23] = torch.tensor(
            [[(y * y + x * x) <= 4 for x in range(-2, 3)] for y in range(-2, 3)]
        ).float()
        flow = torch.from_numpy(np.stack([flow_map(frames[0], frames[1]), flow_map(frames[1], frames[0])]))[None]
        with torch.no_grad():
            output = model(pixels, prompt, torch.ones(1, 1, dtype=torch.bool), read_reference=True, flow=flow)
        expected = output.logits.softmax(2)[0, :, 1].numpy()
        assert np.abs(found[0][0] - expected[0]).max() < 2e-3


def test_features_by_frame() -> None:
    parts = [torch.arange(6.0).view(6, 1, 1, 1) for _ in range(3)]
    features = AbsFeatures(parts[0], parts[1], parts[2], (parts[0],), parts[1] * 10)
    frames = features.by_frame(3)
    assert [f.enhanced.flatten().tolist() for f in frames if isinstance(f, AbsFeatures)] == [
        [0, 30],
        [10, 40],
        [20, 50],
    ]
