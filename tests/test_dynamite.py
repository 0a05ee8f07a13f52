"""DynaMITe: shapes, prompts, simulated clicks, training, import of checkpoints, and the goldens of the authors' program."""

from __future__ import annotations

import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vng import segmenters
from vng.errors import DataError, UsageError
from vng.evaluation.interactive import first_clicks, interact, next_click, score
from vng.models.checkpoints import load_exactly, read_checkpoint
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
from vng.models.dynamite.import_checkpoint import from_file, from_reference, infer_config
from vng.models.dynamite.losses_dynamite import Targets, mask_losses, uncertain_points
from vng.models.dynamite.modeling_dynamite import DynamiteModel, click_code, instance_logits
from vng.models.dynamite.processing_dynamite import Fit, probabilities
from vng.points import BACKGROUND, Click, PointPrompts

HEIGHT, WIDTH = 64, 96  # padded image
RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1],
          "layer_type": "basic", "out_features": ["stage1", "stage2", "stage3", "stage4"]}  # fmt: skip


def tiny_config(**changes: Any) -> DynamiteConfig:
    sizes = {"hidden_size": 32, "attention_heads": 4, "pixel_decoder_layers": 1, "pixel_decoder_feedforward": 16,
             "encoder_layers": 4, "encoder_feedforward": 24, "decoder_layers": 2, "decoder_feedforward": 40,
             "static_background": 3, "points": 50, "short_side": 0}  # fmt: skip
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
        most = torch.stack([(model._corrected(encoded, prompts, targets).times >= 2).sum(1) for _ in range(8)]).amax(0)
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


class TestSegmenter:
    """The engine on a random model; how good masks are is not asked."""

    @pytest.fixture(scope="class")
    def checkpoint(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("dynamite")
        DynamiteModel(tiny_config(short_side=48, long_side=150)).save_pretrained(folder)
        return folder

    PROMPTS = (
        PointPrompts(np.array([[20, 30], [25, 31]]), np.array([[50, 8], [3, 3]])),
        PointPrompts(np.empty((0, 2)), np.array([[7, 7]])),
        PointPrompts(np.array([[60 + i / 2, 20] for i in range(9)]), np.empty((0, 2)), trace=True),
    )

    def test_shape_range_and_no_overlap(self, checkpoint: Path, rng: np.random.Generator) -> None:
        image = rng.integers(0, 256, (61, 90, 3), dtype=np.uint8)
        result = segmenters.load("dynamite", checkpoint=str(checkpoint))(image, self.PROMPTS)
        assert result.shape == (3, 61, 90) and result.dtype == np.float32
        assert result.min() >= 0 and result.max() <= 1 and not result[1].any()
        assert (result > 0.5).sum(0).max() == 1 and result[0].any() and result[2].any()

    def test_masks_above_one_half_are_the_arg_max(self) -> None:
        logits = torch.randn(4, 20, 30, generator=torch.Generator().manual_seed(0)) * 3
        logits[0, 0, 0] = torch.nextafter(logits[1:, 0, 0].max(), torch.tensor(99.0))  # too small a lead to change 0.5
        found = probabilities(logits)
        won = logits.argmax(0)
        for k in range(3):
            assert torch.equal(found[k] > 0.5, won == k)
        logits[3] = -torch.inf  # no background query at all
        assert torch.isfinite(probabilities(logits)).all() and torch.isfinite(probabilities(logits[2:])).all()

    def test_empty_large_tiny_and_narrow(self, checkpoint: Path) -> None:
        segmenter = segmenters.load("dynamite", checkpoint=str(checkpoint), short_side=0)
        assert segmenter(np.zeros((40, 50, 3), np.uint8), []).shape == (0, 40, 50)
        for height, width in ((130, 170), (9, 12), (1, 1), (3, 200)):
            middle = PointPrompts(np.array([[width / 2, height - 1]]), np.array([[width + 9, -4]]))  # outside: the edge
            assert segmenter(np.zeros((height, width, 3), np.uint8), [middle]).shape == (1, height, width)

    def test_negatives_on_another_object_are_left_out(
        self, checkpoint: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        segmenter = segmenters.load("dynamite", checkpoint=str(checkpoint), short_side=0)
        image = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        given = []
        real = segmenter.model.segment

        def watched(encoded: Any, prompts: Prompts) -> Any:
            given.append(prompts)
            output = real(encoded, prompts)
            output.mask_logits[:] = -5
            output.mask_logits[0, -1] = 0  # background, but for a square of the second object
            output.mask_logits[0, 1, 4:8, 4:8] = 5
            return output

        monkeypatch.setattr(segmenter.model, "segment", watched)
        first = PointPrompts(np.array([[50, 50]]), np.array([[24, 24], [80, 10]]))
        second = PointPrompts(np.array([[22, 22]]), np.array([[25, 25], [80, 10]]))
        segmenter(image, [first, second])
        assert [len(p.owners[0]) for p in given] == [2, 4]
        assert given[1].points[0, 2:, 0].tolist() == [[10, 80], [25, 25]]  # its own error, and what both say, once
        assert given[1].times.tolist() == [[0, 1, 2, 3]]

    def test_scaling(self) -> None:
        config = DynamiteConfig()
        assert Fit.of(np.zeros((480, 854, 3)), config).scaled == (749, 1333)
        assert Fit.of(np.zeros((300, 400, 3)), config).padded == (800, 1088)
        fit = Fit.of(np.zeros((24, 36, 3)), tiny_config(short_side=48))
        assert fit.places(np.array([[10, 20.0], [99, -3]])).tolist() == [[40, 20], [0, 70]]
        values = fit.pixel_values(np.full((24, 36, 3), 255, np.uint8))
        assert (
            values.shape == (1, 3, 64, 96)
            and not values[..., 48:, :].any()
            and values[0, 0, 47, 71] == pytest.approx(2.2489, abs=1e-3)
        )

    def test_a_checkpoint_that_does_not_fit_names_the_weights(self, checkpoint: Path, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
        weights = load_file(checkpoint / "model.safetensors")
        del weights["transformer.query_embed"]
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(DataError, match=r"1 missing: transformer\.query_embed"):
            segmenters.load("dynamite", checkpoint=str(tmp_path))
        with pytest.raises(DataError, match="no such file"):
            segmenters.load("dynamite", checkpoint=str(tmp_path / "none.pth"))


class TestInteractiveEvaluation:
    def truth(self) -> np.ndarray:
        masks = np.zeros((2, 40, 60), bool)
        masks[0, 5:26, 5:26] = True
        masks[1, 10:31, 35:56] = True
        return masks

    def test_known_clicks(self) -> None:
        truth = self.truth()
        clicks = first_clicks(truth)
        assert [(c.y, c.x, c.time, c.owner) for c in clicks] == [(15, 15, 0, 0), (20, 45, 1, 1)]
        predicted = truth.copy()
        predicted[0, 5:26, 5:14] = False  # nine columns missed
        found = next_click(predicted, truth, 0, clicks)
        assert (found.x, found.time, found.owner) == (9, 2, 0) and 9 <= found.y <= 21
        predicted[0] |= truth[1]
        taken = next_click(predicted, truth, 0, clicks[:1])
        assert (taken.y, taken.x, taken.owner) == (20, 45, 1)  # deeper than what was missed, and the other object's
        predicted = truth.copy()
        predicted[0, 33:40, 20:35] = True
        assert next_click(predicted, truth, 0, clicks).owner == BACKGROUND
        assert next_click(truth, truth, 0, clicks) is None
        assert next_click(~truth, truth, 0, clicks, radius=99) is None

    @pytest.mark.parametrize("strategy", ["worst", "best", "random"])
    def test_a_segmenter_that_learns(self, strategy: str) -> None:
        """Each object becomes right at its third click."""
        truth = self.truth()
        asked = []

        def predict(clicks: Any) -> np.ndarray:
            asked.append([c.owner for c in clicks])
            counts = [asked[-1].count(k) for k in range(2)]
            rows = np.arange(40)[:, None]
            return np.stack(
                [
                    t & ((n >= 3) | (rows < 8 + 6 * n + 3 * k))
                    for k, (t, n) in enumerate(zip(truth, counts, strict=True))
                ]
            )

        found = interact(predict, truth, strategy)
        assert (
            len(found.clicks) == 6 and found.iou.tolist() == [1, 1] and [c.time for c in found.clicks] == list(range(6))
        )
        owners = [c.owner for c in found.clicks]
        assert sorted(owners) == [0, 0, 0, 1, 1, 1]
        assert owners[2:] == {"worst": owners[2:], "best": owners[2:3] * 2 + owners[4:]}.get(strategy, owners[2:])
        scores = score([found])
        assert (scores.nci, scores.nfo, scores.nfi, scores.mean_iou) == (3, 0, 0, 1)

    def test_a_segmenter_that_does_not(self) -> None:
        truth = self.truth()
        found = interact(lambda clicks: truth & (np.arange(60) < 45), truth, most=4)
        assert len(found.clicks) == 8 and found.iou[0] == 1 and 0.4 < found.iou[1] < 0.5
        perfect = interact(lambda clicks: truth, truth)
        scores = score([found, perfect])
        assert (scores.nci, scores.nfo, scores.nfi) == (2.5, 1, 1)
        assert scores.mean_iou == pytest.approx(((1 + found.iou[1]) / 2 + 1) / 2)

    def test_wrong_calls(self) -> None:
        truth = self.truth()
        with pytest.raises(UsageError, match="unknown strategy 'x'; choose one of: best, random, worst"):
            interact(lambda clicks: truth, truth, "x")
        with pytest.raises(ValueError, match="without overlaps"):
            interact(lambda clicks: truth, truth | True)
        with pytest.raises(ValueError, match=r"has shape \[1, 40, 60\], the truth \[2, 40, 60\]"):
            interact(lambda clicks: truth[:1], truth)
        with pytest.raises(ValueError, match="at least one image"):
            score([])

    def test_dynamite_is_asked_click_by_click(self, model: DynamiteModel, images: torch.Tensor) -> None:
        truth = two_boxes()[0].numpy()
        encoded = model.encode_image(images[:1])

        def predict(clicks: Any) -> np.ndarray:
            output = model.segment(encoded, Prompts.of([clicks]))
            won = instance_logits(output.mask_logits[0], output.owners[0], 2, encoded.size).argmax(0)
            return np.stack([(won == k).numpy() for k in range(2)])

        with torch.inference_mode():
            found = interact(predict, truth, most=3)
        assert 2 <= len(found.clicks) <= 6 and found.iou.shape == (2,)


class Harmful:
    def __reduce__(self) -> tuple:
        return print, ("this ran",)


class TestCheckpoints:
    def test_weights_from_a_zip_a_legacy_file_or_bare(self, tmp_path: Path) -> None:
        weights = {"a.weight": torch.arange(3.0), "b": torch.zeros(2, 2)}
        torch.save({"model": weights, "iteration": 7, "trainer": None}, tmp_path / "zip.pth")
        torch.save({"state_dict": weights}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        torch.save(weights, tmp_path / "bare.pth")
        for name in ("zip", "old", "bare"):
            read = read_checkpoint(tmp_path / f"{name}.pth")
            assert list(read) == ["a.weight", "b"] and read["a.weight"].tolist() == [0, 1, 2]

    def test_pickles_that_would_run_code_are_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        torch.save({"model": {"a": torch.zeros(1)}, "extra": Harmful()}, tmp_path / "zip.pth")
        torch.save({"extra": Harmful()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Harmful()))
        for path in tmp_path.iterdir():
            with pytest.raises(DataError, match="could run code"):
                read_checkpoint(path)
        assert "this ran" not in capsys.readouterr().out

    @pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut short", bytes(range(256))])
    def test_what_is_no_checkpoint(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(DataError, match=r"x\.pth: "):
            read_checkpoint(tmp_path / "x.pth")

    def test_what_is_no_weights(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such file"):
            read_checkpoint(tmp_path / "none.pth")
        torch.save([1, 2], tmp_path / "list.pth")
        with pytest.raises(DataError, match="holds list, not weights by name"):
            read_checkpoint(tmp_path / "list.pth")
        torch.save({"model": {"a": "text"}}, tmp_path / "text.pth")
        with pytest.raises(DataError, match="a: is no tensor"):
            read_checkpoint(tmp_path / "text.pth")

    def test_all_or_nothing(self) -> None:
        layer = torch.nn.Linear(3, 2)
        before = layer.weight.detach().clone()
        with pytest.raises(DataError, match=r"1 missing: bias; 1 unknown: old\.c; 1 of another size: w \[1, 3\]"):
            load_exactly(layer, {"weight": torch.zeros(1, 3), "c": torch.zeros(1)}, {"c": "old.c", "weight": "w"})
        assert torch.equal(layer.weight, before)
        load_exactly(layer, {"weight": torch.zeros(2, 3)}, {}, ("bias",))
        assert not layer.weight.any() and layer.bias.any()


def drawn(key: str, shape: list[int], gains: dict[str, float]) -> torch.Tensor:
    """A tensor of the goldens' weights, which come from the names of keys (PEERS.md, section 0)."""
    r = np.random.default_rng([0, zlib.crc32(key.encode())])
    if key.endswith((".bg_query", "relative_position_index")):
        value = np.zeros(shape)
    elif key.endswith("running_mean"):
        value = 0.1 * r.standard_normal(shape)
    elif key.endswith("running_var"):
        value = r.uniform(0.8, 1.2, shape)
    elif key.endswith("sampling_offsets.bias"):
        value = r.uniform(-2, 2, shape)
    elif len(shape) > 1:
        value = r.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    elif key.endswith(".weight"):
        value = r.uniform(0.6, 1.0, shape)
    else:
        value = 0.05 * r.standard_normal(shape)
    for part, gain in gains.items():
        value = value * (gain if part in key else 1)
    return torch.from_numpy(np.asarray(value)).float()


GAINS = {"sampling_offsets.weight": 0.5, "mask_embed.layers.2": 2, "relative_position_bias_table": 0.5}
HEAD = "sem_seg_head.interactive_transformer."
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])


def reference_state(folder: Path, name: str) -> dict[str, torch.Tensor]:
    lines = (folder / f"state_dict_keys_{name}.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    return {key: drawn(key, json.loads(shape), GAINS) for key, shape, _ in rows}


def variant(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The weights that a variant of the goldens has."""
    projection = f"{HEAD}ca_qpos_sine_proj.weight"
    if name == "no_static_bg":
        return {k: v for k, v in state.items() if "static_bg" not in k}
    if name == "no_pe":
        return {k: v for k, v in state.items() if "ca_qpos" not in k}
    if name in ("spatial", "temporal"):
        return {**state, projection: drawn(projection, [256, 256], GAINS)}
    if name == "no_decoder":
        return {k: v for k, v in state.items() if not k.startswith(f"{HEAD}decoder.")}
    return state


class Golden:
    """The goldens, opened once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrays, self.meta = (
            np.load(folder / "golden_dyn.npz"),
            json.loads((folder / "golden_dyn.json").read_text()),
        )
        self.state = reference_state(folder, "r50")

    def clicks(self, case: str) -> list[Click]:
        meta = self.meta[case]
        rows = [(*click, k) for k, clicks in enumerate(meta["clicks"]) for click in clicks]
        return [Click(*row) for row in rows + [(*click, BACKGROUND) for click in meta["bg"] or []]]

    def model(self, name: str) -> DynamiteModel:
        state = variant(self.state, name)
        config = infer_config(state)
        if name == "temporal":
            config.click_encoding = "temporal"  # its weights have the shapes of "spatial"
        return from_reference(state, config).eval()


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    return Golden(shared / "goldens" / "dynamite")


CASES = {"full": ("one_each", "multi", "multi_bg")} | dict.fromkeys(
    ("no_static_bg", "no_pe", "spatial", "temporal", "no_decoder"), ("multi_bg",)
)


class TestGolden:
    def test_full_model(self, golden: Golden) -> None:
        """From the image: maps, masks and losses, all ten auxiliary ones."""
        model, arrays = golden.model("full"), golden.arrays
        pixels = (torch.from_numpy(arrays["in/image"]).float() - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
        with torch.no_grad():
            encoded = model.encode_image(pixels[None])
            for level in range(3):
                np.testing.assert_allclose(encoded.maps[level], arrays[f"in/ms{level}"], atol=2e-5)
            np.testing.assert_allclose(encoded.pixels.permute(0, 3, 1, 2), arrays["in/mask_features"], atol=2e-5)
            output = model.transformer(encoded, Prompts.of([golden.clicks("r50/full/multi_bg")]), auxiliary=True)
        np.testing.assert_allclose(output.mask_logits, arrays["r50/full/multi_bg/pred_masks"], atol=1e-4)
        truth = torch.from_numpy(arrays["click/gt"].astype(bool))[None]
        targets = Targets(truth, torch.ones(1, 2, dtype=torch.bool), torch.ones_like(truth[:, 0]))
        torch.manual_seed(0)
        for layer, logits in enumerate([output.mask_logits, *output.auxiliary_logits], -1):
            found = mask_losses(logits, output.owners, targets, 12544, 3.0, 0.75)
            for name, value in found.items():
                expected = golden.meta["loss_seed0"][f"loss_{name}" + (f"_{layer}" if layer >= 0 else "")]
                assert float(value) == pytest.approx(expected, abs=1e-4), (layer, name)
        assert layer == 9

    @pytest.mark.parametrize("name", CASES)
    def test_transformer(self, golden: Golden, name: str) -> None:
        model, arrays = golden.model(name), golden.arrays
        maps = tuple(torch.from_numpy(arrays[f"in/ms{level}"]) for level in range(3))
        features = torch.from_numpy(arrays["in/mask_features"])
        for case in CASES[name]:
            prefix = f"r50/{name}/{case}"
            prompts = Prompts.of([golden.clicks(prefix)])
            with torch.no_grad():
                output = self.nearest(model, maps, features, prompts, arrays[f"{prefix}/pred_masks"])
            assert output.mask_logits.shape[1] == golden.meta[prefix]["queries"]
            assert len(output.auxiliary_logits) == golden.meta[prefix]["n_aux"]
            np.testing.assert_allclose(output.mask_logits, arrays[f"{prefix}/pred_masks"], atol=1e-4)
            np.testing.assert_allclose(output.auxiliary_logits[0], arrays[f"{prefix}/aux0"], atol=1e-4)
            half = arrays[f"{prefix}/aux4_f16"]
            unit = np.maximum(np.spacing(np.abs(half)).astype(np.float32), 1e-4)
            assert (np.abs(output.auxiliary_logits[4].numpy() - half.astype(np.float32)) <= unit).all()
            won = instance_logits(output.mask_logits[0], output.owners[0], 2, (160, 224)).argmax(0).numpy()
            differ = sum(int(((won == k) != arrays[f"{prefix}/final"][k]).sum()) for k in range(2))
            assert differ <= 5  # of 71,680: logits that tie to 1e-4

    @staticmethod
    def nearest(model: DynamiteModel, maps: tuple, features: torch.Tensor, prompts: Prompts, wanted: np.ndarray) -> Any:
        """What the transformer makes of the mask features, or of nearly the same ones.

        Attention masks are bits: in "temporal" one logit lies 1e-7 from zero, where rounding decides, and the wrong bit
        moves the masks by 8e-4. A relative change of 1e-6 throws the coin again.
        """
        outputs = []
        for seed in range(6):
            noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(seed)) if seed else 0
            encoded = model.transformer.prepare(maps, features * (1 + 1e-6 * noise))
            outputs.append(model.transformer(encoded, prompts, auxiliary=True))
            if np.abs(outputs[-1].mask_logits.numpy() - wanted).max() <= 1e-4:
                return outputs[-1]
        return outputs[0]

    def test_positions(self, golden: Golden) -> None:
        coordinates = torch.from_numpy(golden.arrays["pos/coords"])[0]
        for name in ("spatial", "temporal", "spatio_temporal"):
            expected = golden.arrays[f"pos/{name}"][:, 0]
            np.testing.assert_allclose(click_code(coordinates, name, 256), expected, atol=1e-6)

    def test_argmax(self, golden: Golden) -> None:
        logits = torch.from_numpy(golden.arrays["argmax/logits"])
        won = instance_logits(logits, torch.tensor([0, 0, 1] + [-1] * 11), 2, logits.shape[1:]).argmax(0).numpy()
        for k, mask in enumerate(golden.arrays["argmax/inst"]):
            assert np.array_equal(won == k, mask)

    @pytest.mark.parametrize("seed", range(6))
    def test_simulated_clicks(self, golden: Golden, seed: int) -> None:
        truth, predicted = (golden.arrays[f"click/{name}"].astype(bool) for name in ("gt", "pred"))
        expected = golden.meta["click_sim"]["sims"][seed]
        assert expected["seed"] == seed
        clicks = initial_clicks(truth, truth.any(0), Dice(seed))
        for owner, rows in [
            (0, expected["initial"]["fg"][0]),
            (1, expected["initial"]["fg"][1]),
            (-1, expected["initial"]["bg"] or []),
        ]:
            assert [[c.y, c.x, c.time] for c in clicks if c.owner == owner] == rows
        labels = np.where(truth.any(0), truth.argmax(0), BACKGROUND)
        found = correction(predicted[0], truth[0], labels, np.zeros_like(truth[0]), 7, Dice(seed))
        assert [[c.y, c.x, c.time] for c in found] == expected["corrective"][0]
        assert [c.owner for c in found] == expected["corrective"][1]

    def test_swin_is_taken_over_completely(self, golden: Golden) -> None:
        state = reference_state(golden.folder, "swin_t")
        model = from_reference(state)
        assert model.config.backbone_config.model_type == "swin" and model.config.static_background == 9
        block = model.backbone.swin.encoder.layers[2].blocks[3].attention
        qkv = state["backbone.layers.2.blocks.3.attn.qkv.weight"].chunk(3)
        for part, weight in zip((block.q_proj, block.k_proj, block.v_proj), qkv, strict=True):
            assert torch.equal(part.weight, weight)

    def test_completely_or_not_at_all(self, golden: Golden, tmp_path: Path) -> None:
        state = dict(golden.state)
        state["surplus.weight"] = torch.zeros(3)
        state[f"{HEAD}layer_norm.bias"] = torch.zeros(7)
        del state[f"{HEAD}query_embed"]
        message = (
            r"1 missing: transformer.query_embed; 1 unknown: surplus.weight; "
            rf"1 of another size: {HEAD}layer_norm.bias \[7\], wanted \[256\]"
        )
        with pytest.raises(DataError, match=message):
            from_reference(state)
        torch.save({"model": {"a": torch.zeros(2)}, "iteration": 3}, tmp_path / "other.pth")
        with pytest.raises(DataError, match="no DynaMITe"):
            from_file(tmp_path / "other.pth")
