"""ClickNet: masks from clicks (ours).

The image is encoded once, by a convolutional encoder with a feature pyramid. An object costs a small U-Net on a grid of
stride 4, whose input is evidence of its clicks (distances plain, geodesic, to their hull, and in learned embeddings);
the image enters it as maps that are computed once and added. Full resolution is a convex combination of the nine cells
around a pixel, with weights that depend on the image alone (Teed & Deng, RAFT, ECCV 2020, Sec. 3.3).

Shapes: B images, K objects an image, N = B * K objects, P points, H x W pixels, h x w = H/4 x W/4 cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from vng.models.clicknet import evidence
from vng.models.clicknet.configuration_clicknet import ClickNetConfig
from vng.models.clicknet.evidence import CELL

STRIDE = 32  # images are padded to multiples of this
PLAIN_MAPS = 9  # evidence maps without learned weights
FACTS = 6  # numbers about an object's prompt
MOST_COUNTED = 30.0  # clicks; more of them are as many as the network ever saw
FARTHEST = 8.0  # squared distances of embeddings beyond this are alike
MEAN, SPREAD = (0.45, 0.45, 0.42), 0.25


@dataclass
class ClickNetOutput(ModelOutput):
    """Output of the click segmenter.

    Attributes:
        loss: scalar, where targets were given.
        loss_terms: unweighted mask, jaccard, vote.
        logits: float [B, K, H, W].
    """

    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    logits: Tensor | None = None


@dataclass(frozen=True)
class Clicks:
    """Points of N objects, padded; (x, y) in pixels of the image the network sees.

    `core` are the positives that are believed one by one: all of them, or of a mouse trace those in its middle.
    """

    positive: Tensor  # float [N, P, 2]
    valid: Tensor  # bool [N, P]
    core: Tensor  # bool [N, P], within valid
    negative: Tensor  # float [N, Q, 2]
    negative_valid: Tensor  # bool [N, Q]
    trace: Tensor  # bool [N]


@dataclass(frozen=True)
class Scene:
    """Everything of B images that no click changes."""

    injected: list[Tensor]  # [B, head width, h, w] at stride 4, 8, 16, 32: what the image says to the head
    embedding: Tensor  # [B, heads * dim, h, w]
    weights: Tensor  # [B, 9, CELL * CELL, h, w], convex: how pixels mix cells
    lab: np.ndarray  # float32 [B, h, w, 3]
    border: Tensor  # [B, h, w], geodesic distance to the image's border


@dataclass(frozen=True)
class Rivals:
    """The other objects of one image, whose positives are an object's negatives."""

    heeded: Tensor  # bool [N], which objects take note of them

    def nearer(self, off: Tensor, on: Tensor) -> Tensor:
        """The least of an object's own distances [N, ...] to its negatives and of all others' to their positives."""
        least, which = on.topk(2, 0, largest=False)
        index = torch.arange(len(on), device=on.device).view(-1, *[1] * (on.dim() - 1))
        rival = torch.where(which[:1] == index, least[1:], least[:1])
        heeded = self.heeded.view(-1, *[1] * (on.dim() - 1))
        return torch.where(heeded, torch.minimum(off, rival), off)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, normalisation, rectifier."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class ImageEncoder(nn.Module):
    """[B, 3, H, W] -> maps at stride 2 (encoder's own width) and 4, 8, 16, 32 (pyramid_dim channels)."""

    def __init__(self, config: ClickNetConfig) -> None:
        super().__init__()
        stages, inputs = [], 3
        for width, depth in zip(config.widths, config.depths, strict=True):
            stages.append(nn.Sequential(conv(inputs, width, stride=2), *(ResidualBlock(width) for _ in range(depth))))
            inputs = width
        self.stages = nn.ModuleList(stages)
        dim = config.pyramid_dim
        self.lateral = nn.ModuleList(conv(width, dim, 1) for width in config.widths[1:])
        self.merge = nn.ModuleList(conv(dim, dim) for _ in config.widths[1:])

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        found, x = [], pixels
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        maps: list[Tensor] = []
        for level in reversed(range(len(self.lateral))):
            x = self.lateral[level](found[level + 1])
            if maps:
                x = x + F.interpolate(maps[0], scale_factor=2.0, mode="nearest")
            maps.insert(0, self.merge[level](x))
        return found[0], maps


class ClickHead(nn.Module):
    """The part that runs once an object: evidence [N, E, h, w] -> logits [N, 1, h, w]."""

    def __init__(self, config: ClickNetConfig) -> None:
        super().__init__()
        a, b, c, d = config.head_widths
        maps = PLAIN_MAPS + 3 * config.embedding_heads
        self.facts = nn.ModuleList(nn.Linear(FACTS, width) for width in config.head_widths)
        self.down = nn.ModuleList(
            nn.Conv2d(i, o, 3, s, 1) for i, o, s in ((maps, a, 1), (a, b, 2), (b, c, 2), (c, d, 2))
        )
        self.norm = nn.ModuleList(nn.BatchNorm2d(width) for width in config.head_widths)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(n))) for width, n in ((a, 0), (b, 1), (c, 1), (d, 1))
        )
        self.up = nn.ModuleList(conv(i, o, 1) for i, o in ((b, a), (c, b), (d, c)))
        self.merge = nn.ModuleList(ResidualBlock(width) for width in (a, b, c))
        self.out = nn.Conv2d(a, 1, 3, padding=1)

    def forward(self, maps: Tensor, facts: Tensor, injected: list[Tensor]) -> Tensor:
        skips, x = [], maps
        repeat = len(maps) // len(injected[0])
        for level, down in enumerate(self.down):
            x = down(x)
            told = self.facts[level](facts)[..., None, None]
            shared = injected[level]
            if len(shared) > 1:
                shared = shared.repeat_interleave(repeat, 0)
            x = F.relu(self.norm[level](x + told + shared))
            x = self.blocks[level](x)
            skips.append(x)
        for level in (2, 1, 0):
            x = F.interpolate(self.up[level](x), size=skips[level].shape[-2:], mode="nearest")
            x = self.merge[level](x + skips[level])
        return self.out(x)


class ClickNetPreTrainedModel(PreTrainedModel):
    """What `transformers` wants to know."""

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
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)


class ClickNet(ClickNetPreTrainedModel):
    """The network; see the module. `encode` once an image, `decode` for its objects."""

    def __init__(self, config: ClickNetConfig) -> None:
        super().__init__(config)
        dim = config.pyramid_dim
        self.encoder = ImageEncoder(config)
        self.inject = nn.ModuleList(nn.Conv2d(dim, width, 1) for width in config.head_widths)
        self.embed = nn.Conv2d(dim, config.embedding_heads * config.embedding_dim, 1)
        self.detail = nn.Sequential(
            conv(dim + 4 * config.widths[0], config.refine_dim), nn.Conv2d(config.refine_dim, 9 * CELL * CELL, 1)
        )
        self.head = ClickHead(config)
        self.post_init()

    def encode(self, images: Tensor) -> Scene:
        """uint8 [B, 3, H, W], H and W multiples of `STRIDE` -> what the objects share."""
        mean = torch.tensor(MEAN, device=images.device)[:, None, None]
        pixels = ((images.float() / 255 - mean) / SPREAD).to(self.dtype, memory_format=torch.channels_last)
        fine, maps = self.encoder(pixels)
        b, _, h, w = maps[0].shape
        detail = self.detail(torch.cat([maps[0], F.pixel_unshuffle(fine, 2)], 1))
        lab = np.stack([evidence.lab_cells(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()])
        frame = np.zeros((b, h, w), bool)
        frame[:, [0, -1]] = frame[:, :, [0, -1]] = True
        border = torch.from_numpy(evidence.geodesic(lab, frame)).to(pixels)
        return Scene(
            [layer(x) for layer, x in zip(self.inject, maps, strict=True)],
            self.embed(maps[0]),
            detail.view(b, 9, CELL * CELL, h, w).softmax(1),
            lab,
            border,
        )

    def decode(self, scene: Scene, clicks: Clicks, others: bool = False) -> tuple[Tensor, Tensor]:
        """Logits [N, H, W] of N = B * K objects, and the embeddings' vote [N, h, w], positive inside.

        With `others` (B = 1), positives of the other objects count as negatives, except for mouse traces.
        """
        n, (h, w) = len(clicks.positive), scene.border.shape[-2:]
        rivals = Rivals(~clicks.trace) if others and n > 1 else None
        plain = self._plain_maps(scene, clicks, rivals)
        learned, vote = self._embedding_maps(scene, clicks, rivals)
        maps = torch.cat([plain.to(learned), learned], 1).contiguous(memory_format=torch.channels_last)
        coarse = self.head(maps, self._facts(clicks, rivals).to(maps), scene.injected)
        return self._refine(coarse, scene).view(n, h * CELL, w * CELL), vote

    def _plain_maps(self, scene: Scene, clicks: Clicks, rivals: Rivals | None) -> Tensor:
        """Evidence without learned weights, float [N, PLAIN_MAPS, h, w], about one in size."""
        (b, h, w), n = scene.border.shape, len(clicks.positive)
        on = evidence.nearest(clicks.positive, clicks.core, h, w)
        off = evidence.nearest(clicks.negative, clicks.negative_valid, h, w)
        seeds = np.zeros((2, n, h * w), bool)
        for which, points, valid in ((0, clicks.positive, clicks.core), (1, clicks.negative, clicks.negative_valid)):
            cells = evidence.cells_of(points, h, w).cpu().numpy()
            row, column = np.nonzero(valid.cpu().numpy())
            seeds[which, row, cells[row, column]] = True
        lab = scene.lab if b == 1 else np.tile(np.repeat(scene.lab, n // b, 0), (2, 1, 1, 1))
        ways = evidence.geodesic(lab, seeds.reshape(2 * n, h, w)).reshape(2, n, h, w)
        way_on, way_off = torch.from_numpy(np.ascontiguousarray(ways)).to(on)
        if rivals is not None:
            off, way_off = rivals.nearer(off, on), rivals.nearer(way_off, way_on)
        pairs = zip(clicks.positive.cpu().numpy(), clicks.core.cpu().numpy(), strict=True)
        hulls = torch.from_numpy(np.stack([evidence.hull(points[valid], h, w) for points, valid in pairs])).to(on)
        border = scene.border.to(on).repeat_interleave(n // b, 0)
        near = [torch.log1p(d / 4) / 2 - 1 for d in (on, off, way_on, way_off, border)]
        ratio = [torch.log((b + 8) / (a + 8)) for a, b in ((on, off), (way_on, way_off))]
        spread = evidence.density(clicks.positive, clicks.valid, h, w)
        return torch.stack([*near, *ratio, (hulls / 30).clamp(-2, 4), spread], 1)

    def _embedding_maps(self, scene: Scene, clicks: Clicks, rivals: Rivals | None) -> tuple[Tensor, Tensor]:
        """Nearness in each learned embedding, [N, 3 * heads, h, w], and the mean vote [N, h, w]."""
        heads, dim = self.config.embedding_heads, self.config.embedding_dim
        (b, h, w), n = scene.border.shape, len(clicks.positive)
        field = scene.embedding.reshape(b, heads, dim, h * w)
        near = []
        for points, valid in ((clicks.positive, clicks.core), (clicks.negative, clicks.negative_valid)):
            p = points.shape[1]
            if not p:
                near.append(field.new_full((n, heads, h, w), FARTHEST))
                continue
            cells = evidence.cells_of(points, h, w).view(b, 1, 1, -1).expand(-1, heads, dim, -1)
            clicked = field.gather(3, cells)  # [B, heads, dim, K * P]
            squared = (clicked**2).sum(2)[..., None] + (field**2).sum(2)[:, :, None] - 2 * clicked.mT @ field
            squared = squared.view(b, heads, -1, p, h * w).masked_fill(~valid.view(b, 1, -1, p, 1), FARTHEST)
            least = squared.clamp(0, FARTHEST).amin(3)  # [B, heads, K, h * w]
            near.append(least.transpose(1, 2).reshape(n, heads, h, w))
        on, off = near
        if rivals is not None:
            off = rivals.nearer(off, on)
        return torch.cat([2 * torch.exp(-on) - 1, 2 * torch.exp(-off) - 1, off - on], 1), (off - on).mean(1)

    def _facts(self, clicks: Clicks, rivals: Rivals | None) -> Tensor:
        """Numbers about each prompt, float [N, FACTS]: how many points, how far apart, whether a trace."""
        on, off = clicks.core.sum(1), clicks.negative_valid.sum(1)
        if rivals is not None:
            off = off + (on.sum() - on) * rivals.heeded
        count = torch.stack([on, off], 1).float().clamp(max=MOST_COUNTED)
        weight = clicks.core[..., None].float()
        mean = (clicks.positive * weight).sum(1) / weight.sum(1).clamp(min=1)
        apart = (((clicks.positive - mean[:, None]) ** 2).sum(-1) * weight[..., 0]).sum(1) / weight.sum((1, 2)).clamp(1)
        parts = [torch.log1p(count) / 2, (count > 0).float(), torch.log1p(apart[:, None].sqrt()) / 4]
        return torch.cat([*parts, clicks.trace[:, None].float()], 1)

    @staticmethod
    def _refine(coarse: Tensor, scene: Scene) -> Tensor:
        """[N, 1, h, w] -> [N, 1, H, W]: each pixel a convex combination of the nine cells around it."""
        n, _, h, w = coarse.shape
        b = len(scene.weights)
        cells = F.pad(coarse, (1, 1, 1, 1), mode="replicate").view(b, n // b, 1, h + 2, w + 2)
        mixed: Tensor | None = None
        for i in range(9):
            part = cells[..., i // 3 : i // 3 + h, i % 3 : i % 3 + w] * scene.weights[:, None, i]
            mixed = part if mixed is None else mixed + part
        assert mixed is not None
        return F.pixel_shuffle(mixed.reshape(n, CELL * CELL, h, w), CELL)

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
        target_weight: Tensor | None = None,
    ) -> ClickNetOutput:
        """Logits, and the loss where targets are given.

        Args:
            pixel_values: uint8 [B, 3, H, W]; H and W multiples of `STRIDE`.
            positive, positive_valid, positive_core: [B, K, P, 2], bool [B, K, P] twice.
            negative, negative_valid: [B, K, Q, 2], bool [B, K, Q].
            trace: bool [B, K].
            targets: bool [B, K, H, W]. target_weight: float [B, K].
        """
        b, k = trace.shape
        points = (positive, positive_valid, positive_core, negative, negative_valid, trace)
        scene = self.encode(pixel_values)
        logits, vote = self.decode(scene, Clicks(*(x.flatten(0, 1) for x in points)))
        if targets is None:
            return ClickNetOutput(logits=logits.view(b, k, *logits.shape[1:]))
        weight = torch.ones_like(trace, dtype=torch.float) if target_weight is None else target_weight
        terms = _losses(logits.float(), vote.float(), targets.flatten(0, 1).float(), weight.flatten())
        loss = terms["mask"] + self.config.jaccard_weight * terms["jaccard"] + self.config.vote_weight * terms["vote"]
        return ClickNetOutput(
            loss, {name: term.detach() for name, term in terms.items()}, logits.view(b, k, *logits.shape[1:])
        )


def _losses(logits: Tensor, vote: Tensor, targets: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Cross-entropy and soft Jaccard of the mask, cross-entropy of the embeddings' vote; means over N objects."""
    share = weight / weight.sum().clamp(min=1e-6)
    mask = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((1, 2))
    inside = logits.sigmoid()
    both = (inside * targets).sum((1, 2))
    jaccard = 1 - (both + 1) / (inside.sum((1, 2)) + targets.sum((1, 2)) - both + 1)
    small = F.avg_pool2d(targets[:, None], CELL)[:, 0]
    votes = F.binary_cross_entropy_with_logits(vote, small, reduction="none").mean((1, 2))
    return {"mask": (mask * share).sum(), "jaccard": (jaccard * share).sum(), "vote": (votes * share).sum()}
