"""Layers over many pixels that are fast and use little memory on a CPU; on other devices they are torch's.

Shapes: B images, S pixels of all levels, R rows (pixels of any number of images), Q queries, M heads of width D,
L levels, P positions a head samples in each level, C and N channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from scipy.sparse import csc_matrix
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

CHUNK = 1920  # rows of a feed-forward at a time without gradients; a multiple of the images `pixel_linear` makes
PART = 512  # rows of its hidden layer to which ReLU and dropout are applied at a time
SAMPLES = 1 << 18  # positions read at a time without gradients, so that intermediate results stay in the cache


def pixel_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` for many pixels, [..., C] -> [..., N].

    On a CPU it is a 1x1 convolution of channels-last pixels: convolutions run in oneDNN, matrix products in a library
    that does not use AVX-512 on AMD processors and takes twice as long. With one thread PyTorch passes such
    convolutions to oneDNN only for 16 images or more, so the pixels are divided into that many.
    """
    count = x.shape[:-1].numel()
    if x.device.type != "cpu" or not count:
        return F.linear(x, weight, bias)
    return (
        F.conv2d(_as_images(x), weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))
    )


def _as_images(x: Tensor) -> Tensor:
    """Pixels divided into images: [..., C] -> [images, C, rows, 1], channels last."""
    count = x.shape[:-1].numel()
    images = next((n for n in range(16, 65) if count % n == 0), 1)
    return x.reshape(images, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)


class PixelLinear(nn.Linear):
    """A linear layer for many pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., N]."""
        return pixel_linear(x, self.weight, self.bias)


def kept(like: Tensor, dropout: float) -> tuple[Tensor, float]:
    """The elements that dropout keeps, bool of the shape of `like`, and the factor on them.

    On a CPU an element takes 16 random bits, and a third of torch's time.
    """
    if like.device.type != "cpu":
        return torch.rand_like(like, dtype=torch.float32) >= dropout, 1 / (1 - dropout)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    dropped = round(dropout * 2**16)
    keep = words.view(torch.int16)[: like.numel()] >= dropped - 2**15
    return keep.view(like.shape), 1 / (1 - dropped / 2**16)


class PixelDropout(nn.Dropout):
    """Dropout that saves a mask of bytes for its backward pass; torch's dropout on a CPU saves a mask of floats."""

    def forward(self, x: Tensor) -> Tensor:
        """[...] -> [...]."""
        if not self.training or not self.p:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        keep, factor = kept(x, self.p)
        return x * keep * factor


def feed_forward(x: Tensor, first: nn.Linear, second: nn.Linear, dropout: float = 0.0) -> Tensor:
    """second(dropout(relu(first(x)))), [..., C] -> [..., C].

    The wide hidden layer is most of what a transformer saves for its backward pass. Here one tensor is saved
    instead of torch's three (the derivatives of ReLU and dropout follow from their output); without gradients only a
    part of it exists at a time.
    """
    # Under autocast the casts are left to autograd.
    if torch.is_autocast_enabled(x.device.type) or not x.numel():
        return second(F.dropout(F.relu(first(x)), dropout))
    weights = (first.weight, first.bias, second.weight, second.bias)
    if torch.is_grad_enabled():
        output: Tensor = _FeedForward.apply(x, *weights, dropout)
        return output
    rows = x.reshape(-1, x.shape[-1])
    steps = rows.split(CHUNK) if x.device.type == "cpu" else (rows,)
    parts = [pixel_linear(_hidden(step, weights[0], weights[1], dropout)[0], *weights[2:]) for step in steps]
    return torch.cat(parts).view(x.shape)


def _hidden(x: Tensor, weight: Tensor, bias: Tensor, dropout: float) -> tuple[Tensor, float]:
    """The hidden layer after ReLU and dropout, in place and a part at a time; also the factor on kept elements."""
    hidden, factor = pixel_linear(x, weight, bias), 1.0
    for part in hidden.view(-1, hidden.shape[-1]).split(PART if x.device.type == "cpu" else 1 << 30):
        part.relu_()
        if dropout:
            keep, factor = kept(part, dropout)
            part.mul_(keep).mul_(factor)
    return hidden, factor


class _FeedForward(torch.autograd.Function):
    """`feed_forward` that saves its input and its hidden layer for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, out_weight: Tensor, out_bias: Tensor, dropout: float
    ) -> Tensor:
        x = x.contiguous()
        hidden, ctx.scale = _hidden(x, weight, bias, dropout)
        ctx.save_for_backward(x, hidden, weight, out_weight)
        return pixel_linear(hidden, out_weight, out_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, weight, out_weight = ctx.saved_tensors
        grad_x, sums = torch.empty_like(x), [torch.zeros((), device=x.device, dtype=x.dtype)] * 4
        rows = CHUNK if x.device.type == "cpu" else max(1, x.shape[:-1].numel())
        flat = (t.reshape(-1, t.shape[-1]).split(rows) for t in (grad, x, hidden, grad_x))
        # On a CPU a part at a time, so that the wide gradient never exists as a whole.
        for grad_part, x_part, hidden_part, grad_x_part in zip(*flat, strict=True):
            inner, *outer = _linear_backward(grad_part, hidden_part, out_weight, ctx.scale)
            inner = torch.ops.aten.threshold_backward(inner, hidden_part, 0)
            grad_in, *first = _linear_backward(inner, x_part, weight)
            grad_x_part.copy_(grad_in)
            sums = [total + part for total, part in zip(sums, [*first, *outer], strict=True)]
        return grad_x, *sums, None


def _linear_backward(grad: Tensor, x: Tensor, weight: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a linear layer's input (times `scale`), weight and bias; on a CPU by oneDNN, like `pixel_linear`."""
    weight = weight * scale if scale != 1 else weight
    if grad.device.type != "cpu":
        rows, inputs = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        return grad @ weight, rows.T @ inputs, rows.sum(0)
    sizes = ([len(weight)], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, True])
    gradients = torch.ops.aten.convolution_backward(_as_images(grad), _as_images(x), weight[:, :, None, None], *sizes)
    return gradients[0].permute(0, 2, 3, 1).reshape(x.shape), gradients[1][:, :, 0, 0], gradients[2]


def read_levels(value: Tensor, shapes: list[tuple[int, int]], places: Tensor, weights: Tensor) -> Tensor:
    """The core of deformable attention (Zhu et al., ICLR 2021) for a CPU: weighted sums of values at sampled positions.

    Each position is four pixels with bilinear weights, so the output of a head is a weighted sum of rows of a table. An
    embedding bag computes this without writing samples to memory, in a third of the time of grid sampling.

    Args:
        value: [B, S, M, D], pixels of all levels, one level after the other.
        shapes: (height, width) of each level.
        places: [B, Q, M, L, P, 2], (x, y) in [0, 1]; values outside are zero.
        weights: [B, Q, M, L, P].

    Returns:
        [B, Q, M * D].
    """
    table = value.flatten(0, 2)  # row = (image * S + pixel) * M + head
    # The samples' indices and weights are computed again in the backward pass: they are large and fast to compute.
    if torch.is_grad_enabled():
        output: Tensor = checkpoint(
            _read, table, value.shape, shapes, places, weights, use_reentrant=False, preserve_rng_state=False
        )
        return output
    step = max(1, SAMPLES // places[:, :1, ..., 0].numel())
    parts = zip(places.split(step, 1), weights.split(step, 1), strict=True)
    return torch.cat([_read(table, value.shape, shapes, *part) for part in parts], 1)


def _read(table: Tensor, size: torch.Size, shapes: list[tuple[int, int]], places: Tensor, weights: Tensor) -> Tensor:
    b, s, m, d = size
    levels, points = places.shape[3:5]
    kind = torch.int32 if len(table) < 2**31 else torch.int64
    areas = [h * w for h, w in shapes]
    # One entry for each position of a head, so that the operations below run over long rows.
    height, width, first = (
        torch.tensor(x, dtype=torch.float32, device=table.device).repeat_interleave(points)
        for x in ([h for h, _ in shapes], [w for _, w in shapes], [sum(areas[:level]) for level in range(levels)])
    )
    (left, near_left, near_right), (top, near_top, near_bottom) = (
        _neighbours(places[..., axis].flatten(3).float() * side - 0.5, side)
        for axis, side in enumerate((width, height))
    )
    with torch.no_grad():
        corner = (top * width + left + first).to(kind)  # exact: pixels of an image are fewer than 2**24
        images = torch.arange(b, dtype=kind, device=table.device)[:, None, None, None]
        corner = (corner + images * s) * m + torch.arange(m, dtype=kind, device=table.device)[:, None]
        right = ((width > 1) * m).to(kind)
        below = (width * (height > 1) * m).to(kind)
        index = torch.cat([corner, corner + right, corner + below, corner + below + right], -1)
    weights = weights.flatten(3)
    upper, lower = weights * near_top, weights * near_bottom
    shares = torch.cat([upper * near_left, upper * near_right, lower * near_left, lower * near_right], -1)
    bags = b * places.shape[1] * m
    read: Tensor = _WeightedRows.apply(table, index.view(bags, -1), shares.view(bags, -1).to(table.dtype))
    return read.view(b, -1, m * d)


class _WeightedRows(torch.autograd.Function):
    """Weighted sums of a table's rows: table [R, D], index int [bags, K], shares [bags, K] -> [bags, D].

    torch sorts all entries for the table's gradient; scipy's sparse product needs no sorting and a tenth of the time.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, shares: Tensor) -> Tensor:
        ctx.save_for_backward(table, index, shares)
        return F.embedding_bag(index, table, mode="sum", per_sample_weights=shares)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        table, index, shares = ctx.saved_tensors
        grad, flat = grad.contiguous(), index.view(-1)
        bags, count = index.shape
        first = torch.arange(0, bags * count + 1, count, dtype=index.dtype)
        no_weights = first.new_empty(0)
        of_shares = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            grad, table, flat, first[:-1], no_weights, 0
        )
        entries = (shares.float().view(-1).numpy(), flat.numpy(), first.numpy())
        gathered = csc_matrix(entries, shape=(len(table), bags)) @ grad.float().numpy()
        return torch.from_numpy(gathered).to(table.dtype), None, of_shares.view(shares.shape).to(shares.dtype)


def _neighbours(x: Tensor, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first of two neighbouring pixels in a row, and the bilinear weights of both (0 if a pixel or more from x)."""
    first = x.detach().floor().clamp(side.new_zeros(()), (side - 2).clamp(min=0))
    away = x - first
    second = (1 - (away - 1).abs()).relu()
    return first, (1 - away.abs()).relu(), second * (side > 1)
