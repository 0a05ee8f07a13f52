"""The grounder: shapes, goldens, losses, initial values, sharing between nouns, saving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vng.errors import DataError, UsageError
from vng.models.pixels import read_levels
from vng.models.referformer.configuration_referformer import ReferFormerConfig
from vng.models.referformer.losses_referformer import Prediction, generalized_iou, losses, make_targets, match
from vng.models.referformer.modeling_referformer import DeformableAttention, ReferFormerForVNG, level_arguments
from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer

B, N, FRAMES, Q, HEIGHT, WIDTH = 2, 3, 4, 5, 64, 96
TEXT = ("A red ball moves to the left.", "The blue star and the other star stay still.")
SPANS = [[(6, 10)], [(9, 13), (28, 32), (4, 13)]]
WEIGHTS = {"class": 2.0, "box": 5.0, "giou": 2.0, "mask": 2.0, "dice": 5.0}


def tiny_config(**sizes: object) -> ReferFormerConfig:
    backbone = {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 12, 16, 24],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    text = {
        "model_type": "roberta",
        "vocab_size": 300,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 66,
    }
    small = {
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "attention_heads": 4,
        "feedforward_dim": 48,
        "num_points": 2,
        "num_queries": Q,
        "mask_dim": 8,
    }
    return ReferFormerConfig(**{"backbone_config": backbone, "text_config": text, **small, **sizes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def processor() -> ReferFormerProcessor:
    return ReferFormerProcessor(train_tokenizer(TEXT, 300, 64), short_side=0)


@pytest.fixture
def batch(processor: ReferFormerProcessor) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    clips = [torch.randn(FRAMES, 3, HEIGHT, WIDTH), torch.randn(FRAMES, 3, HEIGHT - 7, WIDTH - 20)]
    return {**processor.pad(clips), **processor.text(TEXT, SPANS)}


@pytest.mark.parametrize(
    "sizes", [{}, {"with_box_refine": False}, {"relative_coordinates": False}, {"num_feature_levels": 3}]
)
def test_shapes(batch: dict[str, torch.Tensor], sizes: dict) -> None:
    model = ReferFormerForVNG(tiny_config(**sizes)).eval()
    with torch.no_grad():
        output = model(**batch)
    assert output.logits.shape == (B, N, FRAMES, Q) and output.boxes.shape == (B, N, FRAMES, Q, 4)
    assert output.masks.shape == (B, N, FRAMES, Q, HEIGHT // 4, WIDTH // 4)
    assert output.reference_points.shape == (B, N, FRAMES, Q, 2) and output.loss is None


def test_nouns_share_everything_and_see_nothing_of_each_other(batch: dict[str, torch.Tensor]) -> None:
    model = ReferFormerForVNG(tiny_config()).eval()
    with torch.no_grad():
        together = model(**batch)
        for noun in range(N):
            alone = model(**{**batch, "noun_tokens": batch["noun_tokens"][:, noun : noun + 1]})
            torch.testing.assert_close(
                alone.masks[:, 0].sigmoid(), together.masks[:, noun].sigmoid(), atol=1e-5, rtol=0
            )
            torch.testing.assert_close(alone.logits[:, 0], together.logits[:, noun], atol=1e-5, rtol=0)


def test_the_sentence_conditions_one_noun_at_a_time(batch: dict[str, torch.Tensor]) -> None:
    model = ReferFormerForVNG(tiny_config(conditioning="sentence")).eval()
    nouns = batch.pop("noun_tokens")
    with torch.no_grad():
        alone, none = model(**batch, noun_tokens=nouns[:, :1]), model(**batch)
        assert alone.masks.shape[:2] == (B, 1) and torch.equal(alone.masks, none.masks)
        with pytest.raises(UsageError, match=r"one noun of a narrative, not 3; give one at a time"):
            model(**batch, noun_tokens=nouns)
        with pytest.raises(UsageError, match="requires their tokens"):
            ReferFormerForVNG(tiny_config())(**batch)
    with pytest.raises(UsageError, match="'distilbert' has no pooler"):
        ReferFormerForVNG(
            tiny_config(
                conditioning="sentence", text_config={"model_type": "distilbert", "dim": 8, "n_heads": 2, "n_layers": 1}
            )
        )
    with pytest.raises(ValueError, match="conditioning 'words' is none of noun, sentence"):
        tiny_config(conditioning="words")
    with pytest.raises(ValueError, match="mask_targets 'soft' is none of sampled, averaged"):
        tiny_config(mask_targets="soft")


def test_feature_maps_may_be_given(batch: dict[str, torch.Tensor]) -> None:
    model = ReferFormerForVNG(tiny_config()).eval()
    pixels, nouns = batch["pixel_values"], batch["noun_tokens"]
    rest = {name: batch[name] for name in ("pixel_mask", "input_ids", "attention_mask")}
    with torch.no_grad():
        maps = list(model.backbone(pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last)).feature_maps)
        scenes = [model.encode(pixels, **rest), model.encode(None, **rest, feature_maps=maps)]
        masks = [model.decode(scene, nouns)[-1][2] for scene in scenes]
    torch.testing.assert_close(masks[0], masks[1], atol=1e-5, rtol=0)


def test_half_precision(batch: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    model = ReferFormerForVNG(tiny_config()).eval()
    with torch.no_grad():
        exact = model(**batch)
        model.to(torch.bfloat16)
        rough = model(**batch)
    assert rough.masks.dtype == torch.bfloat16 and rough.boxes.dtype == torch.float32
    assert float((rough.masks.float() - exact.masks).abs().mean()) < 0.1 * float(exact.masks.abs().mean())
    torch.testing.assert_close(rough.boxes, exact.boxes, atol=0.02, rtol=0)


def test_as_it_is_used_it_is_the_same(batch: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    model = ReferFormerForVNG(tiny_config(num_feature_levels=3)).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).masks, model.fused()(**batch).masks, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_the_text_encoder_attends_as_it_is_told(kind: str) -> None:
    model = ReferFormerForVNG._from_config(tiny_config(), attn_implementation=kind)
    assert model.text_encoder.config._attn_implementation == kind


@pytest.mark.parametrize("references", [2, 4])
def test_deformable_attention_is_the_same_on_every_device(references: int) -> None:
    torch.manual_seed(0)
    layer, shapes = DeformableAttention(tiny_config(num_feature_levels=2)), [(3, 5), (2, 1)]
    levels = level_arguments(shapes, torch.device("cpu"))
    query, memory, valid = torch.randn(B, 6, 32), torch.randn(B, 17, 32), torch.rand(B, 17) > 0.2
    reference = torch.rand(B, 6, 2, references)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        theirs = layer(query, attention_mask=valid, encoder_hidden_states=memory, reference_points=reference, **levels)
        torch.testing.assert_close(layer.read(query, memory, valid, reference, levels), theirs[0], atol=1e-5, rtol=1e-5)
        value, places = torch.randn(B, 17, 4, 8), torch.rand(B, 6, 4, 2, 2, 2)
        weights = torch.rand(B, 6, 4, 2, 2)
        wanted = read_levels(value, shapes, places, weights)
        torch.testing.assert_close(layer.sample(value, places, weights, levels), wanted, atol=1e-5, rtol=1e-5)


def test_freezing_survives_loading(tmp_path: Path) -> None:
    from vng.training.grounding.recipe import ModelSettings
    from vng.training.grounding.task import build_model

    config = tiny_config(freeze_text_encoder=True, freeze_batch_norm=True)
    ReferFormerForVNG(config).save_pretrained(tmp_path)
    train_tokenizer(TEXT, 300, 64).save_pretrained(tmp_path)
    model, _ = build_model(ModelSettings(init=str(tmp_path)), None, 0, 640)  # type: ignore[arg-type]
    assert not any(p.requires_grad for p in model.text_encoder.parameters())
    assert not any(p.requires_grad for n, p in model.backbone.named_parameters() if "normalization" in n)
    assert all(p.requires_grad for p in model.controller.parameters())


@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_frozen_stages(kind: str) -> None:
    """The stem and the first stage stay as they are, further ones train."""
    config = tiny_config(frozen_stages=2)
    if kind == "swin":
        swin = {
            "model_type": "swin",
            "embed_dim": 8,
            "depths": [1] * 4,
            "num_heads": [1, 2, 2, 2],
            "window_size": 4,
            "out_features": config.backbone_config.out_features,
        }
        config = tiny_config(frozen_stages=2, backbone_config=swin)
    model = ReferFormerForVNG(config)
    trained = {n for n, p in model.backbone.named_parameters() if p.requires_grad}
    frozen = {n for n, p in model.backbone.named_parameters() if not p.requires_grad and "normalization" not in n}
    first, second = ("stages.0.", "stages.1.") if kind == "resnet" else ("encoder.layers.0.", "encoder.layers.1.")
    assert any(first in name for name in frozen) and any("embed" in name for name in frozen)
    assert not any(first in name for name in trained) and any(second in name for name in trained)


def test_image_padding_is_never_read(processor: ReferFormerProcessor) -> None:
    """What lies in the padding of a smaller clip changes nothing."""
    torch.manual_seed(0)
    model = ReferFormerForVNG(tiny_config()).eval()
    small, large = torch.randn(2, 3, 40, 70), torch.randn(2, 3, HEIGHT, WIDTH)
    batch = {**processor.pad([small, large]), **processor.text(TEXT, SPANS)}
    with torch.no_grad():
        before = model(**batch).logits[0, 0]
        # the backbone's convolutions reach a few pixels over the edge, so only what is far from it may change
        batch["pixel_values"][0, :, :, :, 96:] = 5.0
        torch.testing.assert_close(model(**batch).logits[0, 0], before, atol=1e-4, rtol=0)


def test_padding_changes_nothing(processor: ReferFormerProcessor) -> None:
    """A short narrative and few nouns in a batch with longer ones give what they give alone."""
    torch.manual_seed(0)
    model = ReferFormerForVNG(tiny_config()).eval()
    clips = [torch.randn(FRAMES, 3, HEIGHT, WIDTH) for _ in range(2)]
    both = {**processor.pad(clips), **processor.text(TEXT, SPANS)}
    alone = {**processor.pad(clips[:1]), **processor.text(TEXT[:1], SPANS[:1])}
    with torch.no_grad():
        torch.testing.assert_close(model(**alone).masks[0, 0], model(**both).masks[0, 0], atol=1e-4, rtol=0)


def test_initial_values_are_ours() -> None:
    """transformers leaves alone what it has initialised; a rule that comes too late would leave every weight at 0.02."""
    torch.manual_seed(0)
    model = ReferFormerForVNG(tiny_config())
    for layer in (model.controller.layers[1], model.decoder[0].feedforward.linear1, model.resizer_fc):
        fan = sum(layer.weight.shape)
        assert float(layer.weight.detach().std()) == pytest.approx((2 / fan) ** 0.5, rel=0.2)
    assert float(model.class_embed[0].bias.detach()) == pytest.approx(-4.595, abs=1e-3)
    assert model.bbox_embed[0].layers[-1].bias.tolist() == [0, 0, -2, -2]
    attention = model.encoder[0].self_attn
    assert not attention.sampling_offsets.weight.any() and attention.sampling_offsets.bias.abs().max() == 2
    assert float(model.level_embed.detach().std()) == pytest.approx(1, rel=0.3)


def test_gradients_reach_every_parameter(batch: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    model = ReferFormerForVNG(tiny_config(freeze_batch_norm=False, dropout=0.0)).train()
    with torch.no_grad():
        for parameter in model.parameters():  # some start at zero, and zero weights pass no gradient on
            parameter += 0.02 * torch.randn_like(parameter)
    masks = torch.zeros(B, N, FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    masks[..., 10:30, 20:50] = True
    annotated = batch["noun_tokens"].any(-1)[..., None].expand(-1, -1, FRAMES)
    model(**batch, target_masks=masks, target_annotated=annotated).loss.backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum())]
    # boxes beyond the first layer start from detached references; keys' biases never move a softmax
    assert not [n for n in without if "bias" not in n and "position" not in n and "token_type" not in n], without


def test_frozen_batch_norm_keeps_its_statistics(batch: dict[str, torch.Tensor]) -> None:
    model = ReferFormerForVNG(tiny_config()).train()
    before = model.backbone.embedder.embedder.normalization.running_mean.clone()
    model(**batch)
    assert torch.equal(before, model.backbone.embedder.embedder.normalization.running_mean)


def test_save_and_load(tmp_path: Path, batch: dict[str, torch.Tensor], processor: ReferFormerProcessor) -> None:
    model = ReferFormerForVNG(tiny_config()).eval()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    loaded = ReferFormerForVNG.from_pretrained(tmp_path).eval()
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).masks, model(**batch).masks, atol=1e-4, rtol=0)
    again = ReferFormerProcessor.from_pretrained(tmp_path)
    assert again.short_side == 0 and again.text(TEXT, SPANS)["noun_tokens"].equal(batch["noun_tokens"])


class TestLosses:
    def targets(self, present: list[list[int]], annotated: list[list[int]] | None = None):
        """M nouns over T frames with a 16 x 24 object in 32 x 64 frames where present."""
        seen = torch.tensor(present, dtype=torch.bool)
        known = torch.ones_like(seen) if annotated is None else torch.tensor(annotated, dtype=torch.bool)
        masks = torch.zeros(*seen.shape, 32, 64, dtype=torch.bool)
        masks[:, :, 8:24, 16:40] = seen[..., None, None]
        return make_targets(masks, known, torch.tensor([[32.0, 64.0]]).expand(len(seen), -1), torch.ones(len(seen)))

    def prediction(self, targets, wrong: float = 0.0) -> Prediction:
        """Query 1 of 2 is right, query 0 is empty."""
        right = (targets.masks * 2 - 1) * (20 - wrong)
        masks = torch.stack([torch.full_like(right, -20.0), right], 2)
        boxes = torch.stack([torch.full_like(targets.boxes, 0.5), targets.boxes], 2)
        logits = torch.stack([torch.full(targets.present.shape, -9.0), targets.present.float() * 18 - 9], 2)
        return Prediction(logits, boxes, masks)

    def test_boxes_and_downsampling(self) -> None:
        targets = self.targets([[1, 0]])
        # from the first to the last pixel, as the reference has it
        expected = [(16 + 39) / 2 / 64, (8 + 23) / 2 / 32, 23 / 64, 15 / 32]
        assert targets.boxes[0, 0].tolist() == pytest.approx(expected) and targets.boxes[0, 1].tolist() == [0] * 4
        assert targets.masks.shape == (1, 2, 8, 16) and targets.present.tolist() == [[True, False]]

    def test_thin_objects_are_seen_by_averaged_targets(self) -> None:
        masks = torch.zeros(1, 1, 32, 64, dtype=torch.bool)
        masks[..., 4:12, 17] = True  # one column of pixels, beside those that are sampled
        given = masks, torch.ones(1, 1, dtype=torch.bool), torch.tensor([[32.0, 64.0]]), torch.ones(1)
        sampled, averaged = make_targets(*given), make_targets(*given, averaged=True)
        assert not sampled.masks.any() and averaged.masks.shape == (1, 1, 8, 16)
        expected = torch.zeros(1, 1, 8, 16)
        expected[..., 1:3, 4] = 0.25
        assert averaged.masks.equal(expected) and averaged.boxes.equal(sampled.boxes)

    def test_model_takes_the_targets_it_is_told_to(self, batch: dict[str, torch.Tensor]) -> None:
        torch.manual_seed(0)
        model = ReferFormerForVNG(tiny_config()).eval()
        thin = torch.zeros(B, N, *batch["pixel_mask"].shape[1:], dtype=torch.bool)
        thin[..., 1::4, 1::4] = True  # nowhere where "sampled" looks
        truth = {"target_masks": thin, "target_annotated": torch.ones(B, N, FRAMES, dtype=torch.bool)}
        terms = []
        for model.config.mask_targets in ("sampled", "averaged"):
            terms.append(model(**batch, **truth).loss_terms)
        assert float(terms[0]["box"]) == float(terms[1]["box"])
        assert float(terms[0]["dice"]) != pytest.approx(float(terms[1]["dice"]), abs=1e-3)

    def test_right_prediction_is_matched_and_costs_little(self) -> None:
        targets = self.targets([[1, 1, 0], [1, 0, 1]])
        assert match(self.prediction(targets), targets, WEIGHTS).tolist() == [1, 1]
        for name, value in losses(self.prediction(targets), targets, WEIGHTS).items():
            assert float(value) == pytest.approx(0.5 if name == "giou" else 0, abs=1e-3), (
                name
            )  # absent frames have no box

    def test_null_frames_train_nothing_absent_ones_do(self) -> None:
        null, absent = self.targets([[1, 0]], [[1, 0]]), self.targets([[1, 0]])
        for targets, trains in ((null, False), (absent, True)):
            prediction = self.prediction(targets)
            changed = Prediction(prediction.logits + 10, prediction.boxes, prediction.masks.clone())
            changed.masks[:, 1] = 20.0  # everything in the second frame
            changed.logits[:, 0] = prediction.logits[:, 0]
            before, after = (losses(p, targets, WEIGHTS) for p in (prediction, changed))
            for name in ("class", "mask", "dice"):
                assert (float(after[name]) > float(before[name]) + 1e-4) == trains, (name, trains)

    def test_weights_scale_objects(self) -> None:
        targets = self.targets([[1, 1], [1, 1]])
        light = make_targets(
            torch.ones(2, 2, 32, 64, dtype=torch.bool),
            torch.ones(2, 2, dtype=torch.bool),
            torch.ones(2, 2) * 32,
            torch.tensor([1.0, 0.0]),
        )
        assert light.weight.tolist() == [1, 0] and targets.weight.tolist() == [1, 1]
        prediction = self.prediction(targets)
        broken = Prediction(prediction.logits, prediction.boxes, prediction.masks.clone())
        broken.masks[1] = -20.0
        silent = losses(
            broken,
            type(targets)(targets.masks, targets.boxes, targets.present, targets.annotated, torch.tensor([1.0, 0.0])),
            WEIGHTS,
        )
        assert float(silent["dice"]) == pytest.approx(0, abs=1e-3)

    def test_generalized_iou(self) -> None:
        box = torch.tensor([0.5, 0.5, 0.2, 0.2])
        assert float(generalized_iou(box, box)) == pytest.approx(1)
        beside = torch.tensor([0.9, 0.5, 0.2, 0.2])
        assert float(generalized_iou(box, beside)) == pytest.approx(-(0.6 - 0.4) / 0.6, abs=1e-6)
        nothing = torch.zeros(4)
        assert torch.isfinite(generalized_iou(nothing, nothing)) and torch.isfinite(generalized_iou(box, nothing))


class TestProcessor:
    def test_noun_tokens_follow_the_raw_text(self, processor: ReferFormerProcessor) -> None:
        text = "The  red   ball, the Ball"
        encoded = processor.text([text], [[(11, 15), (21, 25)]])
        tokens = processor.tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])
        for noun, expected in zip(encoded["noun_tokens"][0], ("ball", "Ball"), strict=True):
            assert "".join(t for t, on in zip(tokens, noun.tolist(), strict=True) if on).replace("Ġ", "") == expected

    def test_no_nouns_and_long_text(self, processor: ReferFormerProcessor) -> None:
        assert processor.text(["A ball."], [[]])["noun_tokens"].shape[1] == 0
        with pytest.raises(DataError, match="the text encoder takes at most 64"):
            processor.text(["ball " * 99], [[(0, 4)]])

    def test_sizes(self, processor: ReferFormerProcessor) -> None:
        scaling = ReferFormerProcessor(processor.tokenizer, 36, 64)
        assert scaling.target_size(480, 854) == (36, 64) and scaling.target_size(100, 100) == (36, 36)
        assert scaling.target_size(100, 400) == (16, 64)
        frames = scaling.frames([np.full((72, 100, 3), 128, np.uint8)] * 2)
        assert frames.shape == (2, 3, 36, 50) and abs(float(frames.mean())) < 1
        padded = scaling.pad([frames])
        assert padded["pixel_values"].shape == (1, 2, 3, 64, 64) and padded["pixel_mask"].sum() == 2 * 36 * 50
        masks = scaling.upsample(torch.ones(5, 16, 16), (36, 50), (72, 100))
        assert masks.shape == (5, 72, 100)
