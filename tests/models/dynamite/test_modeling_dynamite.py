"""DynaMITe: shapes, prompts, simulated clicks, training, import of checkpoints, and the goldens of the authors' program."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from vng.models.dynamite.clicks import (
    Dice,
    Prompts,
    Trace,
    correction,
    corrective_clicks,
    initial_clicks,
    training_masks,
)
from vng.models.dynamite.configuration_dynamite import DynamiteConfig
from vng.models.dynamite.losses_dynamite import Targets, mask_losses, uncertain_points
from vng.models.dynamite.modeling_dynamite import DynamiteModel, click_code, instance_logits
from vng.models.dynamite.processing_dynamite import TrainingSample, batch_of
from vng.points import BACKGROUND, Click

HEIGHT, WIDTH = 64, 96  # padded image
RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def tiny_config(**changes: Any) -> DynamiteConfig:
    sizes = {
        "hidden_size": 32,
        "attention_heads": 4,
        "pixel_decoder_layers": 1,
        "pixel_decoder_feedforward": 16,
        "encoder_layers": 4,
        "encoder_feedforward": 24,
        "decoder_layers": 2,
        "decoder_feedforward": 40,
        "static_background": 3,
        "points": 50,
        "short_side": 0,
    }
    return DynamiteConfig(**{"backbone_config": RESNET, **sizes, **changes})


@pytest.fixture
def model() -> DynamiteModel:
    torch.manual_seed(0)
    return DynamiteModel(tiny_config()).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


CLICKS = [Click(20, 30, 0, 0), Click(40, 70, 1, 1), Click(50, 60, 3, 1), Click(5, 8, 2, BACKGROUND)]


def arguments(prompts: Prompts) -> dict[str, torch.Tensor]:
    return {"points": prompts.points, "times": prompts.times, "owners": prompts.owners, "traced": prompts.traced}


class TestModel:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"static_background": 0},
            {"decoder_layers": 0},
            {"refine_mask_features": False},
            *({"click_encoding": name} for name in ("spatial", "temporal", "none")),
        ],
        ids=str,
    )
    def test_shapes(self, changes: dict, images: torch.Tensor) -> None:
        model = DynamiteModel(tiny_config(**changes)).eval()
        with torch.no_grad():
            output = model(images, **arguments(Prompts.of([CLICKS, CLICKS[:1]])))
        queries = 4 + (changes.get("static_background", 3) or 1)  # at least one of the background
        assert output.mask_logits.shape == (2, queries, HEIGHT // 4, WIDTH // 4) and output.loss is None
        assert output.owners.tolist() == [[0, 1, 1] + [-1] * (queries - 3), [0] + [-1] * (queries - 1)]

    def test_an_unknown_encoding_names_the_known(self) -> None:
        with pytest.raises(ValueError, match="click_encoding 'x' is none of spatio_temporal, spatial, temporal, none"):
            tiny_config(click_encoding="x")

    def test_both_backbones(self) -> None:
        resnet, swin = DynamiteConfig.resnet50(), DynamiteConfig.swin_tiny(static_background=0)
        assert list(resnet.backbone_config.depths) == [3, 4, 6, 3] and resnet.static_background == 9
        assert swin.backbone_config.model_type == "swin" and swin.static_background == 0

    def test_the_image_is_encoded_once(self, model: DynamiteModel, images: torch.Tensor) -> None:
        with torch.no_grad():
            encoded = model.encode_image(images[:1])
            assert encoded.size == (HEIGHT, WIDTH)
            for clicks in (CLICKS[:2], CLICKS):
                prompts = Prompts.of([clicks])
                whole = model(images[:1], **arguments(prompts)).mask_logits
                torch.testing.assert_close(model.segment(encoded, prompts).mask_logits, whole, atol=1e-4, rtol=0)

    def test_images_of_a_batch_leave_each_other_alone(self, model: DynamiteModel, images: torch.Tensor) -> None:
        with torch.no_grad():
            both = model(images, **arguments(Prompts.of([CLICKS, CLICKS[::-1]]))).mask_logits
            alone = model(images[1:], **arguments(Prompts.of([CLICKS[::-1]]))).mask_logits
        torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=0)

    def test_the_order_of_clicks_does_not_matter(self, model: DynamiteModel, images: torch.Tensor) -> None:
        with torch.no_grad():
            encoded = model.encode_image(images[:1])
            one, other = (model.segment(encoded, Prompts.of([c])) for c in (CLICKS, CLICKS[::-1]))
        masks = [instance_logits(o.mask_logits[0], o.owners[0], 2, (HEIGHT, WIDTH)) for o in (one, other)]
        torch.testing.assert_close(*masks, atol=1e-4, rtol=0)

    def test_decoder_with_few_and_many_queries_in_pieces_or_whole(
        self, model: DynamiteModel, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from vng.models.dynamite import modeling_dynamite as module

        prompts = Prompts.of([CLICKS, CLICKS[1:]])
        encoded = model.encode_image(images)
        whole = model.segment(encoded, prompts).mask_logits  # with gradients: in one piece
        for fold_below, chunk in ((0, 1024), (99, 1024), (99, 50), (0, 1)):
            monkeypatch.setattr(module, "FOLD_BELOW", fold_below)
            monkeypatch.setattr(module, "CHUNK", chunk)
            with torch.no_grad():
                torch.testing.assert_close(model.segment(encoded, prompts).mask_logits, whole, atol=1e-4, rtol=0)

    def test_a_trace_of_one_pixel_is_a_click(self, model: DynamiteModel, images: torch.Tensor) -> None:
        trace = Trace(np.array([[20.0, 30.0]], np.float32), 0, 0)
        longer = Trace(np.array([[20.0, 30], [22, 31], [25, 29]], np.float32), 0, 0)
        with torch.no_grad():
            encoded = model.encode_image(images[:1])
            click, same, other = (
                model.segment(encoded, Prompts.of([[q, CLICKS[1]]])).mask_logits for q in (CLICKS[0], trace, longer)
            )
            torch.testing.assert_close(click, same, atol=1e-4, rtol=0)
            assert (click - other).abs().max() > 1e-4
            model.transformer.trace_projection.weight.mul_(2)
            assert (model.segment(encoded, Prompts.of([[trace, CLICKS[1]]])).mask_logits - same).abs().max() > 1e-4

    def test_a_trace_is_pooled_over_its_own_points_only(self, model: DynamiteModel, images: torch.Tensor) -> None:
        """A longer trace beside it, or another image with more clicks, changes nothing of a query's beginnings."""
        short = Trace(np.array([[20.0, 30], [22, 31]], np.float32), 0, 0)
        long = Trace(np.array([[40.0, 70 + i] for i in range(5)], np.float32), 1, 1)
        with torch.no_grad():
            encoded = model.encode_image(images[:1])
            alone, beside = (model.transformer._queries(encoded, Prompts.of([q])) for q in ([short], [short, long]))
            for one, other in zip(alone, beside, strict=True):
                torch.testing.assert_close(one[:, 0], other[:, 0], atol=1e-4, rtol=0)

    def test_save_and_load(self, model: DynamiteModel, images: torch.Tensor, tmp_path: Path) -> None:
        model.save_pretrained(tmp_path)
        assert (tmp_path / "model.safetensors").exists()
        loaded = DynamiteModel.from_pretrained(tmp_path).eval()
        for name, value in model.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
        with torch.no_grad():
            given = arguments(Prompts.of([CLICKS, CLICKS]))
            torch.testing.assert_close(loaded(images, **given).mask_logits, model(images, **given).mask_logits)

    def test_initial_values_are_ours(self, model: DynamiteModel) -> None:
        """transformers skips, in classes of others, rules for modules that have no weights of their own."""
        offsets = model.pixel_decoder.encoder.layers[0].self_attn.sampling_offsets
        assert not offsets.weight.any() and offsets.bias.abs().max() == 4  # Deformable DETR's star
        transformer = model.transformer
        assert torch.equal(transformer.trace_projection.weight, torch.eye(32))
        assert 0.5 < float(transformer.query_embed.detach().std()) < 1.5 and not transformer.bg_query.any()
        assert float(transformer.encoder[0].cross_attention.in_proj_weight.detach().abs().max()) <= (6 / 128) ** 0.5
        assert float(transformer.level_embed.weight.detach().std()) == pytest.approx(1, rel=0.3)

    def test_gradients_reach_every_parameter(self, images: torch.Tensor) -> None:
        torch.manual_seed(0)
        model = DynamiteModel(tiny_config(freeze_batch_norm=False, most_rounds=0)).train()
        with torch.no_grad():
            for parameter in model.parameters():  # some start at zero, and zero weights pass no gradient on
                parameter += 0.02 * torch.randn_like(parameter)
        prompts = Prompts.of([CLICKS, [Trace(np.array([[20.0, 30], [22, 31]], np.float32), 0, 0), CLICKS[1]]])
        model(images, **arguments(prompts), target_masks=two_boxes()).loss.backward()
        without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
        assert not [n for n in without if "bias" not in n], without  # biases of keys never move a softmax

    def test_frozen_batch_norm_keeps_its_statistics(self, model: DynamiteModel, images: torch.Tensor) -> None:
        before = model.backbone.embedder.embedder.normalization.running_mean.clone()
        model.train().encode_image(images)
        assert torch.equal(before, model.backbone.embedder.embedder.normalization.running_mean)
        assert not model.backbone.embedder.embedder.normalization.weight.requires_grad


def test_click_code_of_nowhere_is_zero() -> None:
    assert not click_code(torch.full((1, 3), -1.0), "spatio_temporal", 8).any()
    code = click_code(torch.tensor([[0.25, 0.5, 0.0]]), "spatial", 4)
    torch.testing.assert_close(code, torch.tensor([[1.0, 0.0, 0.0, -1.0]]), atol=1e-6, rtol=0)  # y first, sine first
    assert click_code(torch.zeros(5, 3), "temporal", 8).shape == (5, 8)


def two_boxes() -> torch.Tensor:
    """bool [2, 2, H, W]; every click of CLICKS lies where it says."""
    masks = torch.zeros(2, 2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[:, 0, 10:30, 20:45] = True
    masks[:, 1, 35:60, 55:80] = True
    return masks


class TestPrompts:
    def test_padding_and_further_clicks(self) -> None:
        trace = Trace(np.array([[1.0, 2], [3, 4], [5, 6]], np.float32), 1, 0)
        prompts = Prompts.of([[CLICKS[0], trace], [CLICKS[1]]])
        assert prompts.points.shape == (2, 2, 3, 2) and prompts.next_times() == [2, 2]
        assert prompts.points[0, 0].tolist() == [[20, 30], [-1, -1], [-1, -1]]
        assert prompts.traced.tolist() == [[False, True], [False, False]]
        more = prompts.with_clicks([[], [Click(7, 8, 2, 1)]])
        assert more.points.shape == (2, 3, 3, 2) and more.points[1, 2, 0].tolist() == [7, 8]
        assert more.owners.tolist() == [[0, 0, -1], [1, -1, 1]] and more.next_times() == [2, 3]

    def test_none(self) -> None:
        empty = Prompts.of([[], []])
        assert empty.points.shape == (2, 0, 1, 2) and empty.next_times() == [0, 0]
        assert empty.with_clicks([CLICKS[:1], []]).times.tolist() == [[0], [-1]]

    def test_no_clicks_at_all_leave_the_background(self, model: DynamiteModel, images: torch.Tensor) -> None:
        with torch.no_grad():
            output = model(images, **arguments(Prompts.of([[], []])))
        assert output.mask_logits.shape == (2, 3, HEIGHT // 4, WIDTH // 4)


class TestSimulation:
    def test_masks_of_a_training_image(self) -> None:
        masks = np.zeros((10, 40, 50), bool)
        for k in range(10):
            masks[k, : 4 + 3 * k, :30] = True  # nested: the smaller ones lie in front
        chosen = training_masks(masks, Dice(0))
        assert len(chosen) == 7 and chosen.sum(0).max() == 1
        areas = masks[Dice(0).subset(10, 7)].sum((1, 2))
        assert chosen.any(0).sum() == areas.max()
        assert len(training_masks(masks[:1], Dice(0))) == 1  # a single one stays
        assert len(training_masks(masks[:1, :1, :40], Dice(0))) == 0  # up to 50 pixels are too few

    def test_initial_clicks_lie_where_they_should(self) -> None:
        masks = two_boxes()[0].numpy()
        taken = masks.any(0)
        taken[:, 90:] = True  # padding
        counts, none = [], 0
        for seed in range(60):
            clicks = initial_clicks(masks, taken, Dice(seed))
            assert [c.time for c in clicks] == list(range(len(clicks)))
            for click in clicks:
                inside = ~taken if click.owner == BACKGROUND else masks[click.owner]
                assert inside[int(click.y), int(click.x)]
            counts.append(sum(c.owner == 0 for c in clicks))
            none += not any(c.owner == BACKGROUND for c in clicks)
        assert min(counts) == 1 and max(counts) == 6 and 10 < none < 40

    def test_an_object_of_no_pixels_is_refused(self) -> None:
        with pytest.raises(ValueError, match="object 0 has no pixel to click on"):
            initial_clicks(np.zeros((1, 5, 7), bool), np.zeros((5, 7), bool), Dice(0))

    def test_corrections_go_to_the_worst_and_deep_into_the_error(self) -> None:
        truth = two_boxes()[0].numpy()
        predicted = truth.copy()
        predicted[0, 10:30, 20:35] = False  # 15 of 25 columns missed
        nothing = np.zeros(truth.shape[1:], bool)
        for seed in range(20):
            clicks = corrective_clicks(predicted, truth, nothing, 9, Dice(seed))
            assert 1 <= len(clicks) <= 2 and clicks[0].time == 9 and {c.owner for c in clicks} == {0}
            assert all(20 <= c.x < 35 and 10 <= c.y < 30 for c in clicks)
        assert corrective_clicks(truth, truth, nothing, 0, Dice(0)) == []
        everywhere = np.ones_like(nothing)
        labels = np.full(nothing.shape, BACKGROUND)
        assert correction(predicted[0], truth[0], labels, everywhere, 0, Dice(0)) == []  # errors in padding are none

    def test_a_click_on_another_object_is_that_ones(self) -> None:
        truth = two_boxes()[0].numpy()
        predicted = truth.copy()
        predicted[0] |= truth[1]  # the first object took the second, too
        predicted[1] = False
        clicks = corrective_clicks(predicted, truth, np.zeros(truth.shape[1:], bool), 0, Dice(1))
        assert len(clicks) >= 2 and {c.owner for c in clicks} == {1}

    def test_every_image_of_a_batch_is_corrected(self, images: torch.Tensor) -> None:
        """The authors' program corrects the first one alone."""
        torch.manual_seed(2)
        model = DynamiteModel(tiny_config(most_rounds=3)).train()
        targets = Targets(two_boxes(), torch.ones(2, 2, dtype=torch.bool), torch.ones(2, HEIGHT, WIDTH).bool())
        prompts = Prompts.of([CLICKS[:2], CLICKS[:2]])
        encoded = model.encode_image(images)
        corrected = [model._corrected(encoded, prompts, targets, Random(seed)) for seed in range(8)]
        most = torch.stack([(found.times >= 2).sum(1) for found in corrected]).amax(0)
        assert (most > 0).all()


class TestLosses:
    def targets(self) -> Targets:
        inside = torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool)
        inside[1, :, 90:] = False
        return Targets(two_boxes(), torch.tensor([[True, True], [True, False]]), inside)

    def test_masks_over_the_batch(self) -> None:
        flat = self.targets().flat()
        assert flat.shape == (5, HEIGHT, WIDTH)
        box = int(two_boxes()[0, 0].sum())
        assert flat.sum((1, 2)).tolist() == [box, 625, HEIGHT * WIDTH - box - 625, box, HEIGHT * 90 - box]

    def test_right_costs_little_and_wrong_much(self) -> None:
        targets = self.targets()
        signed = torch.nn.functional.interpolate(targets.flat()[:, None], scale_factor=0.25)[:, 0] * 40 - 20
        owners = torch.tensor([[0, 1, 0, -1], [0, -1, -1, -1]])
        low = torch.full_like(signed[0], -20)
        logits = torch.stack(
            [torch.stack([signed[0], signed[1], low, signed[2]]), torch.stack([signed[3], low, signed[4], low])]
        )
        torch.manual_seed(0)
        right = mask_losses(logits, owners, targets, 500, 1.0, 0.0)
        wrong = mask_losses(-logits, owners, targets, 500, 1.0, 0.0)
        assert float(right["dice"]) < 0.15 and float(right["mask"]) < 0.5
        assert float(wrong["dice"]) > 0.4 and float(wrong["mask"]) > 5

    def test_points_are_where_doubt_is(self) -> None:
        logits = torch.full((1, 1, 10, 20), 9.0)
        logits[..., 10:] = 0.1
        places = uncertain_points(logits, 40, 3.0, 0.75)
        assert places.shape == (1, 40, 2) and int((places[0, :30, 0] > 0.5).sum()) == 30
        assert 0 < int((places[0, 30:, 0] > 0.5).sum()) < 10

    def test_a_batch_of_images_of_unequal_sizes_trains(self) -> None:
        rng = np.random.default_rng(0)
        samples = []
        for height, width, count in ((50, 70, 1), (33, 90, 2)):
            masks = np.zeros((count, height, width), bool)
            for k in range(count):
                masks[k, 4 + 12 * k : 14 + 12 * k, 9:40] = True
            clicks = initial_clicks(masks, masks.any(0), Dice(count))
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            samples.append(TrainingSample(image, masks, tuple(clicks)))
        batch = batch_of(samples)
        assert batch["pixel_values"].shape == (2, 3, 64, 96) and not batch["pixel_values"][1, :, 33:].any()
        assert batch["target_masks"].sum((2, 3)).tolist() == [[310, 0], [310, 310]]
        assert batch["target_valid"].tolist() == [[True, False], [True, True]]
        assert batch["pixel_mask"].sum((1, 2)).tolist() == [50 * 70, 33 * 90]
        torch.manual_seed(0)
        model = DynamiteModel(tiny_config()).train()
        first, second = (self.loss_of(model, batch) for _ in range(2))
        assert first == second > 0  # chances of a step are torch's seed's alone
        with pytest.raises(ValueError, match=r"2 masks, without clicks: \[1\]"):
            TrainingSample(samples[1].image, samples[1].masks, (Click(5, 10, 0, 0),))

    @staticmethod
    def loss_of(model: DynamiteModel, batch: dict[str, torch.Tensor]) -> float:
        torch.manual_seed(5)
        return float(model(**batch).loss.detach())

    def test_one_image_is_learned(self, images: torch.Tensor) -> None:
        torch.manual_seed(0)
        model = DynamiteModel(tiny_config(points=300, freeze_batch_norm=False)).train()
        truth = two_boxes()[:1]
        pixels = images[:1] * 0.1
        pixels[0, 0, truth[0, 0]] += 2
        pixels[0, 2, truth[0, 1]] += 2
        optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
        losses = []
        for _ in range(60):
            output = model(pixels, **arguments(Prompts.of([CLICKS[:2]])), target_masks=truth)
            optimizer.zero_grad()
            output.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(float(output.loss.detach()))
        assert set(output.loss_terms) == {"mask", "dice"} and losses[-1] < 0.5 * losses[0]
        model.eval()
        with torch.no_grad():
            output = model(pixels, **arguments(Prompts.of([CLICKS[:2]])))
        won = instance_logits(output.mask_logits[0], output.owners[0], 2, (HEIGHT, WIDTH)).argmax(0)
        for k in range(2):
            assert float(((won == k) & truth[0, k]).sum() / ((won == k) | truth[0, k]).sum()) > 0.6
