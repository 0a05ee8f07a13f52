"""The SAM engine on tiny random models of its three generations, saved to disk and loaded as a user would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import copy
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Sam2Config,
    Sam2Model,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3TrackerConfig,
    Sam3TrackerModel,
    Sam3TrackerVideoConfig,
    Sam3TrackerVideoModel,
    SamConfig,
    SamHQConfig,
    SamHQModel,
    SamModel,
    SamProcessor,
)
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from vng import segmenters
from vng.errors import DataError, UsageError
from vng.points import PointPrompts, medoids, trim_trace
from vng.segmenters.sam import Ask, SamSegmenter, SamSettings, SquareFit, _agreement

H, W = 37, 53
NONE = np.empty((0, 2))
FAMILIES = ("sam", "sam_hq", "sam2", "sam3")
DECODER = {"hidden_size": 16, "mlp_dim": 24, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
PLAIN = {**DECODER, "dynamic_multimask_via_stability": False}  # else "single" may give what "iou" gives
PROMPTS = {"hidden_size": 16, "mask_input_channels": 16}
VIDEO = {
    "memory_attention_hidden_size": 16,
    "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 16,
    "memory_attention_rope_feat_sizes": [4, 4],
    "memory_encoder_hidden_size": 16,
    "memory_encoder_output_channels": 8,
    "mask_downsampler_embed_dim": 16,
    "memory_fuser_embed_dim": 16,
    "memory_fuser_intermediate_dim": 16,
}


def sam_parts() -> dict[str, Any]:
    vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32}
    vision |= {"image_size": 64, "patch_size": 16, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 8}
    prompts = {**PROMPTS, "image_size": 64, "patch_size": 16}
    return {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": DECODER}


def sam_hq_parts() -> dict[str, Any]:
    parts = sam_parts()
    return {**parts, "mask_decoder_config": {**DECODER, "vit_dim": 16}}


def sam2_parts() -> dict[str, Any]:
    hiera = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [64, 64],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 24, 32],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [4, 2, 2, 2],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [2, 2],
    }
    vision = {"model_type": "sam2_vision_model", "backbone_config": hiera, "backbone_channel_list": [32, 24, 16, 8]}
    vision |= {"backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 16}
    prompts = {**PROMPTS, "image_size": 64, "patch_size": 16}
    return {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": PLAIN}


def sam3_parts() -> dict[str, Any]:
    vit = {"model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    vit |= {"num_attention_heads": 2, "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1]}
    vision = {"model_type": "sam3_vision_model", "backbone_config": {**vit, "pretrain_image_size": 28}}
    vision |= {"backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 16}
    prompts = {**PROMPTS, "image_size": 56, "patch_size": 14}
    return {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": PLAIN}


MAKERS: dict[str, Callable[[], Any]] = {
    "sam": lambda: SamModel(SamConfig(**sam_parts())),
    "sam_hq": lambda: SamHQModel(SamHQConfig(**sam_hq_parts())),
    "sam2": lambda: Sam2Model(Sam2Config(**sam2_parts())),
    "sam3": lambda: Sam3TrackerModel(Sam3TrackerConfig(**sam3_parts())),
    "sam2_video": lambda: Sam2VideoModel(Sam2VideoConfig(**sam2_parts(), **VIDEO, image_size=64)),
    "sam3_tracker_video": lambda: Sam3TrackerVideoModel(Sam3TrackerVideoConfig(**sam3_parts(), **VIDEO, image_size=56)),
}


def save_tiny(name: str, folder: Path) -> Path:
    """A model whose masks hang on its prompts, which plain initialisation does not give."""
    torch.manual_seed(0)
    model = MAKERS[name]()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" not in key:
                fine = any(part in key for part in ("compress", "encoder_conv", "mask_conv", "hq_"))  # HQ-SAM's own
                parameter.normal_(0, 0.1 if key.startswith("vision") or fine else 1.0 if "embed" in key else 0.5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder a generation."""
    return {name: save_tiny(name, tmp_path_factory.mktemp(name)) for name in FAMILIES}


@pytest.fixture(params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Path:
    """A folder with a tiny model, of each generation in turn."""
    return checkpoints[request.param]


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    """uint8 [H, W, 3]."""
    return rng.integers(0, 256, (H, W, 3), np.uint8)


@cache
def loaded(checkpoint: Path) -> SamSegmenter:
    return SamSegmenter(checkpoint, device="cpu")


def segmenter(checkpoint: Path, fresh: bool = False, **settings: Any) -> SamSegmenter:
    """An engine with settings; its model is shared among the tests unless they are to change it."""
    engine = SamSegmenter(checkpoint, device="cpu") if fresh else copy(loaded(checkpoint))
    engine.settings = SamSettings(**{"negatives_of_others": "never", **settings})
    return engine


def many_prompts(rng: np.random.Generator) -> list[PointPrompts]:
    """Objects with every kind of prompt and unequal numbers of points."""
    size = [W - 1, H - 1]
    prompts = [PointPrompts(rng.random((p, 2)) * size, rng.random((n, 2)) * size) for p, n in ((1, 0), (3, 5), (2, 0))]
    mask = np.hypot(*(np.mgrid[:H, :W] - np.array([[[20]], [[30]]]))) < 9
    return [
        *prompts,
        PointPrompts(rng.random((1, 2)) * size, NONE, box=np.array([5, 6, 30, 31])),
        PointPrompts(rng.random((4, 2)) * size, rng.random((1, 2)) * size, box=np.array([15, 3, 40, 20])),
        PointPrompts(NONE, NONE, box=np.array([1, 2, 20, 33])),
        PointPrompts(NONE, NONE, mask=mask),
        PointPrompts(rng.random((2, 2)) * size, NONE, mask=mask.astype(np.float32) * 0.9),
        PointPrompts(NONE, rng.random((2, 2)) * size, box=np.array([1, 2, 20, 33]), mask=mask),
        PointPrompts(NONE, rng.random((2, 2)) * size),  # nothing says where it is
        PointPrompts(rng.random((40, 2)) * size, NONE, trace=True),
    ]


class TestAnswers:
    def test_shape_and_range(self, checkpoint: Path, image: np.ndarray, rng: np.random.Generator) -> None:
        prompts = many_prompts(rng)
        result = segmenter(checkpoint)(image, prompts)
        assert result.shape == (len(prompts), H, W) and result.dtype == np.float32
        assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1
        told = [bool(mask.any()) for mask in result]
        assert told == [k != 9 for k in range(len(prompts))] and not result[9].any()

    def test_nothing_asked(self, checkpoint: Path, image: np.ndarray) -> None:
        engine = segmenter(checkpoint)
        assert engine(image, []).shape == (0, H, W)
        empty = PointPrompts(NONE, NONE, mask=np.zeros((H, W)))
        assert not engine(image, [PointPrompts(NONE, [[3, 3]]), empty]).any()

    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 2), (120, 31)])
    def test_any_size(self, checkpoint: Path, size: tuple[int, int]) -> None:
        tiny = np.full((*size, 3), 90, np.uint8)
        prompt = PointPrompts([[size[1] // 2, size[0] // 2]], NONE, mask=np.ones(size))
        result = segmenter(checkpoint, refinements=1)(tiny, [prompt])
        assert result.shape == (1, *size) and np.isfinite(result).all()

    @pytest.mark.parametrize("chunk", [1, 3, 32])
    def test_a_batch_is_its_objects_one_by_one(
        self, checkpoint: Path, image: np.ndarray, rng: np.random.Generator, chunk: int
    ) -> None:
        prompts = many_prompts(rng)
        together = segmenter(checkpoint, chunk=chunk, refinements=1)(image, prompts)
        engine = segmenter(checkpoint, refinements=1)
        alone = np.concatenate([engine(image, [prompt]) for prompt in prompts])
        np.testing.assert_allclose(together, alone, atol=2e-5)

    def test_padding_is_not_seen(self, checkpoint: Path, image: np.ndarray) -> None:
        few, many = (
            PointPrompts([[9, 8], [30, 4]], [[2, 2]]),
            PointPrompts(np.mgrid[3:30:8, 2:40:9].reshape(2, -1).T, NONE),
        )
        engine = segmenter(checkpoint, fresh=True, choice="single")
        alone, together = engine(image, [few])[0], engine(image, [few, many])[0]
        np.testing.assert_allclose(together, alone, atol=2e-5)
        del engine.model.mask_decoder.transformer.forward  # what transformers' padding does by itself
        np.testing.assert_allclose(engine(image, [few])[0], alone, atol=2e-5)
        assert abs(engine(image, [few, many])[0] - alone).max() > 1e-3

    def test_the_image_is_encoded_once(
        self, checkpoint: Path, image: np.ndarray, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine, calls = segmenter(checkpoint, refinements=2, chunk=2), []
        encode = engine.model.get_image_embeddings
        monkeypatch.setattr(engine.model, "get_image_embeddings", lambda pixels: calls.append(1) or encode(pixels))
        engine(image, many_prompts(rng))
        assert len(calls) == 1

    def test_encoded_images_are_not_mixed_up(
        self, checkpoint: Path, image: np.ndarray, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine, prompts = segmenter(checkpoint), many_prompts(rng)
        expected, mirrored = engine(image, prompts), engine(image[:, ::-1].copy(), prompts)
        first, second = engine.encoded(image), engine.encoded(image[:, ::-1].copy())
        calls = []
        monkeypatch.setattr(engine, "_encode", lambda *a, own=engine._encode: calls.append(1) or own(*a))
        for _ in range(2):
            assert np.array_equal(first(prompts), expected) and np.array_equal(second(prompts), mirrored)
        assert len(calls) == 2  # one an image, for all calls

    def test_half_precision_stays_near(self, checkpoint: Path, image: np.ndarray, rng: np.random.Generator) -> None:
        prompts = many_prompts(rng)
        full, half = (segmenter(checkpoint, half=flag, choice="single")(image, prompts) for flag in (False, True))
        assert half.dtype == np.float32 and abs(full - half).max() > 0
        assert abs(full - half).mean() < 0.05


class TestPrompts:
    def test_each_kind_changes_the_mask(self, checkpoint: Path, image: np.ndarray) -> None:
        engine = segmenter(checkpoint, choice="single")
        point = [[20, 11]]
        kinds = [
            PointPrompts(point, NONE),
            PointPrompts(point, [[40, 30]]),
            PointPrompts(point, NONE, box=np.array([3, 4, 30, 31])),
            PointPrompts(point, NONE, mask=np.eye(H, W) > 0),
            PointPrompts([[21, 30]], NONE),
        ]
        masks = engine(image, kinds)
        for i in range(len(kinds)):
            for j in range(i):
                assert abs(masks[i] - masks[j]).max() > 1e-3, (i, j)

    def test_a_point_is_where_it_is_said_to_be(self, checkpoint: Path) -> None:
        """Stretched or padded, a position in the image reaches the model scaled as the processors do."""
        engine = segmenter(checkpoint)
        fit = engine._fit(H, W)
        if engine.family.keeps_aspect:
            assert (fit.rows, fit.columns) == (45, 64)  # 37 * 64 / 53 = 44.7
        else:
            assert fit.rows == fit.columns == fit.side
        expected = [[10 * fit.columns / W, 20 * fit.rows / H]]
        np.testing.assert_allclose(fit.to_square(np.array([[10, 20]], np.float32)), expected, rtol=1e-6)

    def test_other_objects_are_negatives(self, checkpoint: Path, image: np.ndarray) -> None:
        a, b, c = [[9, 8], [12, 9]], [[40, 30]], [[30, 5]]
        alone = segmenter(checkpoint, choice="single")
        pair = [PointPrompts(a, [[1, 1]]), PointPrompts(b, NONE)]
        told = alone(image, [PointPrompts(a, [[1, 1], *b]), PointPrompts(b, a)])
        shared = segmenter(checkpoint, choice="single", negatives_of_others="points")(image, pair)
        np.testing.assert_allclose(shared, told, atol=2e-5)
        assert abs(shared - alone(image, pair)).max() > 1e-3
        # A mouse trace neither gives nor takes negatives, unless told to
        traced = [*pair, PointPrompts(c, NONE, trace=True)]
        by_default = segmenter(checkpoint, choice="single", negatives_of_others="points")(image, traced)
        np.testing.assert_allclose(by_default, np.concatenate([shared, alone(image, traced[2:])]), atol=2e-5)
        always = segmenter(checkpoint, choice="single", negatives_of_others="always")(image, traced)
        told = alone(image, [PointPrompts(a, [[1, 1], *b, *c]), PointPrompts(b, [*a, *c]), PointPrompts(c, [*a, *b])])
        np.testing.assert_allclose(always, told, atol=2e-5)

    def test_only_the_nearest_of_others(self, checkpoints: dict[str, Path], image: np.ndarray) -> None:
        prompts = [PointPrompts([[5, 5]], NONE), PointPrompts([[40, 30], [9, 5], [50, 1]], NONE)]
        engine = segmenter(checkpoints["sam2"], negatives_of_others="points", most_of_others=1)
        asks = engine._asks(engine._fit(64, 64), prompts)  # an image as large as the square: coordinates stay
        assert asks[0] is not None and asks[0].points.tolist() == [[5, 5], [9, 5]] and asks[0].labels.tolist() == [1, 0]

    def test_a_trace_gives_a_few_points_of_its_middle(
        self, checkpoint: Path, image: np.ndarray, rng: np.random.Generator
    ) -> None:
        on, off = rng.normal([20, 15], 3, (80, 2)), rng.normal([48, 33], 1, (15, 2))
        trace = np.concatenate([on[:40], off, on[40:]]).astype(np.float32)
        chosen = medoids(trim_trace(trace, 0.73), 6)
        assert 3 <= len(chosen) <= 6 and (np.linalg.norm(chosen - [20, 15], axis=1) < 12).all()
        engine = segmenter(checkpoint)
        traced = engine(image, [PointPrompts(trace, NONE, trace=True)])
        np.testing.assert_allclose(traced, engine(image, [PointPrompts(chosen, NONE)]), atol=2e-5)

    def test_a_mask_of_another_size_is_refused(self, checkpoint: Path, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match=f"mask prompt of 4x5 in an image of {W}x{H}"):
            segmenter(checkpoint)(image, [PointPrompts(NONE, NONE, mask=np.ones((5, 4)))])


class TestChoice:
    def test_by_predicted_iou_or_by_agreement(self, checkpoint: Path, image: np.ndarray) -> None:
        prompt = PointPrompts([[9, 8], [30, 20]], [[44, 5], [3, 30]])
        engine = segmenter(checkpoint, choice="iou")
        fit = engine._fit(H, W)
        ask = engine._asks(fit, [prompt])[0]
        assert ask is not None
        levels, early = engine._encode(image, fit), engine.family.early_map
        answer = engine.model(
            image_embeddings=levels if len(levels) > 1 and not early else levels[0],
            **({"intermediate_embeddings": [levels[1].permute(0, 2, 3, 1)]} if early else {}),
            input_points=torch.from_numpy(ask.points)[None, None],
            input_labels=torch.from_numpy(ask.labels)[None, None],
            multimask_output=True,
        )
        masks = fit.to_image(answer.pred_masks[0, 0].detach()).sigmoid().numpy()
        best = int(answer.iou_scores[0, 0].argmax())
        np.testing.assert_allclose(engine(image, [prompt])[0], masks[best], atol=2e-5)
        shares = _agreement(answer.pred_masks[0, 0], ask, fit.side)
        agreeing = segmenter(checkpoint, choice="agreement")(image, [prompt])[0]
        equal = [np.allclose(agreeing, mask, atol=2e-5) for mask in masks]
        assert sum(equal) == 1 and shares[equal.index(True)] == shares.max()

    def test_auto_asks_for_several_only_where_one_point_is_all(self, checkpoint: Path, image: np.ndarray) -> None:
        one, two = PointPrompts([[9, 8]], NONE), PointPrompts([[9, 8], [30, 20]], NONE)
        auto, iou, single = (segmenter(checkpoint, choice=c)(image, [one, two]) for c in ("auto", "iou", "single"))
        np.testing.assert_allclose(auto, [iou[0], single[1]], atol=2e-5)
        assert abs(iou - single).max() > 1e-3

    def test_agreement_of_known_masks(self) -> None:
        masks = torch.tensor([[[1.0, 1], [-1, -1]], [[1, -1], [1, -1]], [[-1, -1], [-1, -1]]])
        ask = Ask(np.array([[0, 0], [7, 1], [7, 7]], np.float32), np.array([1, 1, 0]), None, None)
        assert _agreement(masks, ask, 8).tolist() == pytest.approx([1, 2 / 3, 1 / 3])
        assert _agreement(masks, Ask(NONE, np.empty(0), None, None), 8).tolist() == [1, 1, 1]


class TestRefinement:
    def test_passes_feed_the_mask_back(self, checkpoint: Path, image: np.ndarray) -> None:
        prompt = PointPrompts([[9, 8], [30, 20]], [[44, 5]])
        plain, once, twice, without = (
            segmenter(checkpoint, choice="single", **options)(image, [prompt])
            for options in ({}, {"refinements": 1}, {"refinements": 2}, {"refinements": 1, "refine_with_box": False})
        )
        for other in (once, twice, without):
            assert abs(plain - other).max() > 1e-3
        assert abs(once - without).max() > 1e-3 and abs(once - twice).max() > 1e-4

    def test_what_goes_back(self, checkpoint: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        engine = segmenter(checkpoint, refinements=1)
        fit = engine._fit(H, W)
        given: list[Ask] = []
        monkeypatch.setattr(engine, "_decode", lambda levels, asks, several: (given.extend(asks), logits[:2] + 1)[1])
        logits = torch.full((3, fit.low, fit.low), -40.0)
        logits[0, 2:5, 3:9], logits[1, 4:8, 1:3] = 50.0, 2.0  # the third is empty and stays out
        boxed = np.array([1, 2, 3, 4], np.float32)
        asks = [Ask(np.ones((1, 2), np.float32), np.ones(1), box, None) for box in (None, boxed, None)]
        refined = engine._refine([], asks, logits, fit)
        pixel = fit.side / fit.low
        assert given[0].box is not None and given[0].mask is not None
        assert given[0].box.tolist() == [3 * pixel, 2 * pixel, 9 * pixel - 1, 5 * pixel - 1]
        assert given[1].box is boxed and given[0].mask.min() == -32 and given[0].mask.max() == 32
        assert torch.equal(refined, torch.stack([logits[0] + 1, logits[1] + 1, logits[2]]))


class TestFit:
    FITS = (
        SquareFit(H, W, 22, 32, 32, 32),
        SquareFit(53, 37, 32, 22, 32, 8),
        SquareFit(H, W, 56, 56, 56, 16),
        SquareFit(60, 20, 64, 64, 64, 16),
    )

    @pytest.mark.parametrize("fit", FITS)
    def test_a_ramp_comes_back_as_a_ramp(self, fit: SquareFit) -> None:
        """Logits that hold their own position, in pixels of the image, are worth just that at each pixel."""
        place = (torch.arange(fit.low) + 0.5) * fit.side / fit.low
        x, y = place * fit.width / fit.columns - 0.5, place * fit.height / fit.rows - 0.5
        back = fit.to_image(torch.stack([x.expand(fit.low, -1), y[:, None].expand(-1, fit.low)]))
        assert back.shape == (2, fit.height, fit.width)
        for got, length, axis in ((back[0], fit.width, 1), (back[1], fit.height, 0)):
            rim = int(length / fit.low) + 1  # half a logit's width at the rim is level
            inner = slice(rim, length - rim)
            along = got.mean(1 - axis)[inner]
            np.testing.assert_allclose(along, np.arange(length)[inner], atol=1e-3)

    @pytest.mark.parametrize("fit", FITS)
    def test_a_mask_goes_there_and_back(self, fit: SquareFit) -> None:
        mask = np.zeros((fit.height, fit.width), np.float32)
        mask[fit.height // 4 : fit.height * 3 // 4, fit.width // 4 : fit.width * 2 // 3] = 1
        logits = fit.to_logits(mask)
        assert logits.shape == (fit.low, fit.low)
        assert (float(logits.min()), float(logits.max())) == pytest.approx((-10, 10))
        back = fit.to_image(logits[None])[0].numpy() > 0
        assert (back & (mask > 0)).sum() / (back | (mask > 0)).sum() > 0.75

    def test_box_of_a_mask(self) -> None:
        fit = SquareFit(H, W, 22, 32, 32, 16)
        mask = torch.zeros(16, 16, dtype=torch.bool)
        assert fit.box_of(mask) is None
        mask[3:5, 2:9] = True
        box = fit.box_of(mask)
        assert box is not None and box.tolist() == [4, 6, 17, 9]
        mask[15] = True  # below the image, in the padding
        box = fit.box_of(mask)
        assert box is not None and box.tolist() == [0, 6, 31, 21]
        thin = SquareFit(H, W, 22, 32, 32, 32)
        assert thin.box_of(torch.eye(32, dtype=torch.bool) & (torch.arange(32) == 4)) is None


def test_like_transformers_own_sam(checkpoints: dict[str, Path], image: np.ndarray) -> None:
    """The engine against SamProcessor, SamModel and post_process_masks, which need no torchvision."""
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    processor = SamProcessor(SamImageProcessorPil(**sizes))
    points, labels = [[9.0, 8], [30, 20], [44, 5]], [1, 1, 0]
    inputs = processor(image, input_points=[[points]], input_labels=[[labels]], return_tensors="pt")
    engine = segmenter(checkpoints["sam"], fresh=True, choice="iou")
    fit = engine._fit(H, W)
    assert [fit.rows, fit.columns] == inputs["reshaped_input_sizes"][0].tolist()
    seen: list[torch.Tensor] = []
    engine.model.vision_encoder.register_forward_pre_hook(lambda _, pixels: seen.append(pixels[0]))
    ours = engine(image, [PointPrompts(points[:2], points[2:])])[0]
    assert abs(seen[0] - inputs["pixel_values"]).max() < 1.5 / 255 / 0.224  # rounding of one grey level
    with torch.no_grad():
        answer = SamModel.from_pretrained(checkpoints["sam"])(
            pixel_values=inputs["pixel_values"].float(),
            input_points=inputs["input_points"].float(),
            input_labels=inputs["input_labels"],
        )
    masks = processor.post_process_masks(
        answer.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"], binarize=False
    )[0][0]
    theirs = masks[answer.iou_scores[0, 0].argmax()].sigmoid().numpy()
    assert abs(ours - theirs).max() < 0.1 and abs(ours - theirs).mean() < 0.01  # one bilinear step, not two
    assert ((ours > 0.5) == (theirs > 0.5)).mean() > 0.97  # of a mask as fine as noise


class TestCheckpoints:
    def test_by_name(self, checkpoints: dict[str, Path], image: np.ndarray) -> None:
        prompts = [PointPrompts([[9, 8]], NONE)]
        for name in segmenters.NEEDS_CHECKPOINT:
            if name in checkpoints:
                engine = segmenters.load(name, checkpoint=str(checkpoints[name]), device="cpu")
                assert engine(image, prompts).shape == (1, H, W)

    def test_none_named(self) -> None:
        with pytest.raises(UsageError, match=r"name a checkpoint: facebook/sam2\.1-hiera-tiny"):
            segmenters.load("sam2")

    def test_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no/such-model: no model loads from here .*or check the network"):
            SamSegmenter("no/such-model")
        with pytest.raises(DataError, match=r"no model here \(no config.json\)"):
            SamSegmenter(tmp_path)

    def test_another_model(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
        with pytest.raises(DataError, match="a 'resnet' model; expected one of sam, sam2, sam2_video, sam3_tracker"):
            SamSegmenter(tmp_path)
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(DataError, match="no model loads from here"):
            SamSegmenter(tmp_path)

    @pytest.mark.parametrize("name", FAMILIES)
    def test_wrong_weights_are_named(self, name: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
        folder = shutil.copytree(checkpoints[name], tmp_path / "copy")
        weights = load_file(folder / "model.safetensors")
        gone, misfit = "mask_decoder.iou_token.weight", "prompt_encoder.no_mask_embed.weight"
        inside = "tracker_model." if name == "sam3" else ""  # how transformers saves a tracker
        weights["neck.surplus"] = weights.pop(inside + gone)
        weights[inside + misfit] = weights[inside + misfit][:, :-1].contiguous()
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(DataError) as caught:
            SamSegmenter(folder)
        text = str(caught.value)
        assert (
            f"1 missing: {gone}; 1 unknown: neck.surplus; 1 of another size: {misfit}" in text and str(folder) in text
        )

    def test_only_whole_safetensors(self, checkpoints: dict[str, Path], tmp_path: Path) -> None:
        folder = shutil.copytree(checkpoints["sam2"], tmp_path / "copy")
        file = folder / "model.safetensors"
        torch.save(load_file(file), folder / "pytorch_model.bin")
        file.write_bytes(file.read_bytes()[:1000])
        with pytest.raises(DataError, match=r"no model loads from here .*whole safetensors"):
            SamSegmenter(folder)
        file.unlink()
        with pytest.raises(DataError, match=r"no model loads from here .*whole safetensors"):
            SamSegmenter(folder)

    @pytest.mark.parametrize("name", ["sam2_video", "sam3_tracker_video"])
    def test_video_models_hold_the_image_model(self, name: str, tmp_path: Path, image: np.ndarray) -> None:
        engine = segmenter(save_tiny(name, tmp_path))
        weights = load_file(tmp_path / "model.safetensors")
        for key, value in engine.model.state_dict().items():
            assert any(torch.equal(w, value) for k, w in weights.items() if k.endswith(key.split(".", 1)[-1])), key
        assert engine(image, [PointPrompts([[9, 8]], NONE)]).any()

    def test_the_whole_of_sam3(self, checkpoints: dict[str, Path], tmp_path: Path, image: np.ndarray) -> None:
        """facebook/sam3 keeps the tracker beside a detector, whose backbone it shares."""
        weights = {"detector_model.text_encoder.weight": torch.ones(3)}
        weights["detector_model.vision_encoder.neck.fpn_layers.0.proj1.weight"] = torch.ones(5)  # the detector's own
        for key, value in load_file(checkpoints["sam3"] / "model.safetensors").items():
            inner = key.removeprefix("tracker_model.")
            weights[inner if inner.startswith(("detector_model.", "tracker_neck.")) else key] = value
        assert {key.split(".")[0] for key in weights} == {"detector_model", "tracker_neck", "tracker_model"}
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
        tracker = Sam3TrackerVideoConfig(**sam3_parts(), **VIDEO, image_size=56).to_dict()
        config = {"model_type": "sam3_video", "architectures": ["Sam3VideoModel"], "tracker_config": tracker}
        (tmp_path / "config.json").write_text(json.dumps(config))
        prompts = [PointPrompts([[9, 8]], NONE)]
        expected = segmenter(checkpoints["sam3"])(image, prompts)
        np.testing.assert_allclose(segmenter(tmp_path)(image, prompts), expected, atol=1e-6)

    @pytest.mark.parametrize("name", FAMILIES)
    def test_the_checkpoint_s_own_normalisation(self, name: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
        usual = segmenter(checkpoints[name])
        assert usual._mean.flatten().tolist() == pytest.approx([0.5] * 3 if name == "sam3" else [0.485, 0.456, 0.406])
        folder = shutil.copytree(checkpoints[name], tmp_path / "copy")
        file = folder / "preprocessor_config.json"
        file.write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}))
        own = SamSegmenter(folder)
        assert own._mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
        assert own._std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
        file.write_text(json.dumps({"image_mean": [0.1, 0.2], "image_std": [0.4, 0.5, 0.6]}))
        with pytest.raises(DataError, match=r"preprocessor_config.json: image_mean: image_mean \[0.1, 0.2\]"):
            SamSegmenter(folder)

    def test_no_such_device(self, checkpoints: dict[str, Path]) -> None:
        with pytest.raises(UsageError, match="no device 'abacus' here"):
            SamSegmenter(checkpoints["sam"], device="abacus")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"choice": "best"}, "unknown choice 'best'; choose one of: agreement, auto, iou, single"),
        ({"negatives_of_others": "x"}, "unknown negatives_of_others 'x'; choose one of: always, never, points"),
        ({"refinements": -1}, "refinements is -1; give 0 or more"),
        ({"chunk": 0}, "chunk is 0; give 1 or more"),
        ({"trace_points": 0}, "trace_points is 0; give 1 or more"),
    ],
)
def test_wrong_settings(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SamSettings(**setting)
    assert asdict(SamSettings())["refinements"] == 0


class TestPointPrompts:
    def test_box_and_mask_are_checked(self) -> None:
        prompt = PointPrompts(NONE, NONE, box=[1, 2, 3, 4], mask=np.eye(3, 4) > 0)
        assert prompt.box is not None and prompt.box.dtype == np.float32
        assert prompt.mask is not None and prompt.mask.dtype == np.float32 and prompt.mask.sum() == 3
        for box in ([1, 2, 3], [3, 2, 1, 4], [1, 4, 3, 2], [1, 2, np.nan, 4]):
            with pytest.raises(ValueError, match="expected x0 <= x1 and y0 <= y1"):
                PointPrompts(NONE, NONE, box=box)
        for mask in (np.zeros(3), np.full((2, 3), 1.5), np.full((2, 3), np.nan)):
            with pytest.raises(ValueError, match=r"expected \[H, W\] in \[0, 1\]"):
                PointPrompts(NONE, NONE, mask=mask)

    def test_trim_trace(self) -> None:
        line = np.stack([np.arange(11), np.zeros(11)], 1)
        assert trim_trace(line, 0.6)[:, 0].tolist() == [2, 3, 4, 5, 6, 7, 8]
        assert len(trim_trace(line[:3], 0.1)) == 3 and len(trim_trace(NONE, 0.7)) == 0

    def test_medoids(self) -> None:
        groups = np.concatenate(
            [centre + np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) for centre in (0, 20, 50)]
        )
        assert medoids(groups, 3).tolist() == [[0, 0], [20, 20], [50, 50]]
        assert medoids(groups, 15) is groups and medoids(NONE, 4) is NONE
        assert len(medoids(np.ones((9, 2)), 4)) == 1


class TestDecoder:
    """Passes over one image, as SAM-PT makes them."""

    def test_feedback_is_what_refinement_feeds_back(self, checkpoint: Path, image: np.ndarray) -> None:
        prompts = [PointPrompts([[9, 8], [30, 20]], [[44, 5]]), PointPrompts([[20, 30]], [[3, 3]])]
        decode = segmenter(checkpoint).decoder(image)
        first = decode(prompts, None)
        assert first.logits.shape == (2, H, W) and first.scores.shape == (2,) and len(first.feedback) == 2
        plain = segmenter(checkpoint, choice="single")(image, prompts)
        np.testing.assert_allclose(1 / (1 + np.exp(-first.logits)), plain, atol=2e-5)
        again = decode(prompts, first.feedback)
        refined = segmenter(checkpoint, choice="single", refinements=1, refine_with_box=False)(image, prompts)
        np.testing.assert_allclose(1 / (1 + np.exp(-again.logits)), refined, atol=5e-5)

    def test_a_pass_without_positives(self, checkpoint: Path, image: np.ndarray) -> None:
        found = segmenter(checkpoint).decoder(image)([PointPrompts(NONE, [[5, 5]])], None)
        assert np.isfinite(found.logits).all() and found.feedback[0] is not None


def test_an_engine_without_feedback_repeats_its_masks(image: np.ndarray) -> None:
    engine = segmenters.load("classical")
    prompts = [PointPrompts([[20, 20]], [[2, 2]])]
    first = engine.decoder(image)(prompts, None)
    assert not engine.takes_feedback and first.feedback == (None,) and first.scores.tolist() == [1]
    assert ((first.logits > 0) == (engine(image, prompts) > 0.5)).all()
