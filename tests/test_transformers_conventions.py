"""What a user of `transformers` tries first: each snippet of the table in docs/python.md, by its number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoProcessor, BatchFeature, RobertaConfig, pipeline

import vng
from vng.errors import UsageError
from vng.models.clicknet.modeling_clicknet import ClickNet
from vng.models.loading import shipped_weights
from vng.models.referformer.configuration_referformer import ReferFormerConfig
from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer
from vng.models.stcn.modeling_stcn import Stcn

TEXT = "A red [ball] meets the other [ball]."
H, W = 60, 90


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny grounder and its processor."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    backbone = {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 12, 16, 20],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    text = RobertaConfig(
        vocab_size=300,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=70,
    )
    config = ReferFormerConfig(
        backbone_config=backbone,
        text_config={"model_type": "roberta", **text.to_diff_dict()},
        d_model=32,
        num_queries=3,
        encoder_layers=1,
        decoder_layers=2,
        encoder_heads=2,
        feedforward_dim=16,
        mask_dim=8,
    )
    vng.ReferFormerForVNG(config).save_pretrained(folder)
    ReferFormerProcessor(train_tokenizer([TEXT], 300, 64), short_side=48, long_side=96).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """uint8 [T, H, W, 3]."""
    return np.random.default_rng(0).integers(0, 255, (3, H, W, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def model(run: str) -> Any:
    """The grounder, by its Auto class."""
    return AutoModel.from_pretrained(run).eval()


@pytest.fixture(scope="module")
def processor(run: str) -> Any:
    """Its processor, by its Auto class."""
    return AutoProcessor.from_pretrained(run)


def test_1_auto_config(run: str) -> None:
    assert isinstance(AutoConfig.from_pretrained(run), ReferFormerConfig)


def test_2_auto_model(model: Any) -> None:
    assert isinstance(model, vng.ReferFormerForVNG)


def test_3_auto_processor(processor: Any) -> None:
    assert isinstance(processor, ReferFormerProcessor)


def test_4_the_model_takes_all_that_the_processor_gives(model: Any, processor: Any, clip: np.ndarray) -> None:
    inputs = processor(videos=clip, text=TEXT, return_tensors="pt")
    assert isinstance(inputs, BatchFeature) and inputs.pixel_values.shape[:3] == (1, 3, 3)
    with torch.no_grad():
        outputs = model(**inputs.to("cpu"))
    assert outputs.logits.shape[:3] == (1, 2, 3)


def test_5_a_list_of_videos_and_texts(model: Any, processor: Any, clip: np.ndarray) -> None:
    tensor = torch.from_numpy(clip).permute(0, 3, 1, 2)
    images = [Image.fromarray(frame) for frame in clip]
    inputs = processor(videos=[clip, tensor, images], text=[TEXT, "A [ball] rests.", TEXT])
    assert inputs.pixel_values.shape[0] == 3 and inputs.noun_tokens.shape[:2] == (3, 2)
    assert torch.equal(inputs.pixel_values[0], inputs.pixel_values[1])
    assert torch.equal(inputs.pixel_values[0], inputs.pixel_values[2])
    with torch.no_grad():
        assert model(**inputs).masks.shape[:3] == (3, 2, 3)


def test_6_masks_of_each_noun(model: Any, processor: Any, clip: np.ndarray) -> None:
    with torch.no_grad():
        outputs = model(**processor(videos=clip, text=TEXT))
    (found,) = processor.post_process_grounding(outputs, target_sizes=[(H, W)], threshold=0.4)
    assert found["masks"].shape == (2, 3, H, W) and found["masks"].dtype == torch.bool
    assert found["scores"].shape == (2,) and ((found["scores"] >= 0) & (found["scores"] <= 1)).all()
    with pytest.raises(UsageError, match="2 target_sizes for 1 videos"):
        processor.post_process_grounding(outputs, target_sizes=[(H, W)] * 2)


def test_6b_the_same_masks_as_the_grounder(run: str, model: Any, processor: Any, clip: np.ndarray) -> None:
    with torch.no_grad():
        outputs = model(**processor(videos=clip, text=TEXT))
    (found,) = processor.post_process_grounding(outputs, target_sizes=[(H, W)])
    result = vng.NarrativeGrounder.from_pretrained(run, device="cpu")(clip, TEXT)
    assert (found["masks"].numpy() == result.masks).mean() > 0.999


def test_7_unknown_arguments_are_refused(model: Any, processor: Any, clip: np.ndarray) -> None:
    with pytest.raises(TypeError, match="video"):
        processor(video=clip, text=TEXT)
    with pytest.raises(TypeError, match="pixels"):
        model(pixels=torch.zeros(1))


def test_8_labels_give_a_loss(model: Any, processor: Any, clip: np.ndarray) -> None:
    inputs = processor(videos=clip, text=TEXT)
    labels = torch.zeros(1, 2, *inputs.pixel_mask.shape[1:], dtype=torch.bool)
    labels[:, :, :, 10:30, 10:30] = True
    outputs = model(**inputs, labels=labels)
    outputs.loss.backward()
    assert outputs.loss > 0 and set(outputs.loss_terms) == {"class", "box", "giou", "mask", "dice"}
    annotated = torch.ones(1, 2, 3, dtype=torch.bool)
    assert torch.equal(model(**inputs, target_masks=labels, target_annotated=annotated).loss, outputs.loss)
    with pytest.raises(ValueError, match="not both"):
        model(**inputs, labels=labels, target_masks=labels)
    model.zero_grad()


def test_9_tuples(model: Any, processor: Any, clip: np.ndarray) -> None:
    inputs = processor(videos=clip, text=TEXT)
    with torch.no_grad():
        found = model(**inputs, return_dict=False)
        assert isinstance(found, tuple) and torch.equal(found[0], model(**inputs)[0])


def test_10_gradient_checkpointing(run: str, processor: Any, clip: np.ndarray) -> None:
    model = AutoModel.from_pretrained(run).train()
    inputs = processor(videos=clip, text=TEXT)
    labels = torch.ones(1, 2, *inputs.pixel_mask.shape[1:], dtype=torch.bool)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        torch.manual_seed(1)
        model.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        gradients.append(model.query_embed.weight.grad.clone())
    assert model.is_gradient_checkpointing and torch.allclose(*gradients, atol=1e-6)


def test_11_save_and_load_both_ways(tmp_path: Path, model: Any, processor: Any) -> None:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert AutoProcessor.from_pretrained(tmp_path).short_side == 48


def test_12_pipeline_of_grounding(run: str, clip: np.ndarray, tmp_path: Path) -> None:
    for t, frame in enumerate(clip):
        Image.fromarray(frame).save(tmp_path / f"{t:05d}.png")
    ground = pipeline("video-narrative-grounding", model=run, device="cpu")
    found = ground(str(tmp_path), narrative=TEXT)
    assert [item["noun"] for item in found] == ["ball", "ball"] and found[0]["masks"].shape == (3, H, W)
    assert found[0]["span"] == (6, 10) and 0 <= found[0]["score"] <= 1
    with pytest.raises(TypeError, match="give the narrative"):
        ground(str(tmp_path))
    with pytest.raises(TypeError, match="unknown argument 'text'"):
        ground(str(tmp_path), text=TEXT)


def test_13_pipeline_of_clicks() -> None:
    image = np.full((80, 120, 3), 30, np.uint8)
    image[20:60, 30:80] = (220, 120, 40)
    segment = pipeline("click-segmentation", model=str(shipped_weights("embedded")), device="cpu")
    (found,) = segment(image, points=[[[50, 40], [5, 5]]], labels=[[1, 0]])
    truth = image[..., 0] == 220
    assert (found["mask"] & truth).sum() / (found["mask"] | truth).sum() > 0.8 and found["score"] > 0.5
    (again,) = segment(Image.fromarray(image), points=[[[50, 40], [5, 5]]], labels=[[1, 0]])
    assert (again["mask"] == found["mask"]).all()
    with pytest.raises(TypeError, match="give points"):
        segment(image)
    with pytest.raises(ValueError, match="different numbers"):
        segment(image, points=[[[50, 40]]], labels=[[1, 0]])


def test_14_the_other_networks_by_auto_model() -> None:
    assert isinstance(AutoModel.from_pretrained(shipped_weights("embedded")), ClickNet)
    assert isinstance(AutoModel.from_pretrained(shipped_weights("stcn")), Stcn)


@pytest.mark.parametrize("first", ["pipeline"])
def test_15_whatever_is_imported_first(first: str) -> None:
    """In a fresh process, `vng` before or after transformers, and quickly by itself."""
    check = "len([c for c in MODEL_MAPPING._extra_content if c.__module__.startswith('vng.')])"
    load = f"from transformers import {first}; from transformers import AutoModel; "
    load += "from transformers.models.auto.modeling_auto import MODEL_MAPPING"
    quick = "import sys, vng; print('transformers' in sys.modules, 'torch' in sys.modules); "
    for program in (f"{quick}{load}; print({check})", f"{load}; import vng; print({check})"):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith("5"), done.stderr
        assert program.startswith("from") or done.stdout.startswith("False False")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "give videos=, text=, or both"),
        ({"text": "no noun"}, "no marked noun"),
        ({"text": TEXT, "return_tensors": "np"}, "PyTorch tensors"),
        ({"videos": np.zeros((3, 4, 5)), "text": TEXT}, r"a clip is uint8"),
        ({"videos": [np.zeros((2, 40, 40, 3), np.uint8), np.zeros((3, 40, 40, 3), np.uint8)]}, "one length"),
        ({"videos": np.zeros((2, 40, 40, 3), np.uint8), "text": [TEXT, TEXT]}, "1 videos and 2 texts"),
    ],
)
def test_inputs_that_the_processor_refuses(processor: Any, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        processor(**arguments)
