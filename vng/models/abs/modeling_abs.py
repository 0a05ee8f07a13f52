"""ABS: attention before segmentation (ClickVOS, arXiv 2403.06130), on the memory and decoder of STCN.

Of the paper we had a summary, which names the parts: point tokenizer, bimodal enhance encoder, segment attention, and
an improvement memory with a global object part and a local dense part. What it leaves open was decided here; the
decisions, and what each part is worth, are in `docs/abs.md`.
Shapes: B videos, K objects, T frames, H x W pixels, h x w cells of the keys, i x j cells of the enhanced features, D
their channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput

from vng.models.abs.configuration_abs import AbsConfig
from vng.models.stcn.modeling_stcn import KeyFeatures, Stcn, with_background

FLOW_CHANNELS = 3  # x, y, length
DISTURBANCES = 0.4  # share of training clips whose first predicted mask is spoilt before it is remembered


@dataclass
class AbsOutput(ModelOutput):
    """Output of a training pass.

    Attributes:
        logits: float [B, T', K + 1, H, W], background first; T' is T - 1, or T if the reference is read too.
        attention: float [B, T', K, i, j], logits of the segment attention alone.
    """

    logits: Tensor | None = None
    attention: Tensor | None = None


@dataclass(frozen=True)
class AbsFeatures(KeyFeatures):
    """Features of a frame, with those of the bimodal enhance encoder."""

    enhanced: Tensor  # [B, D, i, j]

    @staticmethod
    def of(features: KeyFeatures, thin: Tensor, enhanced: Tensor) -> AbsFeatures:
        """STCN's features with another `thin`, and enhanced ones."""
        return AbsFeatures(features.key, thin, features.deep, features.skips, enhanced)

    def by_frame(self, count: int) -> list[KeyFeatures]:
        """See `KeyFeatures`."""
        enhanced = self.enhanced.unflatten(0, (-1, count)).unbind(1)
        plain = super().by_frame(count)
        return [AbsFeatures.of(own, own.thin, one) for own, one in zip(plain, enhanced, strict=True)]


def size_of(maps: Tensor) -> tuple[int, int]:
    """(rows, columns) of maps [..., h, w]."""
    return maps.shape[-2], maps.shape[-1]


def positions(size: tuple[int, int], dim: int, like: Tensor) -> Tensor:
    """Sines and cosines of the cells' positions in [0, 1], as in DETR: [rows * columns, dim]."""
    rows, columns = size
    frequency = 2 * math.pi * 10.0 ** torch.linspace(0, 1.5, dim // 4, device=like.device)
    y = (torch.arange(rows, device=like.device) + 0.5) / rows
    x = (torch.arange(columns, device=like.device) + 0.5) / columns
    waves = [f(p[:, None] * frequency) for p in (y, x) for f in (torch.sin, torch.cos)]
    down = torch.cat(waves[:2], 1)[:, None].expand(rows, columns, -1)
    across = torch.cat(waves[2:], 1)[None].expand(rows, columns, -1)
    return torch.cat([down, across], 2).flatten(0, 1).to(like.dtype)


class Attend(nn.Module):
    """Attention of queries to keys, added to the queries, normalised before (nn.MultiheadAttention)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_query, self.norm_key = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: Tensor, source: Tensor, where: Tensor, source_where: Tensor) -> Tensor:
        """[B, N, D], [B, M, D] with position codes that are added to queries and keys alone."""
        own, other = self.norm_query(x), self.norm_key(source)
        return x + self.attention(own + where, other + source_where, other, need_weights=False)[0]


def feed_forward(dim: int) -> nn.Module:
    """Two linear layers, normalised before."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))


class EnhanceBlock(nn.Module):
    """One modality: self-attention, then cross-attention to the other one, then a feed-forward layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.own, self.other, self.feed = Attend(dim, heads), Attend(dim, heads), feed_forward(dim)

    def forward(self, x: Tensor, other: Tensor, where: Tensor) -> Tensor:
        x = self.own(x, x, where, where)
        x = self.other(x, other, where, where)
        return x + self.feed(x)


class BimodalEnhanceEncoder(nn.Module):
    """Features of image and optical flow, each refined by itself and by the other, then added."""

    def __init__(self, config: AbsConfig, deep: int) -> None:
        super().__init__()
        dim, self.pooling = config.dim, config.pooling
        self.image = nn.Conv2d(deep, dim, 1)
        self.flow = None
        if config.uses_flow:
            widths, layers = (FLOW_CHANNELS, 16, 32, 48), []
            for i, o in pairwise(widths):  # to stride 8
                layers += [nn.Conv2d(i, o, 3, 2, 1), nn.GroupNorm(4, o), nn.ReLU()]
            self.flow = nn.Sequential(*layers, nn.Conv2d(widths[-1], dim, 3, padding=1))
        count = config.enhance_blocks
        self.image_blocks = nn.ModuleList(EnhanceBlock(dim, config.heads) for _ in range(count))
        self.flow_blocks = nn.ModuleList(EnhanceBlock(dim, config.heads) for _ in range(count if self.flow else 0))
        self.norm = nn.LayerNorm(dim)

    def forward(self, deep: Tensor, flow: Tensor | None) -> Tensor:
        """Deep maps [B, C, h, w], flow [B, 3, H, W] -> [B, D, i, j]."""
        image = F.avg_pool2d(self.image(deep), self.pooling, ceil_mode=True)
        size = size_of(image)
        where = positions(size, image.shape[1], image)[None]
        x = image.flatten(2).transpose(1, 2)
        if self.flow is not None and flow is not None:
            y = F.adaptive_avg_pool2d(self.flow(flow), size).flatten(2).transpose(1, 2)
            for of_image, of_flow in zip(self.image_blocks, self.flow_blocks, strict=True):
                x, y = of_image(x, y, where), of_flow(y, x, where)
            x = x + y
        else:
            for of_image in self.image_blocks:
                x = of_image(x, x, where)
        return self.norm(x).transpose(1, 2).unflatten(2, size)


class PointTokenizer(nn.Module):
    """A prompt becomes an object token: the features under it, its place, and the object's identity."""

    def __init__(self, config: AbsConfig) -> None:
        super().__init__()
        self.features, self.place = nn.Linear(config.dim, config.dim), nn.Linear(config.dim, config.dim)
        self.identity = nn.Embedding(config.identities, config.dim)

    def forward(self, enhanced: Tensor, prompts: Tensor) -> Tensor:
        """Enhanced [B, D, i, j], maps of points or masks [B, K, H, W] -> tokens [B, K, D]."""
        size = size_of(enhanced)
        weight = F.adaptive_avg_pool2d(prompts.to(enhanced.dtype), size).flatten(2)
        weight = weight / weight.sum(2, keepdim=True).clamp(min=1e-6)
        where = positions(size, enhanced.shape[1], enhanced)
        tokens = self.features(weight @ enhanced.flatten(2).transpose(1, 2)) + self.place(weight @ where)
        return tokens + self.identities(prompts.shape[1], tokens.device)

    def identities(self, count: int, device: torch.device) -> Tensor:
        """The embeddings [K, D] of the first objects."""
        return self.identity(torch.arange(count, device=device) % self.identity.num_embeddings)


class SegmentAttention(nn.Module):
    """Object tokens attend to one another and to the enhanced features, and find their objects there."""

    def __init__(self, config: AbsConfig) -> None:
        super().__init__()
        dim, count = config.dim, config.attention_layers
        self.own = nn.ModuleList(Attend(dim, config.heads) for _ in range(count))
        self.image = nn.ModuleList(Attend(dim, config.heads) for _ in range(count))
        self.feed = nn.ModuleList(feed_forward(dim) for _ in range(count))
        self.query, self.cells = nn.Linear(dim, dim), nn.Conv2d(dim, dim, 1)

    def forward(self, tokens: Tensor, enhanced: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, K, D], enhanced [B, D, i, j] -> tokens, logits [B, K, i, j]."""
        cells = enhanced.flatten(2).transpose(1, 2)
        where = positions(size_of(enhanced), enhanced.shape[1], enhanced)[None]
        nowhere = torch.zeros_like(where[:, :1])
        for own, image, feed in zip(self.own, self.image, self.feed, strict=True):
            tokens = own(tokens, tokens, nowhere, nowhere)
            tokens = image(tokens, cells, nowhere, where)
            tokens = tokens + feed(tokens)
        product = torch.einsum("bkd,bdij->bkij", self.query(tokens), self.cells(enhanced))
        return tokens, product / tokens.shape[-1] ** 0.5


class ObjectMemory(nn.Module):
    """The global part of the improvement memory: one token an object, refreshed by every frame's mask."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seen, self.cell = nn.Linear(dim, dim), nn.GRUCell(dim, dim)

    def forward(self, tokens: Tensor, enhanced: Tensor, masks: Tensor) -> Tensor:
        """Tokens [B, K, D], enhanced [B, D, i, j], probabilities [B, K, H, W] -> tokens; an unseen object keeps its."""
        weight = F.adaptive_avg_pool2d(masks.to(enhanced.dtype), size_of(enhanced)).flatten(2)
        total = weight.sum(2, keepdim=True)
        seen = self.seen((weight / total.clamp(min=1e-6)) @ enhanced.flatten(2).transpose(1, 2))
        new = self.cell(seen.flatten(0, 1), tokens.flatten(0, 1)).view_as(tokens)
        return torch.where(total > 0.5, new, tokens)  # half a cell


class ObjectReadout(nn.Module):
    """An object's token read at every cell, in the form of a readout of the dense memory."""

    def __init__(self, config: AbsConfig) -> None:
        super().__init__()
        dim = config.dim
        self.scale_shift, self.cells = nn.Linear(dim, 2 * dim), nn.Conv2d(dim, dim, 1)
        self.logit = nn.Parameter(torch.zeros(dim))
        self.out = nn.Conv2d(dim, config.value_dim, 1)

    def forward(self, tokens: Tensor, logits: Tensor, enhanced: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens [B, K, D], logits [B, K, i, j], enhanced [B, D, i, j] -> [B, K, Cv, *size]."""
        scale, shift = (x[..., None, None] for x in self.scale_shift(tokens).chunk(2, -1))
        x = self.cells(enhanced)[:, None] * (1 + scale) + shift + logits[:, :, None] * self.logit[:, None, None]
        x = self.out(F.relu(x.flatten(0, 1)))
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False).unflatten(0, tokens.shape[:2])


class Abs(Stcn):
    """The network. Its keys, values and decoder are STCN's, so it can start from a trained Point-STCN."""

    config_class = AbsConfig  # type: ignore[assignment]

    def __init__(self, config: AbsConfig) -> None:
        super().__init__(config)
        self.enhance = BimodalEnhanceEncoder(config, self.key_encoder.channels[-1])
        self.tokenizer, self.segment_attention = PointTokenizer(config), SegmentAttention(config)
        self.object_memory, self.object_readout = ObjectMemory(config.dim), ObjectReadout(config)
        self.enhanced_thin = nn.Conv2d(config.dim, config.thin_dim, 1)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.MultiheadAttention):
            init.xavier_uniform_(module.in_proj_weight)
            init.zeros_(module.in_proj_bias)
            return
        super()._init_weights(module)
        silent = (getattr(self, "enhanced_thin", None), getattr(getattr(self, "object_readout", None), "out", None))
        if isinstance(module, nn.Conv2d) and module in silent:
            assert module.bias is not None
            # so that an untrained ABS is exactly the Point-STCN that it starts from
            init.zeros_(module.weight)
            init.zeros_(module.bias)

    def enhanced(self, features: KeyFeatures, flow: Tensor | None) -> AbsFeatures:
        """Features of frames [B, ...] with flow [B, 3, H, W] to a neighbouring frame, as `flow_map` makes it."""
        enhanced = self.enhance(features.deep, None if flow is None else flow.to(features.deep.dtype))
        more = F.interpolate(
            self.enhanced_thin(enhanced), size=features.thin.shape[-2:], mode="bilinear", align_corners=False
        )
        return AbsFeatures.of(features, features.thin + more, enhanced)

    def attend(self, tokens: Tensor, features: AbsFeatures) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [B, K, D] in a frame -> refined tokens, logits [B, K, i, j], readout [B, K, Cv, h, w]."""
        tokens, logits = self.segment_attention(tokens, features.enhanced)
        size = size_of(features.key)
        return tokens, logits, self.object_readout(tokens, logits, features.enhanced, size)

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
        prompts: Tensor,
        valid: Tensor,
        others: Tensor | None = None,
        read_reference: bool = False,
        flow: Tensor | None = None,
    ) -> AbsOutput:
        """The training pass: see `Stcn.forward`; `flow` [B, T, 3, H, W] leads from each frame to a neighbour."""
        if self.training:
            self._freeze_norms()
        t = pixel_values.shape[1]
        pixels = self.normalise(pixel_values)
        plain = self.encode_key(pixels.flatten(0, 1))
        frames = self.enhanced(plain, None if flow is None else flow.flatten(0, 1)).by_frame(t)
        keys = [frames[0].key.flatten(2)]
        values = [self.encode_value(pixels[:, 0], frames[0].deep, prompts, others).flatten(3)]
        tokens = self.tokenizer(frames[0].enhanced, prompts)  # type: ignore[attr-defined]
        logits, attention = [], []
        for i in range(t):
            features = frames[i]
            assert isinstance(features, AbsFeatures)
            readout = self.read(torch.cat(keys, 2), torch.cat(values, 3), features.key)
            tokens, found, of_objects = self.attend(tokens, features)
            if self.config.uses_objects:
                readout = readout + of_objects
            probabilities = self.decode(readout, features).sigmoid() * valid[..., None, None]
            logits.append(self.aggregate(probabilities).masked_fill(~with_background(valid), -1e4))
            attention.append(found)
            if i + 1 < t:
                predicted = logits[-1].softmax(1)[:, 1:]
                if i == 0 and self.training:
                    predicted = spoilt(predicted, DISTURBANCES)
                tokens = self.object_memory(tokens, features.enhanced, predicted)
                values.append(self.encode_value(pixels[:, i], features.deep, predicted).flatten(3))
                keys.append(features.key.flatten(2))
        first = 0 if read_reference else 1
        return AbsOutput(torch.stack(logits[first:], 1), torch.stack(attention[first:], 1))


def spoilt(masks: Tensor, share: float) -> Tensor:
    """Masks [B, K, H, W], of which a share (by clip) loses a side or takes in a shifted copy: the network has to heal.

    Drawn by torch's generator, so that a resumed run repeats it.
    """
    b, _, height, width = masks.shape
    line = torch.rand(b, 1, 1, 1, device=masks.device) * 0.8 + 0.1
    across = torch.linspace(0, 1, width, device=masks.device).view(1, 1, 1, -1)
    lost = masks * (across > line)
    moved = torch.maximum(masks, masks.roll((height // 5, width // 5), (2, 3)))
    choice = torch.rand(b, 1, 1, 1, device=masks.device)
    result = torch.where(choice < share / 2, lost, masks)
    return torch.where(choice > 1 - share / 2, moved, result)
