"""DynaMITe: clicks on all objects of an image in, masks out (Rana, Mahadevan, Hermans, Leibe: DynaMITe, ICCV 2023).

The image is encoded once (`encode_image`). Everything that does not depend on clicks is kept, even the keys and values
of every layer that reads the image; only the interactive transformer runs for each further click (`segment`). All
objects share one pass, in which their queries attend to each other.

Mouse traces are Point-VOS's adaptation (2402.05917, Sec. 3.2): one query, whose content is a linear projection of the
features averaged over all pixels of the trace. Ours: its position code is the average of its pixels' codes, and the
projection starts as the identity, so that before training a trace of one pixel equals a click.

Shapes: B images, Q queries, K objects, H x W padded image (multiples of 32), h x w = H/4 x W/4 mask features,
C = hidden_size channels, L pixels of a map, heads n of width d, P points of a query.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoBackbone, Mask2FormerConfig
from transformers import initialization as init
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
    Mask2FormerPreTrainedModel,
    Mask2FormerSinePositionEmbedding,
    sample_point,
)
from transformers.utils import ModelOutput

from vng.models.dynamite.clicks import Dice, Prompts, corrective_clicks
from vng.models.dynamite.configuration_dynamite import DynamiteConfig
from vng.models.dynamite.losses_dynamite import Targets, mask_losses
from vng.models.pixels import PixelLinear, pixel_linear, read_levels
from vng.models.transfer import masks_to_host
from vng.points import BACKGROUND, Click

LEVELS = 3  # maps at strides 32, 16 and 8
SAMPLES = 4  # positions that a head of the pixel decoder samples in each map
LEAST_DURATION = 500  # clicks; times are divided by the last click's time, or by this if it is larger
TEMPERATURE = 10000.0
CHUNK = 2048  # pixels of the interactive decoder at a time without gradients, so that they stay in the cache
AT_ONCE = 16  # queries whose masks are enlarged to full size together
FOLD_BELOW = 48  # most queries for which multiplying projections with keys and values beforehand saves work


@dataclass
class DynamiteOutput(ModelOutput):
    """Output of DynaMITe.

    Attributes:
        loss: scalar, if there are targets.
        loss_terms: unweighted mask and dice loss of the final prediction.
        loss_count: scalar, the number of masks over which losses are averaged.
        mask_logits: float [B, Q, h, w]; the queries of the prompts, then the learned background ones.
        owners: int64 [B, Q], object of each query, or BACKGROUND.
        auxiliary_logits: the same as `mask_logits` before each layer of the interactive encoder and after the last,
            if requested.
    """

    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    loss_count: Tensor | None = None
    mask_logits: Tensor | None = None
    owners: Tensor | None = None
    auxiliary_logits: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class EncodedImage:
    """Everything about B images that does not depend on clicks."""

    maps: tuple[Tensor, ...]  # [B, C, ., .] at strides 32, 16, 8: clicks read their content here
    pixels: Tensor  # [B, h, w, C] mask features
    small: tuple[Tensor, ...]  # [B, C, L] mask features at the size of each map
    keys: tuple[Tensor, ...]  # [B, n, L, d], one for each layer of the interactive encoder
    values: tuple[Tensor, ...]  # [B, n, L, d]

    def of_image(self, b: int) -> EncodedImage:
        """One of the images."""
        parts = (self.maps, self.small, self.keys, self.values)
        maps, small, keys, values = (tuple(x[b : b + 1] for x in part) for part in parts)
        return EncodedImage(maps, self.pixels[b : b + 1], small, keys, values)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the padded images."""
        return 4 * self.pixels.shape[1], 4 * self.pixels.shape[2]


def sine_code(position: Tensor, channels: int) -> Tensor:
    """Code of coordinates in [0, 1], scaled to 2 pi, sines and cosines in turn: [...] -> [..., channels].

    A negative coordinate stands for none; its code is zero.
    """
    step = torch.arange(channels, dtype=torch.float32, device=position.device)
    step = TEMPERATURE ** (2 * (step // 2) / channels)
    angle = position[..., None] * (2 * math.pi) / step
    code = torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], -1).flatten(-2)
    return code * (position >= 0)[..., None]


def click_code(yxt: Tensor, encoding: str, channels: int) -> Tensor:
    """Code of (y, x, time), each in [0, 1]: [..., 3] -> [..., N], N = 3/2, 1 or 1 times `channels`."""
    if encoding == "temporal":
        return sine_code(yxt[..., 2], channels)
    parts = sine_code(yxt[..., : 3 if encoding == "spatio_temporal" else 2], channels // 2)
    return parts.flatten(-2)


class DeformableAttention(Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
    """The pixel decoder's attention, on a CPU without writing every sample of every pixel to memory (`read_levels`)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, heads, LEVELS, SAMPLES)
        samples = heads * LEVELS * SAMPLES
        self.sampling_offsets, self.attention_weights = (
            PixelLinear(channels, 2 * samples),
            PixelLinear(channels, samples),
        )
        self.value_proj, self.output_proj = PixelLinear(channels, channels), PixelLinear(channels, channels)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """As in the base class; attention weights are not returned on a CPU."""
        if hidden_states.device.type != "cpu":
            return super().forward(hidden_states, *args, **kwargs)
        return self._read(hidden_states, **kwargs), None

    def _read(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        position_embeddings: Tensor,
        reference_points: Tensor,
        spatial_shapes_list: list[tuple[int, int]],
        **_: object,
    ) -> Tensor:
        """Pixels [B, S, C], their codes and reference points [B, S, levels, 2] -> [B, S, C]; no pixel is masked."""
        query = hidden_states + position_embeddings
        samples = (self.n_heads, self.n_levels, self.n_points)
        value = self.value_proj(encoder_hidden_states).unflatten(-1, (self.n_heads, -1))
        weights = self.attention_weights(query).unflatten(-1, (self.n_heads, -1)).softmax(-1).unflatten(-1, samples[1:])
        sizes = torch.tensor([(w, h) for h, w in spatial_shapes_list], dtype=query.dtype, device=query.device)
        offsets = self.sampling_offsets(query).unflatten(-1, (*samples, 2)) / sizes[:, None]
        places = reference_points[:, :, None, :, None] + offsets
        return self.output_proj(read_levels(value, spatial_shapes_list, places, weights))


class MultiheadAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` with separate projections: keys and values of an image are kept between clicks."""

    def project(self, part: int, x: Tensor) -> Tensor:
        """Queries (part 0), keys (1) or values (2): [B, L, C] -> [B, n, L, d]."""
        return pixel_linear(x, *self.weight(part)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def weight(self, part: int) -> tuple[Tensor, Tensor]:
        """Weight [C, C] and bias [C] of a projection."""
        c = self.embed_dim
        return self.in_proj_weight[part * c : (part + 1) * c], self.in_proj_bias[part * c : (part + 1) * c]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """query [B, Q, C]; key, value [B, n, L, d]; allowed bool [B, 1, Q, L] -> [B, Q, C]."""
        read = F.scaled_dot_product_attention(self.project(0, query), key, value, attn_mask=allowed)
        return self.out_proj(read.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Residual feed-forward with post-norm."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = PixelLinear(channels, hidden), PixelLinear(hidden, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))


class InteractiveEncoderLayer(nn.Module):
    """Queries attend to the image within their mask, then to all queries, of every object; post-norm."""

    def __init__(self, config: DynamiteConfig) -> None:
        super().__init__()
        c, heads = config.hidden_size, config.attention_heads
        self.cross_attention, self.cross_norm = MultiheadAttention(c, heads, batch_first=True), nn.LayerNorm(c)
        self.self_attention, self.self_norm = MultiheadAttention(c, heads, batch_first=True), nn.LayerNorm(c)
        self.feedforward = FeedForward(c, config.encoder_feedforward)

    def forward(self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
        """x, position [B, Q, C]; keys, values [B, n, L, d]; allowed bool [B, 1, Q, L] -> [B, Q, C]."""
        x = self.cross_norm(x + self.cross_attention.attend(x + position, keys, values, allowed))
        own = self.self_attention
        x = self.self_norm(x + own.attend(x + position, own.project(1, x + position), own.project(2, x)))
        return self.feedforward(x)


class InteractiveDecoderLayer(nn.Module):
    """Reverse attention: every pixel of the mask features reads the queries; post-norm.

    The queries do not change here, so with few of them the projections of pixels are multiplied with keys and values
    beforehand: nQ products a pixel instead of 2C. Sine codes of pixels consist of a row's and a column's code, so their
    share of the scores is an outer sum.
    """

    def __init__(self, config: DynamiteConfig) -> None:
        super().__init__()
        c = config.hidden_size
        self.attention, self.norm = MultiheadAttention(c, config.attention_heads, batch_first=True), nn.LayerNorm(c)
        self.feedforward = FeedForward(c, config.decoder_feedforward)

    def prepare(self, queries: Tensor, position: Tensor, row_code: Tensor, column_code: Tensor) -> Reading:
        """The tensors shared by all pixels; queries, position [B, Q, C]; row_code [h, C/2], column_code [w, C/2]."""
        attention = self.attention
        keys, values = attention.project(1, queries + position), attention.project(2, queries)
        weight, bias = attention.weight(0)
        half = weight.shape[1] // 2
        if queries.shape[1] > FOLD_BELOW:
            rows, columns = F.linear(row_code, weight[:, :half]), F.linear(column_code, weight[:, half:], bias)
            return Reading(rows[:, None], columns, [weight], None, keys, values)
        weight, bias = (t.unflatten(0, (attention.num_heads, -1)) / keys.shape[-1] ** 0.5 for t in (weight, bias))
        score = torch.einsum("ndc,bnqd->bnqc", weight, keys).flatten(1, 2)  # [B, nQ, C]
        constant = torch.einsum("nd,bnqd->bnq", bias, keys).flatten(1)
        out = attention.out_proj.weight.unflatten(1, (attention.num_heads, -1))  # [C, n, d]
        readout = torch.einsum("cnd,bnqd->bcnq", out, values).flatten(2)
        rows, columns = row_code @ score[..., :half].mT, column_code @ score[..., half:].mT + constant[:, None]
        return Reading(rows[:, :, None], columns[:, None], list(score), list(readout), keys, values)

    def forward(self, x: Tensor, reading: Reading, first: int) -> Tensor:
        """Pixels [B, r, w, C] of rows `first` and following -> the same shape."""
        b, r, w, c = x.shape
        rows = reading.rows[..., first : first + r, :, :]
        projected = _each(x, reading.score) + (rows + reading.columns)
        if reading.readout is None:
            query = projected.flatten(1, 2).unflatten(-1, (self.attention.num_heads, -1)).transpose(1, 2)
            read = F.scaled_dot_product_attention(query, reading.keys, reading.values)
            read = pixel_linear(read.transpose(1, 2).flatten(2), self.attention.out_proj.weight).view(b, r, w, c)
        else:
            share = projected.unflatten(-1, (self.attention.num_heads, -1)).softmax(-1).flatten(-2)
            read = _each(share, reading.readout)
        return self.feedforward(self.norm(x + (read + self.attention.out_proj.bias)))


@dataclass(frozen=True)
class Reading:
    """The tensors shared by all pixels of one interactive decoder layer; see `InteractiveDecoderLayer.prepare`."""

    rows: Tensor  # [B or 1, h, 1, N], the share of a pixel's row in its projection or scores
    columns: Tensor  # [B or 1, 1, w, N]
    score: list[Tensor]  # one [nQ, C] an image, to scores, or a single [C, C], to queries
    # one [C, nQ] an image, from attention to the values read; None: not multiplied beforehand
    readout: list[Tensor] | None
    keys: Tensor  # [B, n, Q, d]
    values: Tensor  # [B, n, Q, d]


class InteractiveTransformer(nn.Module):
    """Queries of clicks and of the background, the interactive encoder and decoder, and the mask head."""

    bg_query: Tensor

    def __init__(self, config: DynamiteConfig) -> None:
        super().__init__()
        self.config = config
        c = config.hidden_size
        self.query_embed = nn.Parameter(torch.zeros(c))
        self.register_buffer("bg_query", torch.zeros(c))  # content of fillers, never trained
        if config.static_background:
            self.static_bg_query = nn.Parameter(torch.zeros(config.static_background, c))
            self.static_bg_pe = nn.Parameter(torch.zeros(config.static_background, c))
        if config.click_encoding != "none":
            self.position_projection = nn.Linear(c * 3 // 2 if config.click_encoding == "spatio_temporal" else c, c)
        self.trace_projection = nn.Linear(c, c)
        self.query_projection = nn.Sequential(nn.Linear(c, c), nn.ReLU(), nn.Linear(c, c))
        self.level_embed = nn.Embedding(LEVELS, c)
        self.encoder = nn.ModuleList(InteractiveEncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(InteractiveDecoderLayer(config) for _ in range(config.decoder_layers))
        self.layer_norm = nn.LayerNorm(c)
        self.mask_embed = nn.Sequential(nn.Linear(c, c), nn.ReLU(), nn.Linear(c, c), nn.ReLU(), nn.Linear(c, c))
        self.pixel_position = Mask2FormerSinePositionEmbedding(c // 2, normalize=True)

    def prepare(self, maps: tuple[Tensor, ...], mask_features: Tensor) -> EncodedImage:
        """All that does not depend on clicks, from maps [B, C, ., .] at strides 32, 16, 8 and features [B, C, h, w].

        Attention masks need the mask logits at the maps' sizes. Logits are a product of queries and mask features, so
        the features are scaled down here, once, and logits are computed at those sizes only.
        """
        flat, position, small = [], [], []
        for level, x in enumerate(maps):
            code = self.pixel_position(x.shape, x.device, x.dtype).flatten(2).transpose(1, 2)
            flat.append(x.flatten(2).transpose(1, 2) + self.level_embed.weight[level])
            position.append(flat[-1] + code)
            scaled = F.interpolate(mask_features, size=x.shape[-2:], mode="bilinear", align_corners=False)
            small.append(scaled.flatten(2))
        keys, values = [], []
        for index, layer in enumerate(self.encoder):
            attention: Any = layer.cross_attention
            keys.append(attention.project(1, position[index % LEVELS]))
            values.append(attention.project(2, flat[index % LEVELS]))
        pixels = mask_features.permute(0, 2, 3, 1).contiguous()
        return EncodedImage(tuple(maps), pixels, tuple(small), tuple(keys), tuple(values))

    def forward(self, image: EncodedImage, prompts: Prompts, auxiliary: bool = False) -> DynamiteOutput:
        """Masks of prompts; with `auxiliary` also those between the layers, for training."""
        if not self.config.static_background:
            prompts = prompts.with_fillers(1)  # there is always a background
        x, position = self._queries(image, prompts)
        between = []
        for index, layer in enumerate(self.encoder):
            embedding = self._mask_embedding(x)
            if auxiliary:
                between.append(_logits(embedding, image.pixels))
            blocked = (embedding.detach() @ image.small[index % LEVELS].detach()) < 0
            allowed = ~blocked | blocked.all(-1, keepdim=True)  # an empty mask blocks nothing
            x = layer(x, position, image.keys[index], image.values[index], allowed[:, None])
        embedding = self._mask_embedding(x)
        if auxiliary and self.config.decoder_layers:
            between.append(_logits(embedding, image.pixels))
        return DynamiteOutput(
            mask_logits=self._decode(image.pixels, x, position, embedding),
            owners=F.pad(prompts.owners, (0, self.config.static_background), value=BACKGROUND),
            auxiliary_logits=tuple(between) if auxiliary else None,
        )

    def _queries(self, image: EncodedImage, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Content and position of all queries, both [B, Q, C]."""
        content, position = self._content(image, prompts), self.query_embed.expand(*prompts.times.shape, -1)
        if self.config.click_encoding != "none":
            position = position + self.position_projection(self._code(image, prompts))
        if self.config.static_background:
            b = len(content)
            content = torch.cat([content, self.static_bg_query.expand(b, -1, -1)], 1)
            position = torch.cat([position, self.static_bg_pe.expand(b, -1, -1)], 1)
        return self.query_projection(content), position

    def _content(self, image: EncodedImage, prompts: Prompts) -> Tensor:
        """Features at each query's points, averaged over points and maps: [B, Q, C]."""
        q, p = prompts.points.shape[1:3]
        positions = _unit(prompts.points, image.size).flip(-1).flatten(1, 2)  # (x, y)
        read = [sample_point(m, positions.to(m.dtype), align_corners=False) for m in image.maps]
        features = torch.stack(read).mean(0).transpose(1, 2).unflatten(1, (q, p))
        content = _average(features, prompts)
        content = torch.where(prompts.traced[..., None], self.trace_projection(content), content)
        is_filler = (prompts.points[:, :, 0, 0] < 0)[..., None]
        return torch.where(is_filler, self.bg_query.to(content.dtype), content)

    def _code(self, image: EncodedImage, prompts: Prompts) -> Tensor:
        """Position codes, averaged over each query's points: [B, Q, N]."""
        duration = prompts.times.amax(1, keepdim=True).clamp(min=LEAST_DURATION) if prompts.times.shape[1] else 1.0
        times = torch.where(prompts.times < 0, prompts.times, prompts.times / duration)
        times = times[..., None, None].expand(*prompts.points.shape[:3], 1)
        yxt = torch.cat([_unit(prompts.points, image.size), times], -1)
        code = click_code(yxt, self.config.click_encoding, self.config.hidden_size)
        return _average(code, prompts).to(self.query_embed.dtype)

    def _mask_embedding(self, x: Tensor) -> Tensor:
        return self.mask_embed(self.layer_norm(x))

    def _decode(self, pixels: Tensor, queries: Tensor, position: Tensor, embedding: Tensor) -> Tensor:
        """Mask logits [B, Q, h, w] of the pixels after the interactive decoder.

        Pixels do not attend to each other here, so rows pass through all layers a few at a time.
        """
        if not self.config.decoder_layers:
            return _logits(embedding, pixels)
        b, h, w, c = pixels.shape
        like = {"device": pixels.device, "dtype": pixels.dtype}
        row_code = self.pixel_position((1, c, h, 1), **like)[0, : c // 2, :, 0].T
        column_code = self.pixel_position((1, c, 1, w), **like)[0, c // 2 :, 0].T
        layers: Any = self.decoder
        readings = [layer.prepare(queries, position, row_code, column_code) for layer in layers]
        step = h if torch.is_grad_enabled() else max(1, CHUNK // (w * b))
        pieces = []
        for first in range(0, h, step):
            rows = pixels[:, first : first + step]
            for layer, reading in zip(layers, readings, strict=True):
                rows = layer(rows, reading, first)
            pieces.append(_logits(embedding, rows))
        return torch.cat(pieces, 2)


class DynamiteModel(Mask2FormerPreTrainedModel):
    """Images and prompts in, one mask per query out; with targets also the loss, after simulated corrective clicks."""

    config: DynamiteConfig  # type: ignore[assignment]
    config_class = DynamiteConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: DynamiteConfig) -> None:
        super().__init__(config)
        self.backbone = AutoBackbone.from_config(config.backbone_config)
        channels = self.backbone.channels
        if len(channels) != 4:
            raise ValueError(f"backbone_config must name four out_features (strides 4 to 32), got {len(channels)}")
        c = config.hidden_size
        sizes = Mask2FormerConfig(
            feature_size=c,
            mask_feature_size=c,
            encoder_layers=config.pixel_decoder_layers,
            encoder_feedforward_dim=config.pixel_decoder_feedforward,
            num_attention_heads=config.attention_heads,
        )
        self.pixel_decoder = Mask2FormerPixelDecoder(sizes, feature_channels=channels)
        hidden = config.pixel_decoder_feedforward
        layers: Any = self.pixel_decoder.encoder.layers
        for layer in layers:
            layer.self_attn = DeformableAttention(c, config.attention_heads)
            layer.fc1, layer.fc2 = PixelLinear(c, hidden), PixelLinear(hidden, c)
        refined = LEVELS if config.refine_mask_features else 0
        self.refine = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(refined))  # strides 8, 16, 32
        self.transformer = InteractiveTransformer(config)
        if config.freeze_batch_norm:
            for module in _batch_norms(self.backbone):
                module.requires_grad_(False)
        self.post_init()

    def train(self, mode: bool = True) -> DynamiteModel:
        """As `nn.Module.train`, but frozen batch norm keeps its statistics."""
        super().train(mode)
        if self.config.freeze_batch_norm:
            for module in _batch_norms(self.backbone):
                module.eval()
        return self

    def _initialize_weights(self, module: Any, *_: object) -> None:
        # For classes outside transformers the base class skips modules without weights of their own, even if their
        # rules set weights of submodules (deformable attention). Our rules use transformers.initialization, so all may
        # run.
        super()._initialize_weights(module)

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        if isinstance(module, InteractiveTransformer):
            init.normal_(module.query_embed)
            init.zeros_(module.bg_query)
            init.eye_(module.trace_projection.weight)
            init.zeros_(module.trace_projection.bias)
            if self.config.static_background:
                init.xavier_uniform_(module.static_bg_query)
                init.normal_(module.static_bg_pe)
        elif isinstance(module, MultiheadAttention):
            init.xavier_uniform_(module.in_proj_weight)
            init.xavier_uniform_(module.out_proj.weight)
            init.zeros_(module.in_proj_bias)
            init.zeros_(module.out_proj.bias)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_uniform_(module.weight, a=1)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def encode_image(self, pixel_values: Tensor) -> EncodedImage:
        """Everything that depends on the images alone: normalised float [B, 3, H, W], H and W multiples of 32."""
        features = self.backbone(pixel_values.contiguous(memory_format=torch.channels_last)).feature_maps
        decoded = self.pixel_decoder(list(features), output_attentions=False, output_hidden_states=False)
        maps, mask_features = decoded.multi_scale_features, decoded.mask_features
        if self.config.refine_mask_features:
            mask_features = mask_features + self._refinement(maps, mask_features.shape[-2:])
        return self.transformer.prepare(maps, mask_features)

    def _refinement(self, maps: tuple[Tensor, ...], size: torch.Size) -> Tensor:
        """The term that the three maps add to the mask features, [B, C, h, w].

        The reference adds it before the last 1x1 convolution. That is linear, and averages commute with it, so its
        weight (the bias is in the mask features already) is applied here at stride 8, a quarter of the pixels.
        """
        finest = maps[-1]
        total = self.refine[0](finest)
        for convolution, x in zip(self.refine[1:], maps[-2::-1], strict=True):
            total = total + F.interpolate(convolution(x), size=finest.shape[-2:], mode="bilinear", align_corners=False)
        total = F.conv2d(total, self.pixel_decoder.mask_projection.weight)
        return F.interpolate(total, size=size, mode="bilinear", align_corners=False)

    def segment(self, image: EncodedImage, prompts: Prompts) -> DynamiteOutput:
        """Masks of prompts on encoded images; call it again with more clicks."""
        return self.transformer(image, prompts)

    def forward(
        self,
        pixel_values: Tensor,
        points: Tensor,
        times: Tensor,
        owners: Tensor,
        traced: Tensor,
        pixel_mask: Tensor | None = None,
        target_masks: Tensor | None = None,
        target_valid: Tensor | None = None,
        seeds: Tensor | None = None,
        **_: object,
    ) -> DynamiteOutput:
        """Segment B images; with targets also compute the loss.

        In training mode a random number of corrective rounds (at most `most_rounds`) comes first: predict, click on
        errors. Their predictions carry no gradient; in the authors' program they do but are not used, so the result is
        the same.

        Args:
            pixel_values: float [B, 3, H, W], normalised, H and W multiples of 32.
            points, times, owners, traced: the prompts, see `Prompts`.
            pixel_mask: bool [B, H, W], True where there is image; None: everywhere.
            target_masks: bool [B, K, H, W], without overlaps.
            target_valid: bool [B, K], False for padding; None: all are valid.
            seeds: int64 [B], of the random rounds, clicks and loss points of each image, whose prompts are then used
                without fillers: an image's loss does not depend on the others. None: as in the authors' program.
        """
        prompts = Prompts(points, times, owners, traced)
        image = self.encode_image(pixel_values)
        if target_masks is None:
            return self.transformer(image, prompts)
        if pixel_mask is None:
            pixel_mask = torch.ones_like(pixel_values[:, 0], dtype=torch.bool)
        if target_valid is None:
            target_valid = torch.ones_like(target_masks[:, :, 0, 0])
        targets = Targets(target_masks, target_valid, pixel_mask)
        if seeds is not None:
            return self._one_by_one(image, prompts, targets, seeds)
        if self.training:
            prompts = self._corrected(image, prompts, targets, random.Random(int(torch.randint(2**31, ()))))
        output = self.transformer(image, prompts, auxiliary=True)
        output.loss, output.loss_terms = self._loss(output, targets)
        output.loss_count = output.loss.new_tensor(targets.count)
        return output

    def _one_by_one(self, image: EncodedImage, prompts: Prompts, targets: Targets, seeds: Tensor) -> DynamiteOutput:
        """The loss of images that do not depend on each other: their masks' losses, averaged over all masks."""
        sums: dict[str, Tensor] = {}
        asked = (prompts.points[:, :, 0, 0] >= 0).sum(1)
        for b, (seed, count) in enumerate(torch.stack([seeds, asked], 1).tolist()):
            encoded, own, truth = image.of_image(b), prompts.of_image(b, count), targets.of_image(b)
            if self.training:
                own = self._corrected(encoded, own, truth, random.Random(seed))
            output = self.transformer(encoded, own, auxiliary=True)
            generator = torch.Generator().manual_seed(seed)
            loss, terms = self._loss(output, truth, generator)
            for name, value in {"loss": loss, **terms}.items():
                sums[name] = sums.get(name, 0) + value * truth.count
        terms = {name: value / targets.count for name, value in sums.items()}
        loss = terms.pop("loss")
        return DynamiteOutput(loss=loss, loss_terms=terms, loss_count=loss.new_tensor(targets.count))

    @torch.no_grad()
    def _corrected(self, image: EncodedImage, prompts: Prompts, targets: Targets, draw: random.Random) -> Prompts:
        """The prompts after a random number of corrective rounds."""
        rounds = draw.randint(0, self.config.most_rounds)
        if not rounds:
            return prompts
        drawn = masks_to_host(torch.cat([targets.masks, ~targets.pixel_mask[:, None]], 1))
        truth, padding = drawn[:, :-1], drawn[:, -1]
        times = prompts.next_times()
        for _ in range(rounds):
            output = self.transformer(image, prompts)
            assert output.mask_logits is not None and output.owners is not None
            labels = torch.stack(
                [
                    instance_logits(logits, own, count, image.size).argmax(0).to(torch.uint8)
                    for logits, own, count in zip(output.mask_logits, output.owners, targets.counts, strict=True)
                ]
            )
            clicks: list[list[Click]] = []
            for b, (count, predicted) in enumerate(zip(targets.counts, labels.cpu().numpy(), strict=True)):
                masks = predicted == np.arange(count)[:, None, None]
                dice = Dice(draw.randrange(2**31))
                clicks.append(corrective_clicks(masks, truth[b, :count], padding[b], times[b], dice))
                times[b] += len(clicks[-1])
            prompts = prompts.with_clicks(clicks)
        return prompts

    def _loss(
        self, output: DynamiteOutput, targets: Targets, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted losses of the final masks and of all those between the layers.

        The authors' program computes one auxiliary loss more than it has weights for, and so drops the one of the
        interactive encoder's last layer (`_9`); here all count.
        """
        assert output.mask_logits is not None and output.owners is not None
        config, auxiliary = self.config, output.auxiliary_logits or ()
        terms: dict[str, Tensor] = {}
        total = output.mask_logits.new_zeros(())
        for logits in [output.mask_logits, *auxiliary]:
            sampling = (config.points, config.oversampling, config.importance)
            layer = mask_losses(logits, output.owners, targets, *sampling, generator)
            total = total + config.mask_weight * layer["mask"] + config.dice_weight * layer["dice"]
            terms = terms or layer
        return total, {name: value.detach() for name, value in terms.items()}


@torch.no_grad()
def instance_logits(
    mask_logits: Tensor,
    owners: Tensor,
    count: int,
    size: tuple[int, int],
    inner: tuple[int, int] | None = None,
    wanted: tuple[int, int] | None = None,
) -> Tensor:
    """Logits of each object of one image, then of the background: float [K + 1, H, W]; minus infinity without queries.

    Each query's logits are first resized to `wanted`; an object's logits are the maximum over its queries.

    Args:
        mask_logits: float [Q, h, w].
        owners: int64 [Q].
        count: K.
        size: of the padded image.
        inner: of the scaled image in it; None: `size`.
        wanted: (H, W), of the image before it was scaled; None: `inner`.
    """
    inner = inner or size
    wanted = wanted or inner
    result = mask_logits.new_full((count + 1, *wanted), -torch.inf, dtype=torch.float32)
    of_queries = owners.tolist()
    for row, owner in zip(result, [*range(count), BACKGROUND], strict=True):
        queries = [q for q, own in enumerate(of_queries) if own == owner]
        for own in mask_logits[queries].split(AT_ONCE):
            full = F.interpolate(own[None].float(), size=size, mode="bilinear", align_corners=False)
            full = full[..., : inner[0], : inner[1]]
            if inner != wanted:
                full = F.interpolate(full, size=wanted, mode="bilinear", align_corners=False)
            torch.maximum(row, full[0].amax(0), out=row)
    return result


def _logits(embedding: Tensor, pixels: Tensor) -> Tensor:
    """[B, Q, C] and [B, h, w, C] -> [B, Q, h, w]."""
    return (embedding @ pixels.flatten(1, 2).transpose(1, 2)).unflatten(2, pixels.shape[1:3])


def _each(pixels: Tensor, weights: list[Tensor]) -> Tensor:
    """Pixels [B, r, w, C] by one weight [N, C] for each image, or for all: [B, r, w, N]."""
    if len(weights) == 1:
        return pixel_linear(pixels, weights[0])
    return torch.stack([pixel_linear(x, weight) for x, weight in zip(pixels, weights, strict=True)])


def _unit(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels (y, x) -> shares of the image; negative stays negative."""
    return torch.stack([points[..., axis] / side for axis, side in enumerate(size)], -1)


def _average(x: Tensor, prompts: Prompts) -> Tensor:
    """Mean over a query's points, without padding: [B, Q, P, C] -> [B, Q, C]."""
    if x.shape[2] == 1:
        return x[:, :, 0]
    is_point = (prompts.points[..., :1] >= 0).to(x.dtype)
    return (x * is_point).sum(2) / is_point.sum(2).clamp(min=1)


def _batch_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
