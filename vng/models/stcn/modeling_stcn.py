"""STCN: a memory of keys and values over a video (Cheng et al., NeurIPS 2021), and Point-STCN (Point-VOS, Sec. 4).

Shapes: B videos, K objects, T frames, H x W pixels, h x w cells at the stride of the keys, M cells in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoBackbone, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from vng.errors import UsageError
from vng.models import quick_convolution
from vng.models.batch_norm import freeze_norms
from vng.models.layout import channels_last, fold_norms
from vng.models.stcn.configuration_stcn import StcnConfig
from vng.models.transfer import normalised

EPSILON = 1e-7


@dataclass
class StcnOutput(ModelOutput):
    """Output of a training pass.

    Attributes:
        logits: float [B, T', K + 1, H, W], background first; T' is T - 1, or T if the reference is read too.
    """

    logits: Tensor | None = None


@dataclass(frozen=True)
class KeyFeatures:
    """Features of a frame that do not depend on the objects."""

    key: Tensor  # [B, Ck, h, w]
    thin: Tensor  # [B, Ct, h, w], the decoder's view of the deepest map
    deep: Tensor  # [B, C, h, w]
    skips: tuple[Tensor, ...]  # finer maps, finest first

    def by_frame(self, count: int) -> list[KeyFeatures]:
        """Features of B * T frames -> T features of B frames each."""
        key, thin, deep, *skips = (
            x.unflatten(0, (-1, count)).unbind(1) for x in (self.key, self.thin, self.deep, *self.skips)
        )
        return [KeyFeatures(key[t], thin[t], deep[t], tuple(s[t] for s in skips)) for t in range(count)]


class Halves(nn.Module):
    """A 3x3 convolution split at an input channel: one part for each object's own maps, one for shared maps."""

    def __init__(self, conv: nn.Conv2d, width: int) -> None:
        super().__init__()
        self.own = nn.Conv2d(width, conv.out_channels, 3, padding=1, bias=False)
        self.shared = nn.Conv2d(conv.in_channels - width, conv.out_channels, 3, padding=1)
        own, shared = conv.weight.data[:, :width], conv.weight.data[:, width:]
        self.own.weight, self.shared.weight = nn.Parameter(own.clone()), nn.Parameter(shared.clone())
        self.shared.bias = conv.bias


def convolved(conv: nn.Conv2d | Halves, own: Tensor, shared: Tensor) -> Tensor:
    """A convolution of maps [B * K, C] and of maps [B, C'] that K objects share, whose part is computed once.

    A convolution is linear in its input: equal to `conv(cat([own, shared repeated], 1))`.
    """
    if isinstance(conv, Halves):
        each, once = conv.own(own), conv.shared(shared)
    else:
        width = own.shape[1]
        once = F.conv2d(shared, conv.weight[:, width:], conv.bias, conv.stride, conv.padding)
        each = F.conv2d(own, conv.weight[:, :width], None, conv.stride, conv.padding)
    return (each.unflatten(0, (len(shared), -1)) + once[:, None]).flatten(0, 1)


class ResidualBlock(nn.Module):
    """ReLU and 3x3 convolution, twice, and a skip connection (a 3x3 convolution where channels change)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.downsample = None if inputs == outputs else nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def take_apart(self, width: int) -> None:
        """Split convolutions into `width` own channels and shared ones: for inference, not for training or saving."""
        for name in ("conv1", "downsample"):
            if isinstance(conv := getattr(self, name), nn.Conv2d):
                self.add_module(name, Halves(conv, width))

    def forward(self, x: Tensor, shared: Tensor | None = None) -> Tensor:
        """[B * K, C, h, w]; `shared` [B, C', h, w] are further channels, the same for the K objects of an image."""
        if shared is None:
            y = self.conv1(F.relu(x))
            x = x if self.downsample is None else self.downsample(x)
        else:
            y = convolved(self.conv1, F.relu(x), F.relu(shared))
            wide = self.downsample
            x = convolved(wide, x, shared) if wide is not None else _beside(x, shared)
        return x + self.conv2(F.relu_(y))


def _beside(own: Tensor, shared: Tensor) -> Tensor:
    return torch.cat([own, shared.repeat_interleave(len(own) // len(shared), 0)], 1)


class Attention(nn.Module):
    """Weights for channels, then for positions, from averages and maxima (CBAM: Woo et al., ECCV 2018)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.channel(x.mean((2, 3))) + self.channel(x.amax((2, 3)))
        x = x * pooled.sigmoid()[..., None, None]
        return x * self.spatial(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)).sigmoid()


class Fusion(nn.Module):
    """The value backbone's map and the key encoder's -> a value."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block1 = ResidualBlock(inputs, outputs)
        self.attention = Attention(outputs)
        self.block2 = ResidualBlock(outputs, outputs)

    def forward(self, x: Tensor, deep: Tensor) -> Tensor:
        x = self.block1(x, deep)
        return self.block2(x + self.attention(x))


class Upsampling(nn.Module):
    """A coarse map upsampled and added to a finer one."""

    def __init__(self, skip: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, inputs, 3, padding=1)
        self.out_conv = ResidualBlock(inputs, outputs)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """Skip [B, C', 2h, 2w], x [B * K, C, h, w]: the skip's part is computed once for the K objects of an image."""
        return self.join(self.skip_conv(skip), x)

    def join(self, once: Tensor, x: Tensor) -> Tensor:
        """The skip after its convolution [B, C, 2h, 2w], x [B * K, C, h, w]."""
        x = F.interpolate(x, size=once.shape[-2:], mode="bilinear", align_corners=False)
        return self.out_conv((x.unflatten(0, (len(once), -1)) + once[:, None]).flatten(0, 1))


class ValueEncoder(nn.Module):
    """Image, the object's mask and the others' -> a value."""

    def __init__(self, config: StcnConfig, deep: int) -> None:
        super().__init__()
        self.backbone = AutoBackbone.from_config(config.value_backbone)
        self.fuser = Fusion(self.backbone.channels[-1] + deep, config.value_dim)

    def forward(self, x: Tensor, deep: Tensor) -> Tensor:
        """[B * K, 5, H, W], [B, C, h, w] -> [B * K, Cv, h, w]; UsageError if the backbone ends at another stride."""
        features = self.backbone(x).feature_maps[-1]
        if features.shape[-2:] != deep.shape[-2:]:
            strides = [x.shape[-1] // y.shape[-1] for y in (features, deep)]
            cure = "let out_features end at the keys' stride, or change key_level"
            raise UsageError(f"value_backbone ends at stride {strides[0]}, the keys are at stride {strides[1]}; {cure}")
        return self.fuser(features, deep)


class Decoder(nn.Module):
    """Readout of memory and the image's maps -> logits."""

    def __init__(self, config: StcnConfig, skips: list[int]) -> None:
        super().__init__()
        dims = config.decoder_dims
        if len(dims) != len(skips) + 1:
            count = len(skips) + 1
            raise ValueError(f"decoder_dims {dims}: expected {count}, one for the keys and one for each finer map")
        self.compress = ResidualBlock(config.value_dim + config.thin_dim, dims[0])
        pairs = zip(reversed(skips), dims, dims[1:], strict=False)
        self.up = nn.ModuleList(Upsampling(skip, i, o) for skip, i, o in pairs)  # coarse to fine
        self.pred = nn.Conv2d(dims[-1], 1, 3, padding=1)

    def forward(self, x: Tensor, thin: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        """[B * K, Cv, h, w] with the image's own maps -> [B * K, 1, H / 4, W / 4]."""
        x = self.compress(x, thin)
        layers = cast("list[Upsampling]", list(self.up))
        shared = [layer.skip_conv(skip) for layer, skip in zip(layers, reversed(skips), strict=True)]
        if torch.is_grad_enabled() or x.device.type != "cpu" or len(thin) > 1:
            return self._refine(x, shared)
        # One object at a time, so that its maps stay in the cache.
        return torch.cat([self._refine(one, shared) for one in x.split(1)])

    def _refine(self, x: Tensor, shared: list[Tensor]) -> Tensor:
        for layer, once in zip(cast("list[Upsampling]", list(self.up)), shared, strict=True):
            x = layer.join(once, x)
        return self.pred(F.relu(x))


class Stcn(PreTrainedModel):
    """The network: a frame is encoded as keys once, for any number of objects; each object has its own values."""

    config_class = StcnConfig
    main_input_name = "pixel_values"

    def __init__(self, config: StcnConfig) -> None:
        super().__init__(config)
        self.key_encoder = AutoBackbone.from_config(config.key_backbone)
        channels = list(self.key_encoder.channels)
        self._level = config.key_level % len(channels)
        deeper, deep = channels[self._level + 1 :], channels[-1]
        below = [channels[self._level], *deeper][:-1]
        self.merge = nn.ModuleList(Upsampling(skip, deep, deep) for skip in reversed(below))
        self.value_encoder = ValueEncoder(config, deep)
        self.key_proj = nn.Conv2d(deep, config.key_dim, 3, padding=1)
        self.key_comp = nn.Conv2d(deep, config.thin_dim, 3, padding=1)
        self.decoder = Decoder(config, channels[: self._level])
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d) and module.bias is None:  # of a backbone, before a normalisation
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d):
            (init.orthogonal_ if module is self.key_proj else _small)(module.weight)
            assert module.bias is not None
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)

    def train(self, mode: bool = True) -> Stcn:
        super().train(mode)
        if mode:
            self._freeze_norms()
        return self

    def _freeze_norms(self) -> None:
        freeze_norms(self, self.config.norm_batches, self.key_encoder if self.config.frozen_key_norms else None)

    @staticmethod
    def normalise(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Pixels in 0..255 -> input of the encoders; any leading axes."""
        return normalised(pixels).to(dtype)

    def encode_key(self, pixels: Tensor, maps: list[Tensor] | None = None) -> KeyFeatures:
        """Frames [B, 3, H, W], normalised, sides multiples of 16; `maps`: the key encoder's, if computed already."""
        if maps is None:
            maps = list(self.key_encoder(pixels.contiguous(memory_format=torch.channels_last)).feature_maps)
        deep = maps[-1]
        for layer, skip in zip(self.merge, reversed(maps[self._level : -1]), strict=True):
            deep = layer(skip, deep)
        return KeyFeatures(self.key_proj(deep), self.key_comp(deep), deep, tuple(maps[: self._level]))

    def encode_value(self, pixels: Tensor, deep: Tensor, masks: Tensor, others: Tensor | None = None) -> Tensor:
        """Masks [B, K, H, W] of frames [B, 3, H, W] -> values [B, K, Cv, h, w]; `others` None: the others' sum."""
        b, k = masks.shape[:2]
        if others is None:
            others = masks.sum(1, keepdim=True) - masks
        images = pixels[:, None].expand(-1, k, -1, -1, -1)
        stacked = torch.cat([images, masks[:, :, None], others[:, :, None]], 2).flatten(0, 1)
        stacked = stacked.contiguous(memory_format=torch.channels_last)
        return self.value_encoder(stacked, deep).unflatten(0, (b, k))

    def read(self, memory_key: Tensor, memory_value: Tensor, query: Tensor) -> Tensor:
        """The readout of memory ([B, Ck, M], [B, K, Cv, M]) for the query's cells [B, Ck, h, w]: [B, K, Cv, h, w].

        Softmax of -|k - q|^2 / sqrt(Ck) over all of memory; at test time `Memory` reads only the nearest cells. The
        squares are further channels of plain attention, which never builds the matrix of similarities. The query's
        square would cancel, but without it large keys give differences of large numbers, and gradients that are NaN.
        """
        keys, cells = memory_key.transpose(1, 2), query.flatten(2).transpose(1, 2)
        ones = torch.ones_like(cells[..., :1])
        keys = torch.cat([2 * keys, *_squares(keys), ones.new_ones(*keys.shape[:2], 2)], 2)
        cells = torch.cat([cells, ones, ones, *_squares(cells)], 2)
        values = memory_value.flatten(1, 2).transpose(1, 2)
        width = max(keys.shape[2], values.shape[2])  # equal widths, or the fused kernels are not used
        q, k, v = (
            F.pad(x.to(values.dtype), (0, width - x.shape[2])).contiguous()[:, None] for x in (cells, keys, values)
        )
        out = F.scaled_dot_product_attention(q, k, v, scale=self.config.key_dim**-0.5)[:, 0, :, : values.shape[2]]
        return out.transpose(1, 2).unflatten(1, memory_value.shape[1:3]).unflatten(-1, query.shape[-2:])

    def decode(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        """[B, K, Cv, h, w] -> logits [B, K, H, W], each object separately."""
        x = readout.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        logits = self.decoder(x, features.thin, features.skips)
        logits = F.interpolate(logits.float(), scale_factor=4, mode="bilinear", align_corners=False)
        return logits.unflatten(0, readout.shape[:2])[:, :, 0]

    @staticmethod
    def aggregate(probabilities: Tensor) -> Tensor:
        """Soft aggregation: probabilities [B, K, H, W] -> logits [B, K + 1, H, W], background first."""
        background = (1 - probabilities).prod(1, keepdim=True)
        return torch.cat([background, probabilities], 1).clamp(EPSILON, 1 - EPSILON).logit()

    def fused(self, dtype: torch.dtype | None = None) -> Stcn:
        """This model with normalisation folded into convolutions (fast ones on a CPU): not for training or saving.

        Norms are folded before the cast to `dtype`: after it, they cost keys in bfloat16 as much again as the cast.
        """
        fold_norms(self.eval())
        if dtype is not None:
            nn.Module.to(self, dtype)
        self.decoder.compress.take_apart(self.config.value_dim)
        self.value_encoder.fuser.block1.take_apart(self.value_encoder.backbone.channels[-1])
        channels_last(self)
        if self.device.type == "cpu" and self.dtype == torch.float32 and quick_convolution.is_available():
            quick_convolution.quicken(self)
        return self

    def forward(
        self,
        pixel_values: Tensor,
        prompts: Tensor,
        valid: Tensor,
        others: Tensor | None = None,
        read_reference: bool = False,
    ) -> StcnOutput:
        """The training pass: frame t reads a memory of the frames before it, whose masks are predictions.

        Args:
            pixel_values: [B, T, 3, H, W], 0..255.
            prompts: float [B, K, H, W], masks or points of frame 0, the reference.
            valid: bool [B, K].
            others: float [B, K, H, W], pixels that are not each object; None: the other objects' prompts.
            read_reference: also segment frame 0 from its own memory, and add it again with the predicted masks.
        """
        if self.training:
            self._freeze_norms()
        t = pixel_values.shape[1]
        pixels = self.normalise(pixel_values)
        frames = self.encode_key(pixels.flatten(0, 1)).by_frame(t)
        keys = [frames[0].key.flatten(2)]
        values = [self.encode_value(pixels[:, 0], frames[0].deep, prompts, others).flatten(3)]
        logits = []
        for i in range(0 if read_reference else 1, t):
            readout = self.read(torch.cat(keys, 2), torch.cat(values, 3), frames[i].key)
            probabilities = self.decode(readout, frames[i]).sigmoid() * valid[..., None, None]
            logits.append(self.aggregate(probabilities).masked_fill(~with_background(valid), -1e4))
            if i + 1 < t:
                predicted = logits[-1].softmax(1)[:, 1:]
                values.append(self.encode_value(pixels[:, i], frames[i].deep, predicted).flatten(3))
                keys.append(frames[i].key.flatten(2))
        return StcnOutput(torch.stack(logits, 1))


def _squares(x: Tensor) -> tuple[Tensor, Tensor]:
    """-|x|^2 of [B, M, C] as the sum of two [B, M, 1], which half precision can represent."""
    square = x.float().pow(2).sum(2, keepdim=True)
    coarse = square.bfloat16().float()
    return -coarse, coarse - square


def _small(weight: Tensor) -> None:
    init.kaiming_uniform_(weight, a=5**0.5)


def with_background(valid: Tensor) -> Tensor:
    """Valid objects bool [B, K] -> bool [B, K + 1, 1, 1], with the background first, which always is."""
    return F.pad(valid, (1, 0), value=True)[..., None, None]
