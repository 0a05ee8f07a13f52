"""Fast convolutions on a CPU: weights packed once, ReLU in the same pass, wide 3x3 kernels by Winograd's algorithm.

torch packs the weights of a convolution anew at every call, which costs more than a 1x1 convolution itself. Wide 3x3
convolutions take a quarter of the multiplications as F(4x4, 3x3) (Lavin and Gray, CVPR 2016), at about twice the
rounding error.
Shapes: B images, C and C' channels, H x W pixels, N tiles of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor, nn

TILE, TAPS = 4, 3
SPAN = TILE + TAPS - 1  # pixels of the input that a tile of the output depends on
POINTS = tuple(
    Fraction(p, 8) for p in (0, 5, -5, 10, -10)
)  # interpolation points, and infinity; these keep the rounding error small
LEAST_CHANNELS, LEAST_TILES = 256, 48  # below these the transforms cost more than they save
MOST_SIZES = 4  # of inputs for which weights stay packed
MOST_TILES = 160  # at a time, so that intermediate results stay in the cache


def is_available() -> bool:
    """Whether this build of torch supports packed convolutions."""
    names = ("_convolution_pointwise", "_reorder_convolution_weight")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


class PackedConv2d(nn.Module):
    """A convolution, optionally followed by ReLU or ReLU6; its weights are packed for the latest sizes of its input."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.padding, self.dilation = (list(x) for x in (conv.stride, conv.padding, conv.dilation))
        self.groups = conv.groups
        self.after, self.limits = _fused_activation(activation) or ("none", [])
        self._packed: dict[tuple[int, ...], Tensor] = {}  # by the size of the input, latest last

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W'], channels last."""
        shape = tuple(x.shape)
        packed = self._packed.pop(shape, None)
        if packed is None:
            reorder = torch.ops.mkldnn._reorder_convolution_weight
            packed = reorder(self.weight, self.padding, self.stride, self.dilation, self.groups, list(shape))
            if len(self._packed) >= MOST_SIZES:
                del self._packed[next(iter(self._packed))]
        self._packed[shape] = packed
        x = x.contiguous(memory_format=torch.channels_last)
        sizes = (self.padding, self.stride, self.dilation, self.groups)
        run = torch.ops.mkldnn._convolution_pointwise
        output: Tensor = run(x, packed, self.bias, *sizes, self.after, self.limits, "")
        return output


def packed_linear(weight: Tensor, bias: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """`F.linear` with weights [C', C] that are packed once, for inputs [R, C] of `rows` rows or fewer."""
    sizes = ([0, 0], [1, 1], [1, 1], 1)
    shape = [1, weight.shape[1], 1, rows]
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight[:, :, None, None].contiguous(), *sizes, shape)

    def run(x: Tensor) -> Tensor:
        pixels = x.contiguous()[None, None].permute(0, 3, 1, 2)  # [1, C, 1, R], channels last
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(pixels, packed, bias, *sizes, "none", [], "")
        return output.permute(0, 2, 3, 1)[0, 0]

    return run


class WinogradConv2d(PackedConv2d):
    """A 3x3 convolution of stride 1 and padding 1; maps with few tiles take the direct path."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self._matrices: tuple[Tensor, Tensor] | None = None
        self._products: list[PackedConv2d] = []
        self._padded: tuple[list[int], Tensor] | None = None

    def _prepare(self) -> tuple[Tensor, Tensor]:
        if self._matrices is None:
            out, kernel, into = transforms()
            kernels = torch.einsum("ai,bj,ocij->baoc", kernel, kernel, self.weight.double()).flatten(0, 1).float()
            self._products = [PackedConv2d(_pointwise(weight)) for weight in kernels]
            self._matrices = out.float(), into.float()
        return self._matrices

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H, W], channels last."""
        b, _, height, width = x.shape
        rows, columns = -(-height // TILE), -(-width // TILE)
        if b * rows * columns < LEAST_TILES:
            return super().forward(x)
        # Parts of equal size, or weights would be packed for each size: some images at a time, or some rows of one.
        parts = -(-b // max(1, MOST_TILES // (rows * columns)))
        images, strips = -(-b // parts), -(-rows * columns // MOST_TILES)
        strip_rows = -(-rows // strips)
        output = x.new_empty(parts * images, strips * strip_rows * TILE, columns * TILE, self.weight.shape[0])
        padded = self._framed(x.permute(0, 2, 3, 1), len(output), output.shape[1] + 2, output.shape[2] + 2)
        for i in range(0, len(output), images):
            for top in range(0, output.shape[1], strip_rows * TILE):
                window = padded[i : i + images, top : top + strip_rows * TILE + SPAN - TILE]
                self._part(window, output[i : i + images, top : top + strip_rows * TILE])
        return output[:b, :height, :width].permute(0, 3, 1, 2)

    def _framed(self, x: Tensor, b: int, height: int, width: int) -> Tensor:
        """`x` inside a border of zeros, [b, height, width, C]; the border is kept from call to call."""
        if self._padded is None or self._padded[0] != list(x.shape):
            # Later calls outside inference mode could not write to a tensor created in it.
            with torch.inference_mode(False):
                self._padded = list(x.shape), torch.zeros(b, height, width, x.shape[3])
        padded = self._padded[1]
        padded[: len(x), 1 : 1 + x.shape[1], 1 : 1 + x.shape[2]] = x
        return padded

    def _part(self, x: Tensor, output: Tensor) -> None:
        """Convolve a padded part [B, 4 n + 2, 4 m + 2, C] into `output`, [B, 4 n, 4 m, C']."""
        out, into = self._prepare()
        b, rows, columns = len(x), output.shape[1] // TILE, output.shape[2] // TILE
        channels, (image, down, right, _) = x.shape[3], x.stride()
        slices = x.as_strided((b, rows, SPAN, down), (image, TILE * down, down, 1))
        tall = (into @ slices).view(-1)  # [B, n, 6, (4 m + 2) C]
        # columns of a tile first
        tiles = tall.as_strided((SPAN, SPAN, b * rows, columns, channels), (right, down, SPAN * down, TILE * right, 1))
        inputs = (into @ tiles.flatten(1)).view(SPAN * SPAN, 1, -1, 1, channels).permute(0, 1, 4, 2, 3)
        products = torch.cat([product(part) for product, part in zip(self._products, inputs, strict=True)])
        both = (out @ products.permute(0, 2, 3, 1).reshape(SPAN, -1)).unflatten(1, (SPAN, -1))
        pixels = (out @ both).view(TILE, TILE, b, rows, columns, -1).permute(2, 3, 1, 4, 0, 5)
        target = output.unflatten(2, (columns, TILE)).unflatten(1, (rows, TILE))
        if self.bias is None:
            target.copy_(pixels)
        else:
            torch.add(pixels, self.bias, out=target)


def _pointwise(weight: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
    conv.weight = nn.Parameter(weight[:, :, None, None].contiguous(), requires_grad=False)
    return conv


def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """The matrices of F(4, 3) in float64: output [4, 6], kernel [6, 3], input [6, 6].

    For vectors g and d, output @ ((kernel @ g) * (input @ d)) are the four products of g along d.
    """
    out, kernel, into = (torch.zeros(size, dtype=torch.float64) for size in ((TILE, SPAN), (SPAN, TAPS), (SPAN, SPAN)))
    for j, point in enumerate(POINTS):
        others = [other for other in POINTS if other != point]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        out[:, j] = torch.tensor([float(point**i) for i in range(TILE)])
        kernel[j] = torch.tensor([float(point**i / scale) for i in range(TAPS)], dtype=torch.float64)
        into[j, : len(others) + 1] = _coefficients(others)
    out[-1, -1] = kernel[-1, -1] = 1
    into[-1] = _coefficients(list(POINTS))
    return out, kernel, into


def _coefficients(roots: list[Fraction]) -> Tensor:
    """Coefficients of the product of (x - root) over all roots, lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        coefficients = [low - root * high for low, high in pairwise([Fraction(0), *coefficients, Fraction(0)])]
    return torch.tensor([float(c) for c in coefficients], dtype=torch.float64)


def quicken(model: nn.Module) -> None:
    """Replace a model's convolutions by fast ones, in place: for inference on a CPU in float32, not training or saving.

    A ReLU or ReLU6 is merged into the convolution before it where nothing is between them after `fold_norms`: both are
    attributes `convolution` and `activation` of a module, or follow each other in an `nn.Sequential`.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, nn.Conv2d):
                continue
            after = _activation_after(module, name)
            activation = None if after is None else getattr(module, after)
            setattr(module, name, _fast_convolution(child, activation))
            if after is not None:
                setattr(module, after, nn.Identity())


def _fused_activation(activation: nn.Module | None) -> tuple[str, list[float]] | None:
    """oneDNN's name of an activation, and its parameters; None for one that is not merged."""
    if isinstance(activation, nn.ReLU6):
        return "hardtanh", [0.0, 6.0]
    return ("relu", []) if type(activation) is nn.ReLU else None


def _activation_after(module: nn.Module, name: str) -> str | None:
    """The name of the activation that follows the convolution `name` of a module directly; None if none does."""
    ours = ("0", "1", "2") if isinstance(module, nn.Sequential) else ("convolution", "normalization", "activation")
    between, after = ours[1:]
    found = name == ours[0] and isinstance(getattr(module, between, None), nn.Identity)
    return after if found and _fused_activation(getattr(module, after, None)) else None


def _fast_convolution(conv: nn.Conv2d, activation: nn.Module | None) -> PackedConv2d:
    sizes = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    plain = sizes == ((TAPS, TAPS), (1, 1), (1, 1), (1, 1), 1)
    if plain and activation is None and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS:
        return WinogradConv2d(conv)
    return PackedConv2d(conv, activation)
