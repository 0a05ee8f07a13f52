"""ClickNet: masks from clicks (ours).

The image is encoded once, by a convolutional encoder with a feature pyramid. Each object passes a small U-Net on a grid
of stride 4, whose input is evidence of its clicks (Euclidean and geodesic distances, distances to their hull and in
learned embeddings); the image enters it as maps that are computed once and added. At full resolution a pixel is a
convex combination of the nine cells around it, with weights that depend on the image alone (Teed & Deng, RAFT, ECCV
2020, Sec. 3.3), plus a linear function of the pixel's image features with coefficients from its cell, as in a guided
filter (He et al., ECCV 2010).

Shapes: B images, K objects an image, N = B * K objects, P points, H x W pixels, h x w = H/4 x W/4 cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoBackbone, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from vng.models import quick_convolution
from vng.models.batch_norm import freeze_norms
from vng.models.clicknet import evidence
from vng.models.clicknet.configuration_clicknet import ClickNetConfig
from vng.models.clicknet.evidence import CELL, Ground
from vng.models.layout import channels_last, fold_norms
from vng.models.transfer import normalised

STRIDE = 32  # images are padded to multiples of this
PLAIN_MAPS = 14  # evidence maps that are distances
SIMILARITY_MAPS = 3  # evidence maps of each embedding
COLOUR_WIDTH = 7.0  # Lab units in which colours count as alike
OUTLINE_WEIGHT = 3.0  # of a cell with an outline, relative to one without
FACTS = 6  # numbers that describe an object's prompt
MOST_COUNTED = 30.0  # clicks; larger counts are clamped to this, the most in training
FARTHEST = 8.0  # squared distances of embeddings are clamped to this
ENLARGED_WEIGHT = 0.5  # of the features of an enlarged image


@dataclass
class ClickNetOutput(ModelOutput):
    """Output of the click segmenter.

    Attributes:
        loss: scalar, if there are targets.
        loss_terms: unweighted mask, jaccard, vote, outline.
        logits: float [B, K, H, W].
    """

    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    logits: Tensor | None = None


@dataclass(frozen=True)
class Clicks:
    """Points of N objects, padded; (x, y) in pixels of the network's input.

    `core` are the positives that count individually: all clicks, or the points in the middle of a mouse trace.
    """

    positive: Tensor  # float [N, P, 2]
    valid: Tensor  # bool [N, P]
    core: Tensor  # bool [N, P], within valid
    negative: Tensor  # float [N, Q, 2]
    negative_valid: Tensor  # bool [N, Q]
    trace: Tensor  # bool [N]


@dataclass(frozen=True)
class Scene:
    """Everything about B images that does not depend on clicks."""

    injected: list[Tensor]  # [B, head width, h, w] at stride 4, 8, 16, 32: image maps added in the head
    colour: Tensor  # [B, 4, h / 2, w / 2], Lab and its spread within a cell, in units of `COLOUR_WIDTH`
    embedding: Tensor  # [B, heads * dim, h / 2, w / 2]
    basis: Tensor  # [B, h, w, 9 + basis_dim, CELL * CELL], a pixel's weights for the head's outputs
    outline: Tensor  # [B, h, w], logits of an object's outline
    ground: Ground  # path costs of 2 * B images: by colour, by learned outlines
    border: Tensor  # [2, B, h, w], geodesic distance to the image's border for both costs


@dataclass(frozen=True)
class Rivals:
    """The other objects of one image, whose positives are an object's negatives."""

    applies: Tensor  # bool [N], the objects for which the others' positives are negatives

    def nearer(self, off: Tensor, on: Tensor) -> Tensor:
        """The minimum of an object's distances [N, ...] to its negatives, and the others' to their positives."""
        least, which = on.topk(2, 0, largest=False)
        index = torch.arange(len(on), device=on.device).view(-1, *[1] * (on.dim() - 1))
        rival = torch.where(which[:1] == index, least[1:], least[:1])
        applies = self.applies.view(-1, *[1] * (on.dim() - 1))
        return torch.where(applies, torch.minimum(off, rival), off)


def normed(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution and normalisation."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, normalisation, ReLU."""
    return nn.Sequential(*normed(inputs, outputs, kernel, stride), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = normed(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        y += x
        return F.relu_(y)


class Pyramid(nn.Module):
    """The backbone's maps at stride 4, 8, 16, 32 -> as many maps of `dim` channels, each with what deeper ones know."""

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv(width, dim, 1) for width in widths)
        self.merge = nn.ModuleList(conv(dim, dim) for _ in widths)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        maps: list[Tensor] = []
        for level in reversed(range(len(self.lateral))):
            x = self.lateral[level](features[level])
            if maps:
                x = x + F.interpolate(maps[0], scale_factor=2.0, mode="nearest")
            maps.insert(0, self.merge[level](x))
        return maps


class ClickHead(nn.Module):
    """The part that runs for each object: plain evidence [N, E, h, w], learned evidence at half that size -> logits."""

    def __init__(self, config: ClickNetConfig) -> None:
        super().__init__()
        widths = config.head_widths
        inputs = [PLAIN_MAPS, *widths[:-1]]
        self.facts = nn.ModuleList(nn.Linear(FACTS, width) for width in widths)
        self.down = nn.ModuleList(
            normed(i, o, stride=1 if level == 0 else 2) for level, (i, o) in enumerate(zip(inputs, widths, strict=True))
        )
        self.learned = normed(SIMILARITY_MAPS * (1 + config.embedding_heads), widths[1])
        self.blocks = nn.ModuleList(ResidualBlock(width) for width in widths[1:])
        self.up = nn.ModuleList(normed(i, o, 1) for i, o in zip(widths[1:], widths[:-1], strict=True))
        self.merge = nn.ModuleList(conv(width, width) for width in widths[:-1])
        self.out = nn.Conv2d(widths[0], 1 + config.basis_dim, 3, padding=1)

    def forward(self, plain: Tensor, learned: Tensor, facts: Tensor, injected: list[Tensor]) -> Tensor:
        skips, x = [], plain
        repeat = len(plain) // len(injected[0])
        for level, down in enumerate(self.down):
            # Sums are in place: at this size memory access takes most of the time.
            x = down(x)
            if level == 1:
                x += self.learned(learned)
            x += injected[level] if len(injected[level]) == 1 else injected[level].repeat_interleave(repeat, 0)
            x += self.facts[level](facts)[..., None, None]
            x = F.relu_(x)
            if level:
                x = self.blocks[level - 1](x)
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = self.merge[level](F.relu_(_enlarged_sum(self.up[level](x), skips[level])))
        return self.out(x)


def _enlarged_sum(small: Tensor, large: Tensor) -> Tensor:
    """[N, C, h / 2, w / 2] and [N, C, h, w] -> their sum, each small cell added to the four it covers."""
    n, c, h, w = large.shape
    cells = large.permute(0, 2, 3, 1).reshape(n, h // 2, 2, w // 2, 2, c)
    total = cells + small.permute(0, 2, 3, 1)[:, :, None, :, None]
    return total.reshape(n, h, w, c).permute(0, 3, 1, 2)


class ClickNetPreTrainedModel(PreTrainedModel):
    """Base class with the attributes that `transformers` requires."""

    config_class = ClickNetConfig
    main_input_name = "pixel_values"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=0.02)
            init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            assert module.num_batches_tracked is not None
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)


class ClickNet(ClickNetPreTrainedModel):
    """The network; see the module. `encode` runs once for an image, `decode` for its objects."""

    def __init__(self, config: ClickNetConfig) -> None:
        super().__init__(config)
        dim = config.pyramid_dim
        self.backbone = AutoBackbone.from_config(config.backbone)
        finest, *widths = self.backbone.channels
        if len(widths) != len(config.head_widths):
            raise ValueError(
                f"backbone: expected {len(config.head_widths) + 1} maps (strides 2 to 32), got {len(widths) + 1}"
            )
        self.pyramid = Pyramid(widths, dim)
        self.inject = nn.ModuleList(nn.Conv2d(dim, width, 1) for width in config.head_widths)
        self.embed = nn.Conv2d(dim, config.embedding_heads * config.embedding_dim, 1)
        self.detail = normed(dim, config.refine_dim)
        self.fine_detail = nn.Conv2d(4 * finest, config.refine_dim, 1)
        self.raw_detail = nn.Conv2d(3 * CELL * CELL, config.refine_dim, 1)
        self.mix = nn.Conv2d(config.refine_dim, (9 + config.basis_dim) * CELL * CELL, 1)
        self.outline = nn.Conv2d(config.refine_dim, 1, 1)
        self.head = ClickHead(config)
        self.post_init()

    def encode(self, images: Tensor, enlarged: float = 1.0) -> Scene:
        """The part that all objects share; an enlarged image adds no cost per object.

        Args:
            images: uint8 [B, 3, H, W], H and W multiples of `STRIDE`.
            enlarged: mix in the features of the image enlarged by this factor, if it is more than 1.
        """
        pixels = normalised(images).to(self.dtype, memory_format=torch.channels_last)
        features = self._look(pixels)
        if enlarged > 1:
            features = self._mixed_in(features, pixels, enlarged)
        outline, mixed, embedding, *injected = features
        lab = np.stack([evidence.lab_cells(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()])
        from_outlines = Ground.of_outlines(outline.detach().float().sigmoid().cpu().numpy())
        ground = Ground.of_colours(lab).beside(from_outlines)
        frame = np.zeros((2, *outline.shape), bool)
        frame[..., [0, -1], :] = frame[..., [0, -1]] = True
        border = torch.from_numpy(ground.ways(frame.reshape(-1, *outline.shape[1:])).reshape(frame.shape)).to(pixels)
        colour = _colours(torch.from_numpy(lab).to(pixels))
        return Scene(injected, colour, embedding, self._basis(mixed), outline, ground, border)

    def _look(self, pixels: Tensor) -> list[Tensor]:
        """Outline [B, h, w], mix [B, 9 + basis_dim, CELL, CELL, h, w], embedding, and injected map of each level."""
        fine, *deeper = self.backbone(pixels).feature_maps
        maps = self.pyramid(deeper)
        b, _, h, w = maps[0].shape
        fine_features = self.fine_detail(F.pixel_unshuffle(fine, 2)) + self.raw_detail(F.pixel_unshuffle(pixels, CELL))
        detail = F.relu(self.detail(maps[0]) + fine_features)
        mixed = self.mix(detail).view(b, -1, CELL, CELL, h, w)
        injected = [layer(x) for layer, x in zip(self.inject, maps, strict=True)]
        return [self.outline(detail)[:, 0], mixed, self.embed(maps[1]), *injected]

    def _mixed_in(self, features: list[Tensor], pixels: Tensor, factor: float) -> list[Tensor]:
        """Features mixed with those of the enlarged image; `mixed` stays unchanged, as the cells differ in size."""
        size = [round(side * factor / STRIDE) * STRIDE for side in pixels.shape[-2:]]
        outline, mixed, *rest = features
        large_outline, _, *large = self._look(F.interpolate(pixels, size=size, mode="bilinear"))

        def mean(x: Tensor, y: Tensor) -> Tensor:
            y = F.interpolate(y, size=x.shape[-2:], mode="bilinear")
            return (1 - ENLARGED_WEIGHT) * x + ENLARGED_WEIGHT * y

        rest = [mean(x, y) for x, y in zip(rest, large, strict=True)]
        return [mean(outline[:, None], large_outline[:, None])[:, 0], mixed, *rest]

    def decode(self, scene: Scene, clicks: Clicks, others: bool = False) -> tuple[Tensor, Tensor]:
        """Logits [N, H, W] of N = B * K objects, and the embeddings' vote [N, h / 2, w / 2], positive inside.

        With `others` (B = 1), positives of the other objects count as negatives, except for mouse traces.
        """
        n = len(clicks.positive)
        rivals = Rivals(~clicks.trace) if others and n > 1 else None
        plain = self._plain_maps(scene, clicks, rivals)
        learned, vote = self._similarity_maps(scene, clicks, rivals)
        plain, learned = (x.contiguous(memory_format=torch.channels_last) for x in (plain.to(learned), learned))
        coarse = self.head(plain, learned, self._facts(clicks, rivals).to(plain), scene.injected)
        return self._refine(coarse, scene), vote

    def _plain_maps(self, scene: Scene, clicks: Clicks, rivals: Rivals | None) -> Tensor:
        """Distances as evidence, float [N, PLAIN_MAPS, h, w], of magnitude about one."""
        (_, b, h, w), n = scene.border.shape, len(clicks.positive)
        clicked = ((clicks.positive, clicks.core), (clicks.negative, clicks.negative_valid))
        near_on, near_off = (evidence.nearest(*kind, h, w) for kind in clicked)
        seeds = np.stack([evidence.seeds(*kind, h, w).reshape(b, -1, h, w) for kind in clicked], 1)
        paths = scene.ground.ways(np.stack([seeds, seeds]).reshape(-1, h, w)).reshape(2, b, 2, -1, h, w)
        paths_on, paths_off = torch.from_numpy(paths).to(near_on).movedim(2, 0).reshape(2, 2, n, h, w)
        ons, offs = [near_on, *paths_on], [near_off, *paths_off]
        if rivals is not None:
            offs = [rivals.nearer(off, on) for off, on in zip(offs, ons, strict=True)]
        pairs = zip(clicks.positive.cpu().numpy(), clicks.core.cpu().numpy(), strict=True)
        hulls = torch.from_numpy(np.stack([evidence.hull(points[valid], h, w) for points, valid in pairs])).to(ons[0])
        border = scene.border.to(ons[0]).repeat_interleave(n // b, 1)
        near = [torch.log1p(d / 4) / 2 - 1 for d in (*ons, *offs, *border)]
        ratio = [torch.log((off + 8) / (on + 8)) for off, on in zip(offs, ons, strict=True)]
        spread = evidence.density(clicks.positive, clicks.valid, h, w)
        at_clicks = (-ons[0] / 4).exp()  # exact positions of the clicks
        return torch.stack([*near, *ratio, (hulls / 30).clamp(-2, 4), spread, at_clicks], 1)

    def _similarity_maps(self, scene: Scene, clicks: Clicks, rivals: Rivals | None) -> tuple[Tensor, Tensor]:
        """Similarity to the clicked cells in colour and in each embedding, and the mean vote of the embeddings.

        Returns:
            [N, SIMILARITY_MAPS * (1 + heads), h / 2, w / 2], [N, h / 2, w / 2].
        """
        ons: list[Tensor] = []
        offs: list[Tensor] = []
        for field in (scene.colour[:, None], scene.embedding.unflatten(1, (self.config.embedding_heads, -1))):
            for differences, points, valid in (
                (ons, clicks.positive, clicks.core),
                (offs, clicks.negative, clicks.negative_valid),
            ):
                differences.append(_least_difference(field, points, valid))
        on, off = torch.cat(ons, 1), torch.cat(offs, 1)
        if rivals is not None:
            off = rivals.nearer(off, on)
        return torch.cat([2 * torch.exp(-on) - 1, 2 * torch.exp(-off) - 1, off - on], 1), (off - on)[:, 1:].mean(1)

    def _facts(self, clicks: Clicks, rivals: Rivals | None) -> Tensor:
        """Numbers that describe each prompt, float [N, FACTS]: count of points, their spread, whether it is a trace."""
        on, off = clicks.core.sum(1), clicks.negative_valid.sum(1)
        if rivals is not None:
            off = off + (on.sum() - on) * rivals.applies
        count = torch.stack([on, off], 1).float().clamp(max=MOST_COUNTED)
        weight = clicks.core[..., None].float()
        mean = (clicks.positive * weight).sum(1) / weight.sum(1).clamp(min=1)
        apart = (((clicks.positive - mean[:, None]) ** 2).sum(-1) * weight[..., 0]).sum(1) / weight.sum((1, 2)).clamp(1)
        parts = [torch.log1p(count) / 2, (count > 0).float(), torch.log1p(apart[:, None].sqrt()) / 4]
        return torch.cat([*parts, clicks.trace[:, None].float()], 1)

    @staticmethod
    def _basis(mixed: Tensor) -> Tensor:
        """[B, 9 + basis_dim, CELL, CELL, h, w] -> weights of each pixel for the outputs of the cells around it."""
        mixed = mixed.flatten(2, 3).permute(0, 3, 4, 1, 2)
        return torch.cat([mixed[..., :9, :].softmax(3), mixed[..., 9:, :]], 3)

    def _refine(self, outputs: Tensor, scene: Scene) -> Tensor:
        """Outputs for cells [N, 1 + basis_dim, h, w] -> logits [N, H, W].

        A pixel is a convex combination of the nine cells around it, plus a linear function of its image features, with
        its cell's coefficients.
        """
        n, _, h, w = outputs.shape
        b = len(scene.basis)
        padded = F.pad(outputs[:, :1], (1, 1, 1, 1), mode="replicate")
        around = [padded[:, 0, i // 3 : i // 3 + h, i % 3 : i % 3 + w] for i in range(9)]
        values = torch.stack([*around, *outputs[:, 1:].unbind(1)], 3)  # [N, h, w, 9 + basis_dim]
        values = values.view(b, n // b, h, w, -1).permute(0, 2, 3, 1, 4)
        pixels = (values @ scene.basis).view(b, h, w, n // b, CELL, CELL)
        return pixels.permute(0, 3, 1, 4, 2, 5).reshape(n, h * CELL, w * CELL)

    def fused(self) -> ClickNet:
        """This model with normalisation folded into the convolutions: for inference, not for training or saving."""
        fold_norms(self.eval())
        channels_last(self)
        if self.device.type == "cpu" and self.dtype == torch.float32 and quick_convolution.is_available():
            quick_convolution.quicken(self)
        return self

    def forward(
        self,
        pixel_values: Tensor,
        positive: Tensor,
        positive_valid: Tensor,
        positive_core: Tensor,
        negative: Tensor,
        negative_valid: Tensor,
        trace: Tensor,
        targets: Tensor | None = None,
        outlines: Tensor | None = None,
    ) -> ClickNetOutput:
        """Logits, and with targets also the loss.

        Args:
            pixel_values: uint8 [B, 3, H, W]; H and W multiples of `STRIDE`.
            positive, positive_valid, positive_core: [B, K, P, 2], bool [B, K, P] twice.
            negative, negative_valid: [B, K, Q, 2], bool [B, K, Q].
            trace: bool [B, K].
            targets: bool [B, K, H, W]. outlines: bool [B, H, W], the outlines of all objects.
        """
        if self.training:
            freeze_norms(self, self.config.norm_batches, self.backbone if self.config.frozen_norms else None)
        b, k = trace.shape
        points = (positive, positive_valid, positive_core, negative, negative_valid, trace)
        scene = self.encode(pixel_values)
        logits, vote = self.decode(scene, Clicks(*(x.flatten(0, 1) for x in points)))
        if targets is None:
            return ClickNetOutput(logits=logits.view(b, k, *logits.shape[1:]))
        terms = _losses(logits.float(), vote.float(), targets.flatten(0, 1).float())
        if outlines is not None:
            terms["outline"] = _outline_loss(scene.outline.float(), outlines)
        weights = {"jaccard": self.config.jaccard_weight, "vote": self.config.vote_weight}
        weights["outline"] = self.config.outline_weight
        loss = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        terms = {name: term.detach() for name, term in terms.items()}
        return ClickNetOutput(loss, terms, logits.view(b, k, *logits.shape[1:]))


def _colours(lab: Tensor) -> Tensor:
    """Mean Lab and twice the spread of lightness over 2 x 2 cells: [B, h, w, 3] -> [B, 4, h / 2, w / 2]."""
    lab = lab.permute(0, 3, 1, 2)
    mean = F.avg_pool2d(lab, 2)
    spread = (F.avg_pool2d(lab[:, :1] ** 2, 2) - mean[:, :1] ** 2).clamp(min=0).sqrt()
    return torch.cat([mean, 2 * spread], 1) / (2**0.5 * COLOUR_WIDTH)


def _least_difference(field: Tensor, points: Tensor, valid: Tensor) -> Tensor:
    """Squared difference of every cell to the most similar clicked cell, [N, heads, h, w], at most FARTHEST.

    Args:
        field: [B, heads, D, h, w], cells of 2 * CELL pixels. points, valid: [N, P, 2], bool [N, P].
    """
    b, heads, dim, h, w = field.shape
    n, p = valid.shape
    if not p:
        return field.new_full((n, heads, h, w), FARTHEST)
    field = field.flatten(3)
    cells = evidence.cells_of(points, h, w, 2 * CELL).view(b, 1, 1, -1).expand(-1, heads, dim, -1)
    clicked = field.gather(3, cells)  # [B, heads, D, K * P]
    squared = (clicked**2).sum(2)[..., None] + (field**2).sum(2)[:, :, None] - 2 * clicked.mT @ field
    squared = squared.view(b, heads, -1, p, h * w).masked_fill(~valid.view(b, 1, -1, p, 1), FARTHEST)
    least = squared.clamp(0, FARTHEST).amin(3)  # [B, heads, K, h * w]
    return least.transpose(1, 2).reshape(n, heads, h, w)


def _losses(logits: Tensor, vote: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Cross-entropy and soft Jaccard of the mask, cross-entropy of the embeddings' vote; means over N objects."""
    mask = F.binary_cross_entropy_with_logits(logits, targets)
    inside = logits.sigmoid()
    both = (inside * targets).sum((1, 2))
    jaccard = 1 - (both + 1) / (inside.sum((1, 2)) + targets.sum((1, 2)) - both + 1)
    small = F.avg_pool2d(targets[:, None], 2 * CELL)[:, 0]
    return {"mask": mask, "jaccard": jaccard.mean(), "vote": F.binary_cross_entropy_with_logits(vote, small)}


def _outline_loss(logits: Tensor, outlines: Tensor) -> Tensor:
    """Cross-entropy of outline cells, which are few and have a larger weight."""
    has_outline = F.max_pool2d(outlines[:, None].float(), CELL)[:, 0]
    return F.binary_cross_entropy_with_logits(logits, has_outline, pos_weight=logits.new_tensor(OUTLINE_WEIGHT))
