"""Layers over many pixels: the same as torch's, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.mask2former.modeling_mask2former import multi_scale_deformable_attention
from transformers.models.resnet.modeling_resnet import ResNetConvLayer, ResNetShortCut

from vng.models.layout import fold_frozen_norms
from vng.models.pixels import CHUNK, PixelDropout, feed_forward, kept, pixel_linear, read_levels

B, Q, M, D, P = 2, 7, 3, 4, 5
SHAPES = [(6, 10), (3, 5), (1, 2), (4, 1)]


def gradients(made: torch.Tensor, of: list[torch.Tensor]) -> list[torch.Tensor]:
    return list(torch.autograd.grad((made * torch.arange(made.numel()).view(made.shape).sin()).sum(), of))


@pytest.mark.parametrize("count", [0, 5, 48])
def test_pixel_linear(count: int) -> None:
    layer, x = nn.Linear(6, 9), torch.randn(count, 2, 6)
    torch.testing.assert_close(pixel_linear(x, layer.weight, layer.bias), layer(x))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_feed_forward(dropout: float) -> None:
    first, second, x = nn.Linear(6, 20), nn.Linear(20, 6), torch.randn(3, 16, 6, requires_grad=True)
    parameters = [x, *first.parameters(), *second.parameters()]
    torch.manual_seed(5)
    keep, factor = kept(torch.empty(3, 16, 20), dropout)
    wanted = second(F.relu(first(x)) * keep * factor)
    torch.manual_seed(5)
    found = feed_forward(x, first, second, dropout)
    torch.testing.assert_close(found, wanted)
    for one, other in zip(gradients(found, parameters), gradients(wanted, parameters), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_dropout() -> None:
    torch.manual_seed(0)
    layer, x = PixelDropout(0.25), torch.ones(4000, requires_grad=True)
    made = layer(x)
    assert set(made.detach().unique().tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert float((made == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(torch.autograd.grad(made.sum(), x)[0], made.detach()) and layer.eval()(x) is x


def test_what_dropout_keeps_is_independent() -> None:
    torch.manual_seed(0)
    keep, factor = kept(torch.empty(100, 4001), 0.1)
    assert keep.shape == (100, 4001) and float(keep.float().mean()) == pytest.approx(0.9, abs=2e-3)
    assert factor * 0.9 == pytest.approx(1, abs=1e-5)
    neighbours = [(keep[:, :-lag] & keep[:, lag:]).float().mean() for lag in (1, 2, 3, 4)]
    assert [float(v) for v in neighbours] == pytest.approx([0.81] * 4, abs=4e-3)
    assert kept(torch.empty(0, 3), 0.5)[0].shape == (0, 3) and bool(kept(torch.empty(7), 0.0)[0].all())


def test_feed_forward_in_parts() -> None:
    first, second, x = nn.Linear(2, 3), nn.Linear(3, 2), torch.randn(1, CHUNK + 7, 2)
    with torch.no_grad():
        torch.testing.assert_close(feed_forward(x, first, second), second(F.relu(first(x))))


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    value = torch.randn(B, sum(h * w for h, w in SHAPES), M, D)
    places = torch.rand(B, Q, M, len(SHAPES), P, 2) * 1.6 - 0.3  # some outside
    weights = torch.rand(B, Q, M, len(SHAPES) * P).softmax(-1).unflatten(-1, (len(SHAPES), P))
    return value, places, weights


def test_levels_are_read_as_by_grid_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside, outside and on the edge, on levels of one pixel's height or width; also a few queries at a time."""
    value, places, weights = scene()
    places[0, 0] = torch.tensor([1.0, 0.0])
    wanted = multi_scale_deformable_attention(value, SHAPES, places, weights)
    monkeypatch.setattr("vng.models.pixels.SAMPLES", 3 * B * M * len(SHAPES) * P)
    with torch.no_grad():
        torch.testing.assert_close(read_levels(value, SHAPES, places, weights), wanted, atol=1e-5, rtol=0)
    given = [x.clone().requires_grad_() for x in (value, places, weights)]
    found = read_levels(given[0], SHAPES, *given[1:])
    torch.testing.assert_close(found.detach(), wanted, atol=1e-5, rtol=0)
    again = multi_scale_deformable_attention(given[0], SHAPES, *given[1:])
    inside = ((places > 0.02) & (places < 0.98)).all(-1)  # on an edge the derivative jumps
    for one, other in zip(gradients(found, given), gradients(again, given), strict=True):
        keep = inside if one.ndim == 6 else torch.ones(1, dtype=torch.bool)
        keep = keep[..., None] if one.ndim == 6 else keep
        torch.testing.assert_close(one * keep, other * keep, atol=1e-4, rtol=1e-4)


def test_levels_in_bfloat16() -> None:
    value, places, weights = scene()
    with torch.no_grad():
        rough = read_levels(value.bfloat16(), SHAPES, places, weights.bfloat16())
        torch.testing.assert_close(rough.float(), read_levels(value, SHAPES, places, weights), atol=0.03, rtol=0.03)


@pytest.mark.parametrize("kind", [ResNetConvLayer, ResNetShortCut])
def test_frozen_norms_are_folded_and_others_left_alone(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    layer, x = nn.Sequential(kind(3, 5)), torch.randn(2, 3, 8, 6)
    norm = layer[0].normalization
    nn.init.normal_(norm.weight), nn.init.normal_(norm.running_mean), nn.init.uniform_(norm.running_var, 0.5, 2)
    names = list(layer.state_dict())
    layer.eval()
    wanted = layer(x)
    slopes = gradients(wanted, [layer[0].convolution.weight, norm.weight])
    fold_frozen_norms(layer)
    torch.testing.assert_close(layer(x), wanted)
    for one, other in zip(gradients(layer(x), [layer[0].convolution.weight, norm.weight]), slopes, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    before = norm.running_mean.clone()
    layer.train()(x)
    assert not torch.equal(norm.running_mean, before) and list(layer.state_dict()) == names
