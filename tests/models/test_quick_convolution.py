"""Packed and Winograd convolutions compute what plain ones do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vng.models import quick_convolution as quick

pytestmark = pytest.mark.skipif(not quick.is_available(), reason="this torch has no packed convolutions")


def test_the_transforms_multiply() -> None:
    out, kernel, into = quick.transforms()
    g, d = torch.randn(3, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    wanted = torch.stack([g @ d[i : i + 3] for i in range(4)])
    assert torch.allclose(out @ ((kernel @ g) * (into @ d)), wanted, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("most", [5, 40, 1000])  # tiles at a time: rows of an image, an image, some images
@pytest.mark.parametrize("size", [(3, 21, 33), (1, 24, 40), (4, 7, 10), (5, 4, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_winograd(monkeypatch: pytest.MonkeyPatch, most: int, size: tuple[int, int, int], bias: bool) -> None:
    monkeypatch.setattr(quick, "LEAST_TILES", 1)
    monkeypatch.setattr(quick, "MOST_TILES", most)
    torch.manual_seed(0)
    conv = nn.Conv2d(12, 17, 3, padding=1, bias=bias)
    fast = quick.WinogradConv2d(conv)
    for _ in range(2):  # what the first call keeps must not harm the second
        x = torch.randn(size[0], 12, *size[1:])
        assert torch.allclose(fast(x), conv(x), atol=1e-5)
    with torch.inference_mode():
        assert torch.allclose(fast(x), conv(x), atol=1e-5)
    wider = torch.randn(1, 12, size[1] + 6, size[2] + 3)
    assert torch.allclose(fast(wider), conv(wider), atol=1e-5)


@torch.no_grad()
def test_packed_with_its_rectifier() -> None:
    conv = nn.Conv2d(5, 7, 3, stride=2, padding=1)
    fast = quick.PackedConv2d(conv, nn.ReLU())
    for size in ((2, 5, 9, 14), (3, 5, 6, 4)):
        x = torch.randn(size)
        assert torch.allclose(fast(x), F.relu(conv(x)), atol=1e-6)


def test_packed_linear() -> None:
    weight, bias = torch.randn(11, 6), torch.randn(11)
    run = quick.packed_linear(weight, bias, 8)
    for rows in (8, 3):
        x = torch.randn(rows, 6)
        assert torch.allclose(run(x), F.linear(x, weight, bias), atol=1e-6)


def test_which_convolutions_go_which_way() -> None:
    model = nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.Conv2d(256, 256, 3, stride=2, padding=1), nn.ReLU())
    quick.quicken(model)
    assert [type(m) for m in model] == [quick.WinogradConv2d, quick.PackedConv2d, nn.ReLU]
