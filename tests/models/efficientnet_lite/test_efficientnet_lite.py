"""EfficientNet-Lite: maps and their strides, frozen normalisation, and the import of ImageNet weights."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoBackbone, AutoConfig

from tests.models.dynamite.test_modeling_dynamite import tiny_config as tiny_dynamite
from tests.models.referformer.test_modeling_referformer import tiny_config as tiny_grounder
from vng.cli.app import main
from vng.errors import DataError, UsageError
from vng.models.backbones import named_config, start_from
from vng.models.dynamite.modeling_dynamite import DynamiteModel
from vng.models.efficientnet_lite import EfficientNetLiteBackbone, EfficientNetLiteConfig
from vng.models.efficientnet_lite.import_checkpoint import from_reference
from vng.models.layout import fold_norms
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.transfer import normalised
from vng.training.clicks.recipe import ClickModelSettings
from vng.training.clicks.task import _new

B, H, W = 2, 64, 96
TINY = {"embedding_size": 4, "hidden_sizes": [3, 5, 6, 7, 8, 9], "depths": [1, 2, 1, 1, 1, 1], "expansion": 2}


def tiny(**changes: object) -> EfficientNetLiteBackbone:
    torch.manual_seed(0)
    config = EfficientNetLiteConfig(**{**TINY, "out_features": ["stem", "stage2", "stage4"], **changes})  # type: ignore[arg-type]
    return EfficientNetLiteBackbone(config).eval()


def with_statistics(model: EfficientNetLiteBackbone) -> EfficientNetLiteBackbone:
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.uniform_(-0.3, 0.3)
            layer.running_var.uniform_(0.5, 2)
    return model


@torch.no_grad()
def test_maps() -> None:
    model = tiny()
    maps = model(torch.randn(B, 3, H, W)).feature_maps
    assert [tuple(m.shape) for m in maps] == [(B, 3, H // 2, W // 2), (B, 6, H // 8, W // 8), (B, 9, H // 32, W // 32)]
    assert model.channels == [3, 6, 9]
    shallow = tiny(out_features=["stage1"])
    assert len(shallow.groups) == 2, "groups that no map needs are left out"
    assert tiny(num_channels=5)(torch.randn(1, 5, H, W)).feature_maps[0].shape[1] == 3


def test_lite0_has_its_published_sizes() -> None:
    config = named_config({"model_type": "efficientnet-lite", "out_features": ["stage3"]})
    model = AutoBackbone.from_config(config)
    assert model.channels == [112]
    assert sum(p.numel() for p in model.parameters()) == 700_768


@pytest.mark.parametrize("wrong", [{"hidden_sizes": [3]}, {"expansion": 0}, {"depths": [], "hidden_sizes": []}])
def test_sizes_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        tiny(**wrong)


def test_frozen_norms_compute_what_the_layers_do() -> None:
    model, x = with_statistics(tiny()), torch.randn(B, 3, H, W)
    layer = model.stem
    wanted = layer.activation(layer.normalization(layer.convolution(torch.nn.functional.pad(x, (0, 1, 0, 1)))))
    torch.testing.assert_close(layer(x), wanted)
    before = [m.detach() for m in model(x).feature_maps]
    fold_norms(model)
    for ours, theirs in zip(model(x).feature_maps, before, strict=True):
        torch.testing.assert_close(ours.detach(), theirs, atol=1e-4, rtol=1e-3)


def test_half_precision_keeps_depthwise_filters_in_float32() -> None:
    model, pixels = with_statistics(tiny()), torch.randn(B, 3, H, W)
    with torch.no_grad():
        wanted = model(pixels).feature_maps
        with torch.autocast("cpu", torch.bfloat16):
            found = model(pixels).feature_maps
    for ours, theirs in zip(found, wanted, strict=True):
        assert float((ours.float() - theirs).abs().max()) < 0.05 * float(theirs.abs().max() + 1)


def reference_names(model: EfficientNetLiteBackbone) -> dict[str, torch.Tensor]:
    """The weights of our Lite0 under the names of the package."""
    blocks = [f"groups.{g}.{i}" for g, group in enumerate(model.groups) for i in range(len(group))]  # type: ignore[arg-type]
    state = {}
    for name, value in model.state_dict().items():
        name = name.replace("stem.convolution", "_conv_stem").replace("stem.normalization", "_bn0")
        for number, block in enumerate(blocks):
            for index, part in enumerate(("expand", "depthwise", "project")):
                name = name.replace(f"{block}.{part}.convolution", f"_blocks.{number}._{part}_conv")
                name = name.replace(f"{block}.{part}.normalization", f"_blocks.{number}._bn{index}")
        state[name] = value.clone()
    return {**state, "_conv_head.weight": torch.zeros(1), "_fc.bias": torch.zeros(3), "_bn1.bias": torch.zeros(1)}


@pytest.fixture(scope="module")
def lite0() -> EfficientNetLiteBackbone:
    torch.manual_seed(1)
    config = EfficientNetLiteConfig(out_features=["stem", "stage1", "stage2", "stage3", "stage4"])
    return with_statistics(EfficientNetLiteBackbone(config).eval())


@torch.no_grad()
def test_import_takes_usual_pixels(lite0: EfficientNetLiteBackbone) -> None:
    """Their network reads (pixel - 127) / 128, ours pixels normalised as usual; they differ at the border only."""
    ours = from_reference(reference_names(lite0))
    pixels = torch.randint(0, 256, (1, 3, 96, 128)).float()
    found, wanted = ours(normalised(pixels)).feature_maps[0], lite0((pixels - 127) / 128).feature_maps[0]
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inner], wanted[inner], atol=2e-4, rtol=1e-3)


def test_weights_that_do_not_fit_are_named(lite0: EfficientNetLiteBackbone) -> None:
    state = reference_names(lite0)
    del state["_blocks.3._depthwise_conv.weight"]
    state["_blocks.99._bn1.weight"] = torch.zeros(4)
    with pytest.raises(DataError, match=r"1 missing: groups.2.0.depthwise.*1 unknown: _blocks.99._bn1.weight"):
        from_reference(state)


def test_the_command_writes_a_folder_that_training_starts_from(lite0: EfficientNetLiteBackbone, tmp_path: Path) -> None:
    torch.save(reference_names(lite0), tmp_path / "lite0.pth")
    out = tmp_path / "lite0"
    assert main(["import", str(tmp_path / "lite0.pth"), "--model", "efficientnet-lite", "--out", str(out)]) == 0
    config = AutoConfig.from_pretrained(out).with_maps(["stage1", "stage3"], 5)
    encoder = EfficientNetLiteBackbone(config)
    start_from(encoder, str(out))
    assert encoder.stem.convolution.weight.shape[1] == 5
    assert torch.equal(
        encoder.stem.convolution.weight[:, :3], from_reference(reference_names(lite0)).stem.convolution.weight
    )
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        start_from(encoder, str(tmp_path / "none"))


@pytest.mark.parametrize("kind", ["grounder", "dynamite"])
def test_it_is_a_backbone_of_the_other_networks(kind: str, tmp_path: Path) -> None:
    """Their four stages are at strides 4 to 32; a saved model loads in a process that has imported nothing else."""
    backbone = {"model_type": "efficientnet-lite", **TINY, "out_features": ["stage1", "stage2", "stage3", "stage4"]}
    if kind == "grounder":
        model: Any = ReferFormerForVNG(tiny_grounder(backbone_config=backbone))
    else:
        model = DynamiteModel(tiny_dynamite(backbone_config=backbone))
    maps = model.backbone(torch.randn(1, 3, H, W)).feature_maps
    assert [H // m.shape[-2] for m in maps] == [4, 8, 16, 32]
    model.save_pretrained(tmp_path)
    name = type(model).__module__, type(model).__name__
    code = f"from {name[0]} import {name[1]} as M; M.from_pretrained(r'{tmp_path}')"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_backbone_without_the_maps_of_the_click_segmenter() -> None:
    with pytest.raises(UsageError, match=r"model\.backbone: backbone: expected 5 maps"):
        _new(ClickModelSettings(backbone={"model_type": "resnet", "out_features": ["stage1", "stage2"]}))
