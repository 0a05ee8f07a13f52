"""ReferFormer for Video Narrative Grounding (RF-VNG).

ReferFormer: Wu et al., CVPR 2022. RF-VNG: Voigtlaender et al., CVPR 2023, Sec. 4.2: the queries are conditioned on the
averaged token features of the marked noun instead of the sentence (`conditioning` has both). The noun enters only
at the decoder, so everything before it is computed once for all nouns of a narrative.

Shapes: B clips, T frames, N nouns, L tokens, Q queries a frame and noun, C = d_model channels, S pixels over all
feature levels, H x W image, h x w = H/4 x W/4 mask features. Padding masks follow `transformers`: True is valid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoBackbone, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrMultiscaleDeformableAttention
from transformers.utils import ModelOutput

from vng.errors import UsageError
from vng.models import quick_convolution
from vng.models.layout import channels_last, fold_frozen_norms, fold_norms
from vng.models.pixels import PixelDropout, PixelLinear, feed_forward, pixel_linear, read_levels
from vng.models.referformer.configuration_referformer import ReferFormerConfig
from vng.models.referformer.losses_points import Evidence
from vng.models.referformer.losses_referformer import Prediction, losses, make_targets
from vng.models.transfer import to_device


@dataclass
class ReferFormerOutput(ModelOutput):
    """Output of the grounder; the N nouns include padding.

    Attributes:
        loss: scalar, if there are targets.
        loss_terms: unweighted class, box, giou, mask, dice of the last layer.
        loss_count: scalar, the number by which losses are divided where it is at least 1: frames that show an object.
        logits: float [B, N, T, Q], whether a query shows the object in a frame.
        boxes: float [B, N, T, Q, 4], (cx, cy, w, h) in [0, 1].
        masks: float [B, N, T, Q, h, w], mask logits.
        reference_points: float [B, N, T, Q, 2], of the last layer, (x, y) in [0, 1].
    """

    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    loss_count: Tensor | None = None
    logits: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None
    reference_points: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The output of everything before the decoder, for clips with one narrative each; its nouns share it."""

    tokens: Tensor  # [B, L, text width], the text encoder's last hidden states
    sentence: Tensor | None  # [B, text width], its pooled feature; None with conditioning "noun"
    memory: Tensor  # [B*T, S, C]
    memory_valid: Tensor  # bool [B*T, S]
    valid_ratios: Tensor  # [B*T, levels, 2]
    shapes: list[tuple[int, int]]
    mask_features: Tensor  # [B, T, mask_dim, h, w]
    sizes: Tensor  # float [B, 2], (height, width) without padding


def sine_position_1d(valid: Tensor, channels: int) -> Tensor:
    """Sine code of token positions: bool [B, L] -> [B, L, C], positions scaled to 2 pi."""
    position = valid.cumsum(1, dtype=torch.float32)
    position = position / (position[:, -1:] + 1e-6) * 2 * math.pi
    return _sine(position, channels)


def sine_position_2d(valid: Tensor, channels: int) -> Tensor:
    """Sine code of pixel positions: bool [B, H, W] -> [B, C, H, W], pixel centres scaled to 2 pi; y first."""
    y, x = (valid.cumsum(axis, dtype=torch.float32) for axis in (1, 2))
    y = (y - 0.5) / (y[:, -1:, :] + 1e-6) * 2 * math.pi
    x = (x - 0.5) / (x[:, :, -1:] + 1e-6) * 2 * math.pi
    return torch.cat([_sine(y, channels // 2), _sine(x, channels // 2)], -1).permute(0, 3, 1, 2)


def _sine(position: Tensor, channels: int, temperature: float = 10000.0) -> Tensor:
    step = torch.arange(channels, dtype=torch.float32, device=position.device)
    angle = position[..., None] / temperature ** (2 * (step // 2) / channels)
    return torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], -1).flatten(-2)


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """logit of a probability, clamped away from 0 and 1."""
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, width: int, hidden: int, out: int, layers: int = 3) -> None:
        super().__init__()
        widths = [width] + [hidden] * (layers - 1) + [out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., out]."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class Attention(nn.MultiheadAttention):
    """`nn.MultiheadAttention`, batch first, for many pixels."""

    def __init__(self, config: ReferFormerConfig, dropout: float) -> None:
        super().__init__(config.d_model, config.attention_heads, dropout=dropout, batch_first=True)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """[B, Q, C], [B, L, C] twice -> [B, Q, C]; `valid` is bool [B, L], True where a key may be attended to."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            pixel_linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        mask = None if valid is None else valid[:, None, None]
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0)
        return pixel_linear(read.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)


class EarlyFusion(nn.Module):
    """Vision-language early fusion: each pixel is multiplied by its attention over the narrative's tokens."""

    def __init__(self, config: ReferFormerConfig) -> None:
        super().__init__()
        self.multihead_attn = Attention(config, 0.0)

    def forward(self, features: Tensor, text: Tensor, text_valid: Tensor, text_position: Tensor) -> Tensor:
        """features [B, T, C, h, w], text [B, L, C] -> [B, T, C, h, w]."""
        b, t, c, h, w = features.shape
        pixels = features.permute(0, 1, 3, 4, 2).reshape(b, t * h * w, c)
        pixels = pixels * self.multihead_attn(pixels, text + text_position, text, text_valid)
        return pixels.reshape(b, t, h, w, c).permute(0, 1, 4, 2, 3)


class VisionLanguageBlock(nn.Module):
    """Post-norm block of the pixel decoder: self-attention over the clip (`reduction` times smaller), text, MLP."""

    def __init__(self, config: ReferFormerConfig, reduction: int) -> None:
        super().__init__()
        c = config.d_model
        self.reduction = reduction
        self.self_attn, self.multihead_attn = Attention(config, config.dropout), Attention(config, config.dropout)
        self.linear1, self.linear2 = nn.Linear(c, config.feedforward_dim), nn.Linear(config.feedforward_dim, c)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(c), nn.LayerNorm(c), nn.LayerNorm(c)
        self.dropout = PixelDropout(config.dropout)

    def forward(self, x: Tensor, position: Tensor, valid: Tensor, text: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """x, position [B, T, C, h, w]; valid bool [B, T, h, w]; text = (features, valid, position) -> as x."""
        b, t, c, h, w = x.shape
        attended = self._self_attention(x, position, valid)
        pixels = x.permute(0, 1, 3, 4, 2).reshape(b, -1, c) + self.dropout(attended)
        # Tokens are few: computing their attention again costs less than saving it for each pixel.
        if torch.is_grad_enabled():
            pixels = checkpoint(self._text_attention, pixels, position, *text, use_reentrant=False)
        else:
            pixels = self._text_attention(pixels, position, *text)
        pixels = self.norm2(pixels)
        wide = feed_forward(pixels, self.linear1, self.linear2, self.dropout.p if self.training else 0.0)
        pixels = self.norm3(pixels + self.dropout(wide))
        return pixels.reshape(b, t, h, w, c).permute(0, 1, 4, 2, 3)

    def _text_attention(
        self, pixels: Tensor, position: Tensor, text: Tensor, valid: Tensor, text_position: Tensor
    ) -> Tensor:
        """[B, T*h*w, C] before the first norm -> the same before the second, the text added."""
        pixel_position = position.permute(0, 1, 3, 4, 2).reshape(pixels.shape)
        pixels = self.norm1(pixels)
        return pixels + self.dropout(self.multihead_attn(pixels + pixel_position, text + text_position, text, valid))

    def _self_attention(self, x: Tensor, position: Tensor, valid: Tensor) -> Tensor:
        b, t, c, h, w = x.shape
        small = (max(1, h // self.reduction), max(1, w // self.reduction))
        query = F.interpolate((x + position).flatten(0, 1), size=small)
        value = F.interpolate(x.flatten(0, 1), size=small)
        keep = F.interpolate(valid.float(), size=small).bool().flatten(1)
        flat = [m.view(b, t, c, -1).transpose(2, 3).reshape(b, -1, c) for m in (query, value)]
        out = self.self_attn(flat[0], flat[0], flat[1], keep)
        out = out.reshape(b * t, *small, c).permute(0, 3, 1, 2)
        if self.reduction > 1:
            out = F.interpolate(out, size=(h, w), mode="bilinear", align_corners=False)
        return out.view(b, t, c, h, w).permute(0, 1, 3, 4, 2).reshape(b, -1, c)


class ConvNorm(nn.Conv2d):
    """Convolution without bias, then group norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, h, w]."""
        return self.norm(super().forward(x))

    def apart(self) -> nn.Sequential:
        """The same layer as two modules, a plain convolution and the norm."""
        kernel = self.kernel_size[0]
        plain = nn.Conv2d(self.in_channels, self.out_channels, kernel, padding=kernel // 2, bias=False)
        plain.weight = self.weight
        return nn.Sequential(plain, self.norm)


class PixelDecoder(nn.Module):
    """Cross-modal feature pyramid: encoder memory at strides 32, 16, 8 and the backbone's stride 4 -> mask features."""

    def __init__(self, config: ReferFormerConfig, stem_channels: int) -> None:
        super().__init__()
        c = config.d_model
        for stage, (channels, reduction) in enumerate(zip([stem_channels, c, c, c], (8, 4, 2, 1), strict=True), 1):
            self.add_module(f"adapter_{stage}", ConvNorm(channels, c, 1))
            self.add_module(f"layer_{stage}", ConvNorm(c, c, 3))
            self.add_module(f"cross_attn_{stage}", VisionLanguageBlock(config, reduction))
        self.mask_features = nn.Conv2d(c, config.mask_dim, 3, padding=1)

    def forward(
        self, maps: list[Tensor], positions: list[Tensor], valids: list[Tensor], text: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """maps at strides 4..32, each [B, T, channels, h, w] -> [B, T, mask_dim, h, w] at stride 4."""
        y: Tensor | None = None
        for stage in (4, 3, 2, 1):
            x = maps[stage - 1]
            b, t = x.shape[:2]
            x = getattr(self, f"adapter_{stage}")(x.flatten(0, 1)).unflatten(0, (b, t))
            x = getattr(self, f"cross_attn_{stage}")(x, positions[stage - 1], valids[stage - 1], text).flatten(0, 1)
            if y is not None:
                x = x + F.interpolate(y, size=x.shape[-2:], mode="nearest")
            y = F.relu(getattr(self, f"layer_{stage}")(x))
        assert y is not None
        return self.mask_features(y).unflatten(0, (b, t))


class DeformableAttention(DeformableDetrMultiscaleDeformableAttention):
    """Attention to a few sampled positions of every level, initialised as in Deformable DETR; CPU: `read_levels`."""

    def __init__(self, config: ReferFormerConfig) -> None:
        # The base class reads three fields of its own configuration, which would include a second backbone.
        sizes: Any = SimpleNamespace(
            d_model=config.d_model, num_feature_levels=config.num_feature_levels, disable_custom_kernels=False
        )
        super().__init__(sizes, num_heads=config.attention_heads, n_points=config.num_points)
        c, samples = config.d_model, self.n_heads * self.n_levels * self.n_points
        self.sampling_offsets, self.attention_weights = PixelLinear(c, 2 * samples), PixelLinear(c, samples)
        self.value_proj, self.output_proj = PixelLinear(c, c), PixelLinear(c, c)
        # Initially each head samples in its own direction, farther with each point, with equal weights.
        angle = torch.arange(self.n_heads, dtype=torch.float32) * (2 * math.pi / self.n_heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.n_points + 1, dtype=torch.float32)
        offsets = (direction[:, None, None] * steps[None, None, :, None]).expand(-1, self.n_levels, -1, -1)
        _with_initial_values(self.sampling_offsets, init.zeros_, offsets.reshape(-1))
        _with_initial_values(self.attention_weights, init.zeros_, torch.zeros(samples))

    def read(self, query: Tensor, memory: Tensor, valid: Tensor, reference: Tensor, levels: dict) -> Tensor:
        """query [B, Q, C], memory [B, S, C], valid bool [B, S], reference float32 [B, Q, levels, 2 or 4] -> [B, Q, C].

        Positions are float32 in every model: bfloat16 would move them by pixels.
        """
        value = self.value_proj(memory).masked_fill(~valid[..., None], 0.0).unflatten(-1, (self.n_heads, -1))
        samples = (self.n_heads, self.n_levels, self.n_points)
        weights = self.attention_weights(query).unflatten(-1, (self.n_heads, -1)).softmax(-1).unflatten(-1, samples[1:])
        offsets = self.sampling_offsets(query).unflatten(-1, (*samples, 2))
        reference_box = reference[:, :, None, :, None]
        if reference.shape[-1] == 2:
            offsets = offsets / levels["spatial_shapes"].flip(-1)[:, None]
        else:  # within half the box
            offsets = offsets / self.n_points * reference_box[..., 2:] * 0.5
        positions = reference_box[..., :2] + offsets
        if query.device.type == "cpu":
            return self.output_proj(read_levels(value, levels["spatial_shapes_list"], positions, weights))
        return self.output_proj(self.sample(value, positions, weights, levels))

    def sample(self, value: Tensor, places: Tensor, weights: Tensor, levels: dict) -> Tensor:
        """The same as `read_levels` on other devices, by transformers' kernel or Python code, in float32."""
        shapes = (levels["spatial_shapes"], levels["spatial_shapes_list"], levels["level_start_index"])
        read = self.attn(value.float(), *shapes, places.float(), weights.float(), self.im2col_step)
        return read.to(value.dtype)


class FeedForward(nn.Module):
    """Residual feed-forward with post-norm, of encoder and decoder layers."""

    def __init__(self, config: ReferFormerConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.d_model, config.feedforward_dim)
        self.linear2 = nn.Linear(config.feedforward_dim, config.d_model)
        self.norm = nn.LayerNorm(config.d_model)
        self.dropout = PixelDropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        wide = feed_forward(x, self.linear1, self.linear2, self.dropout.p if self.training else 0.0)
        return self.norm(x + self.dropout(wide))


class EncoderLayer(GradientCheckpointingLayer):
    """Deformable self-attention over all levels of one frame."""

    def __init__(self, config: ReferFormerConfig) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(config)
        self.norm1 = nn.LayerNorm(config.d_model)
        self.feedforward = FeedForward(config)
        self.dropout = PixelDropout(config.dropout)

    def forward(self, x: Tensor, position: Tensor, levels: dict, valid: Tensor, reference: Tensor) -> Tensor:
        """x, position [B*T, S, C]; reference [B*T, S, levels, 2] -> [B*T, S, C]."""
        attended = self.self_attn.read(x + position, x, valid, reference, levels)
        return self.feedforward(self.norm1(x + self.dropout(attended)))


class DecoderLayer(GradientCheckpointingLayer):
    """Queries of one noun attend to each other; queries of all nouns attend to the same memory."""

    def __init__(self, config: ReferFormerConfig) -> None:
        super().__init__()
        c = config.d_model
        self.self_attn = Attention(config, config.dropout)
        self.cross_attn = DeformableAttention(config)
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.feedforward = FeedForward(config)
        self.dropout = PixelDropout(config.dropout)

    def forward(
        self, x: Tensor, position: Tensor, memory: Tensor, levels: dict, valid: Tensor, reference: Tensor
    ) -> Tensor:
        """x [B*T, N, Q, C], position [Q, C], reference [B*T, N*Q, levels, 2 or 4] -> [B*T, N, Q, C]."""
        bt, n, q, c = x.shape
        noun = x.reshape(bt * n, q, c)
        with_position = noun + position
        noun = self.norm2(noun + self.dropout(self.self_attn(with_position, with_position, noun)))
        query = (noun + position).view(bt, n * q, c)
        read = self.cross_attn.read(query, memory, valid, reference, levels)
        return self.feedforward(self.norm1(noun.view(bt, n, q, c) + self.dropout(read.view(bt, n, q, c))))


class ReferFormerForVNG(PreTrainedModel):
    """The narrative grounder: clip, narrative and noun spans in; class, box, mask of Q queries a noun and frame out."""

    config: ReferFormerConfig
    config_class = ReferFormerConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    _no_split_modules = ["EncoderLayer", "DecoderLayer"]  # noqa: RUF012
    _supports_sdpa = True
    supports_gradient_checkpointing = True

    def __init__(self, config: ReferFormerConfig) -> None:
        super().__init__(config)
        c = config.d_model
        self.backbone = _backbone(config)
        channels = self.backbone.channels
        if len(channels) not in (3, 4) or config.num_feature_levels < 3:
            raise ValueError(
                f"backbone_config must name three or four out_features (strides 4 to 16 or 32), got {len(channels)}, "
                f"and num_feature_levels be 3 or more, got {config.num_feature_levels}"
            )
        self.text_encoder = text_model(config)
        projections = [self._project(width, c, 1) for width in channels[1:]]
        width = channels[-1]
        for _ in range(config.num_feature_levels - len(projections)):
            projections.append(self._project(width, c, 3))
            width = c
        self.input_proj = nn.ModuleList(projections)
        self.resizer_fc = nn.Linear(config.text_config.hidden_size, c)
        self.resizer_norm = nn.LayerNorm(c, eps=1e-12)
        self.dropout = PixelDropout(config.dropout)
        self.fusion_module = EarlyFusion(config)
        self.level_embed = nn.Parameter(torch.zeros(config.num_feature_levels, c))
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.query_embed = nn.Embedding(config.num_queries, c)
        self.reference_points = nn.Linear(c, 2)
        heads = config.decoder_layers if config.with_box_refine else 1  # without refinement the layers share one
        rare = torch.full((1,), -math.log(99.0))  # initially a query shows an object with probability 0.01
        self.class_embed = nn.ModuleList(_with_initial_values(nn.Linear(c, 1), None, rare) for _ in range(heads))
        self.bbox_embed = nn.ModuleList(MLP(c, c, 4) for _ in range(heads))
        boxes: Any = self.bbox_embed
        for index, head in enumerate(boxes):  # boxes start at the reference point, small
            small = torch.tensor([0.0, 0.0, -2.0, -2.0] if index == 0 else [0.0] * 4)
            _with_initial_values(head.layers[-1], init.zeros_, small)
        self.pixel_decoder = PixelDecoder(config, channels[0])
        self.controller = MLP(c, c, sum(self._weight_counts()) + sum(self._bias_counts()))
        self.freeze()
        self.post_init()

    @staticmethod
    def _project(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride=1 if kernel == 1 else 2, padding=kernel // 2)
        _with_initial_values(convolution, None, torch.zeros(outputs))
        return nn.Sequential(convolution, nn.GroupNorm(32, outputs))

    def _weight_counts(self) -> list[int]:
        k, layers = self.config.dynamic_mask_channels, self.config.controller_layers
        first = (self.config.mask_dim + 2 * self.config.relative_coordinates) * k
        return [first] + [k * k] * (layers - 2) + [k]

    def _bias_counts(self) -> list[int]:
        return [self.config.dynamic_mask_channels] * (self.config.controller_layers - 1) + [1]

    def freeze(self) -> None:
        """Stop gradients as configured; call it again after an encoder was replaced."""
        for part in self._backbone_parts()[: self.config.frozen_stages]:
            part.requires_grad_(False)
        if self.config.freeze_text_encoder:
            self.text_encoder.requires_grad_(False)
        if self.config.freeze_batch_norm:
            for module in self.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.requires_grad_(False)
            fold_frozen_norms(self.backbone)

    def fused(self) -> ReferFormerForVNG:
        """This model with normalisation folded into convolutions (fast ones on a CPU): not for training or saving."""
        fold_norms(self.eval())
        for name, child in list(self.pixel_decoder.named_children()):
            if isinstance(child, ConvNorm):
                setattr(self.pixel_decoder, name, child.apart())
        channels_last(self)
        if self.device.type == "cpu" and self.dtype == torch.float32 and quick_convolution.is_available():
            quick_convolution.quicken(self)
        return self

    def _backbone_parts(self) -> list[nn.Module]:
        """Stem and stages of the backbone, in order; empty for a backbone of another structure."""
        for model in (self.backbone, *self.backbone.children()):  # Swin's are one level deeper
            stem = getattr(model, "embedder", getattr(model, "embeddings", None))
            encoder = getattr(model, "encoder", None)
            stages = getattr(encoder, "stages", getattr(encoder, "layers", None))
            if stem is not None and stages is not None:
                return [stem, *stages]
        return []

    def train(self, mode: bool = True) -> ReferFormerForVNG:
        """As `nn.Module.train`, but frozen batch norm keeps its statistics."""
        super().train(mode)
        if self.config.freeze_batch_norm:
            for module in self.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        # transformers initialises leaf modules first and only once, so every rule must act on the leaf itself.
        if hasattr(module, "initial"):
            module.initial(module)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_uniform_(module.weight, a=1)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, nn.MultiheadAttention):
            init.xavier_uniform_(module.in_proj_weight)
            init.zeros_(module.in_proj_bias)
        elif isinstance(module, ReferFormerForVNG):
            init.normal_(module.level_embed)

    def feature_maps(self, pixel_values: Tensor) -> list[Tensor]:
        """The backbone's maps of a clip, float [B, T, 3, H, W] -> each [B*T, channels, h, w], finest first."""
        pixels = pixel_values.flatten(0, 1).to(self.dtype).contiguous(memory_format=torch.channels_last)
        return list(self.backbone(pixels).feature_maps)

    def encode(
        self,
        pixel_values: Tensor | None,
        pixel_mask: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        feature_maps: list[Tensor] | None = None,
    ) -> Scene:
        """Everything that does not depend on the nouns, once for a clip and a narrative.

        Args:
            pixel_values: float [B, T, 3, H, W], H and W multiples of 32; unused with `feature_maps`.
            pixel_mask: bool [B, T, H, W], True where there is image.
            input_ids, attention_mask: int [B, L], the narrative.
            feature_maps: the backbone's maps if computed already, as `feature_maps` returns them.
        """
        b, t = pixel_mask.shape[:2]
        encoded = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask)
        tokens: Tensor = encoded.last_hidden_state
        sentence = encoded.pooler_output if self.config.conditioning == "sentence" else None
        text_valid = attention_mask.bool()
        words = self._resize_text(tokens)
        text = (words, text_valid, sine_position_1d(text_valid, self.config.d_model).to(words.dtype))
        maps = feature_maps
        if maps is None:
            assert pixel_values is not None
            maps = self.feature_maps(pixel_values)
        frame_mask = pixel_mask.flatten(0, 1)
        sources, valids, positions = self._levels(maps, frame_mask, b, t, text)
        stem_valid = _shrink(frame_mask, maps[0].shape[-2:])
        stem_position = sine_position_2d(stem_valid, self.config.d_model).to(maps[0].dtype)
        memory, shapes, ratios = self._encode_levels(sources, valids, positions)
        levels = [m.unflatten(0, (b, t)) for m in [maps[0], *_unflatten(memory, shapes)[:3]]]
        pixel_positions = [m.unflatten(0, (b, t)) for m in [stem_position, *positions[:3]]]
        pixel_valids = [m.unflatten(0, (b, t)) for m in [stem_valid, *valids[:3]]]
        mask_features = self.pixel_decoder(levels, pixel_positions, pixel_valids, text)
        sizes = torch.stack([pixel_mask[:, 0].any(2).sum(1), pixel_mask[:, 0].any(1).sum(1)], -1).float()
        valid = torch.cat([v.flatten(1) for v in valids], 1)
        return Scene(
            tokens=tokens,
            sentence=sentence,
            memory=memory,
            memory_valid=valid,
            valid_ratios=ratios,
            shapes=shapes,
            mask_features=mask_features,
            sizes=sizes,
        )

    def _resize_text(self, features: Tensor) -> Tensor:
        return self.dropout(self.resizer_norm(self.resizer_fc(features)))

    def _levels(
        self, maps: list[Tensor], mask: Tensor, b: int, t: int, text: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The transformer's input maps after early fusion: features, validity, positions, each a list over levels."""
        sources: list[Tensor] = []
        valids: list[Tensor] = []
        positions: list[Tensor] = []
        for level, projection in enumerate(self.input_proj):
            # Levels coarser than the backbone's are convolved from its last map.
            from_backbone = level + 1 < len(maps)
            inputs = maps[level + 1] if from_backbone else (maps[-1] if level + 1 == len(maps) else sources[-1])
            projected = projection(inputs)
            valid = _shrink(mask, projected.shape[-2:])
            fused = self.fusion_module(projected.unflatten(0, (b, t)), *text)
            sources.append(fused.flatten(0, 1))
            valids.append(valid)
            positions.append(sine_position_2d(valid, self.config.d_model).to(projected.dtype))
        return sources, valids, positions

    def _encode_levels(
        self, sources: list[Tensor], valids: list[Tensor], positions: list[Tensor]
    ) -> tuple[Tensor, list[tuple[int, int]], Tensor]:
        shapes = [(int(s.shape[-2]), int(s.shape[-1])) for s in sources]
        x = torch.cat([s.flatten(2).transpose(1, 2) for s in sources], 1)
        position = torch.cat([p.flatten(2).transpose(1, 2) + self.level_embed[i] for i, p in enumerate(positions)], 1)
        valid = torch.cat([v.flatten(1) for v in valids], 1)
        ratios = torch.stack([_valid_ratio(v) for v in valids], 1)
        reference = _encoder_reference(shapes, ratios)
        levels = level_arguments(shapes, x.device)
        for layer in self.encoder:
            x = layer(x, position, levels, valid, reference)
        return x, shapes, ratios

    def noun_features(self, scene: Scene, noun_tokens: Tensor | None) -> Tensor:
        """Initial content of each noun's queries: the mean of its tokens' hidden states, or the sentence; projected.

        Args:
            scene: the result of `encode`.
            noun_tokens: bool [B, N, L], the tokens of each noun; a padded noun has none. None, or N = 1, for a model
                that is conditioned on the sentence.

        Returns:
            [B, N, C].

        Raises:
            UsageError: several nouns for a model that is conditioned on the sentence, or no `noun_tokens` for another.
        """
        if scene.sentence is not None:
            if noun_tokens is not None and noun_tokens.shape[1] > 1:
                raise UsageError(
                    f"this grounder is conditioned on the sentence and grounds one noun of a narrative, not "
                    f"{noun_tokens.shape[1]}; give one at a time, or a model with conditioning 'noun'"
                )
            return self._resize_text(scene.sentence)[:, None]
        if noun_tokens is None:
            raise UsageError("this grounder is conditioned on nouns and requires their tokens (noun_tokens)")
        weight = noun_tokens.to(scene.tokens.dtype)
        mean = torch.einsum("bnl,blc->bnc", weight, scene.tokens) / weight.sum(-1, keepdim=True).clamp(min=1)
        return self._resize_text(mean)

    def decode(
        self, scene: Scene, noun_tokens: Tensor | None, all_layers: bool = False
    ) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Outputs of each decoder layer, only of the last unless `all_layers`.

        Logits [B, N, T, Q], boxes [B, N, T, Q, 4], masks [B, N, T, Q, h, w], reference points [B, N, T, Q, 2].
        """
        noun = self.noun_features(scene, noun_tokens)
        b, n, _ = noun.shape
        t, q = scene.mask_features.shape[1], self.config.num_queries
        x = noun[:, None, :, None].expand(b, t, n, q, -1).reshape(b * t, n, q, -1)
        position = self.query_embed.weight
        reference = self.reference_points(position).float().sigmoid().expand(b * t, n, q, 2)
        levels = level_arguments(scene.shapes, x.device)
        outputs = []
        for index, layer in enumerate(self.decoder):
            layer_reference = reference
            scale = scene.valid_ratios if reference.shape[-1] == 2 else scene.valid_ratios.repeat(1, 1, 2)
            sample = reference.flatten(1, 2)[:, :, None] * scale[:, None]
            x = layer(x, position, scene.memory, levels, scene.memory_valid, sample)
            head = index if self.config.with_box_refine else 0
            boxes = self.bbox_embed[head](x).float()
            prior = inverse_sigmoid(reference)
            boxes = torch.cat([boxes[..., : prior.shape[-1]] + prior, boxes[..., prior.shape[-1] :]], -1).sigmoid()
            if self.config.with_box_refine:
                reference = boxes.detach()
            if all_layers or index == len(self.decoder) - 1:
                masks = self._dynamic_masks(scene, x, reference[..., :2])
                logits = self.class_embed[head](x)[..., 0]
                outputs.append(tuple(_nouns_first(v, b, t) for v in (logits, boxes, masks, layer_reference[..., :2])))
        return outputs  # type: ignore[return-value]

    def _dynamic_masks(self, scene: Scene, x: Tensor, reference: Tensor) -> Tensor:
        """Each query generates a small convolution of the frame's mask features; [B*T, N, Q, h, w].

        The first layer is split in features and coordinates, so that features are never copied per query.
        """
        t, h, w = (scene.mask_features.shape[i] for i in (1, 3, 4))
        bt, n, q, _ = x.shape
        k, layers = self.config.dynamic_mask_channels, self.config.controller_layers
        parameters = self.controller(x).view(bt, n * q, -1)
        pieces = parameters.split(self._weight_counts() + self._bias_counts(), -1)
        features = scene.mask_features.flatten(0, 1)
        first = pieces[0].view(bt, n * q, k, -1)
        y = torch.einsum("bqkc,bchw->bqkhw", first[..., : self.config.mask_dim], features)
        if self.config.relative_coordinates:
            size = scene.sizes.flip(-1).repeat_interleave(t, 0)[:, None]  # (width, height)
            centre = reference.reshape(bt, n * q, 2) * size
            grid_x, grid_y = (torch.arange(size, device=x.device, dtype=torch.float32) * 4 + 2 for size in (w, h))
            wx, wy = first[..., -2], first[..., -1]  # [bt, nq, k]
            y = y + (wx[..., None] * (centre[..., None, :1] - grid_x)).to(y.dtype)[..., None, :]
            y = y + (wy[..., None] * (centre[..., None, 1:] - grid_y)).to(y.dtype)[..., :, None]
        y = y + pieces[layers].view(bt, n * q, k, 1, 1)
        for layer in range(1, layers):
            outputs = 1 if layer == layers - 1 else k
            weight = pieces[layer].view(bt, n * q, outputs, k)
            y = torch.einsum("bqok,bqkhw->bqohw", weight, F.relu(y))
            y = y + pieces[layers + layer].view(bt, n * q, outputs, 1, 1)
        return y.view(bt, n, q, h, w)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        noun_tokens: Tensor | None = None,
        pixel_mask: Tensor | None = None,
        target_masks: Tensor | None = None,
        target_annotated: Tensor | None = None,
        target_weight: Tensor | None = None,
        target_kind: Tensor | None = None,
        target_xy: Tensor | None = None,
        target_verdicts: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> ReferFormerOutput | tuple[Any, ...]:
        """Ground all nouns of B narratives in B clips.

        Args:
            pixel_values: float [B, T, 3, H, W], normalised, H and W multiples of 32.
            input_ids, attention_mask: int [B, L].
            noun_tokens: bool [B, N, L]; None, or N = 1, for a model that is conditioned on the sentence.
            pixel_mask: bool [B, T, H, W], True where there is image; None: everywhere.
            target_masks: bool [B, N, T, H, W]; if given, the loss is computed.
            target_annotated: bool [B, N, T], False for frames without annotation and for padded nouns.
            target_weight: float [B, N], weight of each noun's object in the loss; None: 1.
            target_kind, target_xy, target_verdicts: int64 [B, N], float [B, N, T, P, 2], int64 [B, N, T, P], the kind
                of annotation and its points (`losses_points.Evidence`); None: drawn masks.
            labels: bool [B, N, T, H, W], the short form of `target_masks` where every frame of every noun is annotated.
            return_dict: False: a tuple in place of the output class.

        Raises:
            ValueError: `labels` and `target_masks` are given both.
        """
        if labels is not None:
            if target_masks is not None:
                raise ValueError("give labels, or target_masks and target_annotated, not both")
            target_masks = labels.bool()
            target_annotated = torch.ones_like(target_masks[..., 0, 0])
        if pixel_mask is None:
            pixel_mask = torch.ones_like(pixel_values[:, :, 0], dtype=torch.bool)
        scene = self.encode(pixel_values, pixel_mask, input_ids, attention_mask)
        outputs = self.decode(scene, noun_tokens, all_layers=target_masks is not None)
        logits, boxes, masks, reference = outputs[-1]
        result = ReferFormerOutput(logits=logits, boxes=boxes, masks=masks, reference_points=reference)
        if target_masks is not None:
            assert target_annotated is not None
            weak = None
            if target_kind is not None:
                assert target_xy is not None and target_verdicts is not None
                weak = (target_kind, target_xy, target_verdicts)
            result.loss, result.loss_terms, result.loss_count = self._loss(
                outputs, scene, target_masks, target_annotated, target_weight, weak
            )
        return result if self.config.use_return_dict and return_dict is not False else result.to_tuple()

    def _loss(
        self,
        outputs: list,
        scene: Scene,
        masks: Tensor,
        annotated: Tensor,
        weight: Tensor | None,
        weak: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        counts = annotated.any(-1)  # [B, N]
        rows = counts.flatten().nonzero()[:, 0]  # known to the host, so that nothing below has to wait for the device

        def valid(x: Tensor) -> Tensor:
            """[B, N, ...] -> [M, ...], the valid nouns."""
            return x.flatten(0, 1).index_select(0, rows)

        evidence = None
        if weak is not None:
            kind, xy, verdicts = map(valid, weak)
            evidence = Evidence(kind=kind, xy=xy, verdicts=verdicts, size=(int(masks.shape[-2]), int(masks.shape[-1])))
        sizes = valid(scene.sizes[:, None].expand(-1, counts.shape[1], -1))
        weights = torch.ones_like(counts, dtype=torch.float32) if weight is None else weight
        averaged = self.config.mask_targets == "averaged"
        targets = make_targets(valid(masks), valid(annotated), sizes, valid(weights), evidence, averaged)
        names = {
            "class": "class_weight",
            "box": "box_weight",
            "giou": "giou_weight",
            "mask": "mask_weight",
            "dice": "dice_weight",
        }
        factors = {name: getattr(self.config, attribute) for name, attribute in names.items()}
        total = outputs[-1][0].sum() * 0.0
        terms: dict[str, Tensor] = {}
        for logits, boxes, mask_logits, _ in outputs:
            layer = Prediction(*(valid(x).float() for x in (logits, boxes, mask_logits)))
            terms = losses(layer, targets, factors)
            total = total + sum(factors[name] * value for name, value in terms.items())
        return total, {name: value.detach() for name, value in terms.items()}, targets.count


def _backbone(config: ReferFormerConfig) -> Any:
    """The backbone, with the requested attention implementation if it has attention."""
    try:
        return AutoBackbone.from_config(config.backbone_config)
    except ValueError:
        if getattr(config.backbone_config, "_attn_implementation", None) in (None, "eager"):
            raise
        # A ResNet has no attention, and raises an error for any other implementation.
        config.backbone_config._attn_implementation = "eager"
        return AutoBackbone.from_config(config.backbone_config)


def text_model(config: ReferFormerConfig, pretrained: str | None = None) -> nn.Module:
    """A text encoder, new or from a folder or hub id; it has a pooler with conditioning "sentence"."""

    def load(**options: Any) -> nn.Module:
        if pretrained is not None:
            return AutoModel.from_pretrained(pretrained, **options)
        return AutoModel.from_config(config.text_config, **options)

    pools = config.conditioning == "sentence"
    try:
        return load(add_pooling_layer=pools)
    except TypeError as error:  # encoders without a pooler take no such argument
        if pools:
            name = config.text_config.model_type
            raise UsageError(
                f"the text encoder {name!r} has no pooler; choose BERT or RoBERTa, or conditioning 'noun'"
            ) from error
        return load()


def _with_initial_values(layer: Any, weight: Callable[[Tensor], Tensor] | None, bias: Tensor) -> nn.Module:
    """The layer with initial values for `_init_weights`: weights by a function (None: Xavier), and a bias."""

    def initial(module: Any) -> None:
        (weight or init.xavier_uniform_)(module.weight)
        init.copy_(module.bias, bias)

    layer.initial = initial
    return layer


def _shrink(mask: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Nearest-neighbour resize of bool [B, H, W] to a map's size."""
    return F.interpolate(mask[None].float(), size=tuple(size))[0].bool()


def _valid_ratio(valid: Tensor) -> Tensor:
    """Share of a padded map that is image: bool [B, h, w] -> [B, 2] as (x, y)."""
    height, width = valid.shape[1:]
    return torch.stack([valid[:, 0].sum(1) / width, valid[:, :, 0].sum(1) / height], -1)


def _encoder_reference(shapes: list[tuple[int, int]], ratios: Tensor) -> Tensor:
    """Each pixel's own position at every level: [B*T, S, levels, 2] in [0, 1]."""
    points = []
    for level, (h, w) in enumerate(shapes):
        y, x = torch.meshgrid(
            torch.arange(h, device=ratios.device) + 0.5, torch.arange(w, device=ratios.device) + 0.5, indexing="ij"
        )
        y = y.reshape(-1)[None] / (ratios[:, None, level, 1] * h)
        x = x.reshape(-1)[None] / (ratios[:, None, level, 0] * w)
        points.append(torch.stack([x, y], -1))
    return torch.cat(points, 1)[:, :, None] * ratios[:, None]


def level_arguments(shapes: list[tuple[int, int]], device: torch.device) -> dict:
    """Arguments of deformable attention for the levels: (height, width) and first index of each."""
    spatial = to_device(torch.tensor(shapes), device)
    start = torch.cat([spatial.new_zeros(1), spatial.prod(1).cumsum(0)[:-1]])
    return {"spatial_shapes": spatial, "spatial_shapes_list": shapes, "level_start_index": start}


def _unflatten(memory: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
    """[B*T, S, C] -> one [B*T, C, h, w] a level."""
    pieces = memory.split([h * w for h, w in shapes], 1)
    return [p.transpose(1, 2).unflatten(2, shape) for p, shape in zip(pieces, shapes, strict=True)]


def _nouns_first(value: Tensor, b: int, t: int) -> Tensor:
    """[B*T, N, ...] -> [B, N, T, ...]."""
    return value.unflatten(0, (b, t)).transpose(1, 2)
