"""STCN's network, with a few channels."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from vng.errors import UsageError
from vng.frames import ArrayFrames
from vng.models.stcn.configuration_stcn import StcnConfig
from vng.models.stcn.modeling_stcn import Stcn

RESNET = {"model_type": "resnet", "embedding_size": 6, "layer_type": "basic"}
B, K, T, H, W = 2, 3, 4, 32, 80
HIGH, WIDE = 30, 44  # of videos: no multiples of 16


def tiny(level: int = -1, **more: Any) -> Stcn:
    """A network of a few thousand weights; keys at stride 16 (level -1) or 8 (level -2)."""
    stages = 4 + level
    torch.manual_seed(0)
    key = {**RESNET, "hidden_sizes": [8, 10, 12], "depths": [1, 1, 1], "out_features": ["stage1", "stage2", "stage3"]}
    value = {**RESNET, "num_channels": 5, "hidden_sizes": [6, 9, 11][:stages], "depths": [1] * stages}
    sizes: dict[str, Any] = {"key_dim": 7, "value_dim": 14, "thin_dim": 9, "decoder_dims": [10, 8, 6][:stages]}
    config = StcnConfig(key, {**value, "out_features": [f"stage{stages}"]}, key_level=level, **(sizes | more))
    return Stcn(config).eval()


@pytest.mark.parametrize(("level", "stride"), [(-1, 16), (-2, 8)])
@torch.no_grad()
def test_shapes(level: int, stride: int) -> None:
    model, cells = tiny(level), (H // stride, W // stride)
    features = model.encode_key(model.normalise(torch.randint(0, 256, (B, 3, H, W))))
    assert features.key.shape == (B, 7, *cells) and features.thin.shape == (B, 9, *cells)
    assert features.deep.shape == (B, 12, *cells)
    assert [skip.shape[1:] for skip in features.skips] == [(8, H // 4, W // 4), (10, H // 8, W // 8)][: 3 + level]
    value = model.encode_value(torch.rand(B, 3, H, W), features.deep, torch.rand(B, K, H, W))
    assert value.shape == (B, K, 14, *cells)
    readout = model.read(features.key.flatten(2), value.flatten(3), features.key)
    assert readout.shape == value.shape
    logits = model.decode(readout, features)
    assert logits.shape == (B, K, H, W)
    assert model.aggregate(logits.sigmoid()).shape == (B, K + 1, H, W)


@pytest.mark.parametrize("level", [-1, -2])
@torch.no_grad()
def test_use_computes_what_training_does(level: int) -> None:
    """Normalisation folded, convolutions quick, objects decoded one by one: the same numbers."""
    model = tiny(level)
    for norm in [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
        norm.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    pixels, masks = torch.randn(1, 3, H, W), torch.rand(1, K, H, W)

    def everything() -> list[torch.Tensor]:
        features = model.encode_key(pixels)
        value = model.encode_value(pixels, features.deep, masks)
        return [features.key, features.thin, value, model.decode(value, features)]

    wanted = everything()
    model.fused()
    for one, other in zip(everything(), wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("reads", [False, True])
def test_training_pass(reads: bool) -> None:
    model = tiny().train()
    valid = torch.tensor([[True, True, True], [True, False, False]])
    video, prompts = torch.randint(0, 256, (B, T, 3, H, W), dtype=torch.uint8), torch.rand(B, K, H, W)
    logits = model(video, prompts, valid, read_reference=reads).logits
    assert logits.shape == (B, T - 1 + reads, K + 1, H, W)
    assert (logits.softmax(2)[1, :, 2:] == 0).all()  # no such objects there
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"decoder_dims \[10, 8\]: expected 3"):
        tiny(decoder_dims=[10, 8])
    model = tiny(-2)
    model.value_encoder = tiny(-1).value_encoder  # ends at stride 16
    with pytest.raises(UsageError, match="value_backbone ends at stride 16, the keys are at stride 8"):
        model.encode_value(torch.rand(1, 3, H, W), torch.rand(1, 12, H // 8, W // 8), torch.rand(1, K, H, W))


def test_normalisation_settles_and_stays_settled() -> None:
    model = tiny(norm_batches=2).train()
    arguments = torch.rand(B, 2, 3, H, W) * 255, torch.rand(B, K, H, W), torch.ones(B, K, dtype=torch.bool)
    name = "key_encoder.embedder.embedder.normalization.running_mean"
    means = [model.state_dict()[name].clone()]
    for _ in range(4):
        model(*arguments)
        means.append(model.state_dict()[name].clone())
    assert [torch.equal(a, b) for a, b in pairwise(means)] == [False, False, True, True]
    resumed = tiny(norm_batches=2)
    resumed.load_state_dict(model.state_dict())
    resumed.train()(*arguments)
    assert torch.equal(resumed.state_dict()[name], means[-1])


def test_soft_aggregation() -> None:
    one, other = torch.tensor(0.5), torch.tensor([0.5, 0.0])
    found = Stcn.aggregate(torch.stack([one.expand(2), other]).view(1, 2, 1, 2))[0, :, 0]
    assert found[:, 0].tolist() == pytest.approx([-np.log(3), 0, 0], abs=1e-6)  # background 0.25
    assert found[:2, 1].tolist() == pytest.approx([0, 0], abs=1e-6) and found[2, 1] < -16
    assert torch.allclose(found.exp() / (1 + found.exp()), torch.tensor([[0.25, 0.5], [0.5, 0.5], [0.5, 0]]), atol=1e-6)


def video(count: int = 6) -> ArrayFrames:
    draw = np.random.default_rng(0)
    return ArrayFrames(draw.integers(0, 256, (count, HIGH, WIDE, 3), np.uint8))
