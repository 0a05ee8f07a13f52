"""Losses of DynaMITe (Rana et al., ICCV 2023): clicks assign the masks to objects, so there is no matching.

Shapes: B images, Q queries, K objects, H x W padded image, h x w mask logits, M masks over the batch: each image's
objects and its background.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import dice_loss, sample_point, sigmoid_cross_entropy_loss

from vng.points import BACKGROUND


@dataclass(frozen=True)
class Targets:
    """The truth of B images."""

    masks: Tensor  # bool [B, K, H, W], without overlaps
    valid: Tensor  # bool [B, K], False for padding, which comes last
    pixel_mask: Tensor  # bool [B, H, W], True where there is image

    def __post_init__(self) -> None:
        b, k, h, w = self.masks.shape
        assert self.valid.shape == (b, k) and self.pixel_mask.shape == (b, h, w)

    @property
    def count(self) -> int:
        """The number M of masks."""
        return int(self.valid.sum()) + len(self.valid)

    def of_image(self, b: int) -> Targets:
        """The truth of one image, without padding objects."""
        return Targets(
            self.masks[b : b + 1, self.valid[b]], self.valid[b : b + 1, self.valid[b]], self.pixel_mask[b : b + 1]
        )

    def flat(self) -> Tensor:
        """float [M, H, W]; the background is all that is neither object nor padding."""
        parts = []
        for masks, valid, inside in zip(self.masks, self.valid, self.pixel_mask, strict=True):
            own = masks[valid]
            parts += [own, (inside & ~own.any(0))[None]]
        return torch.cat(parts).float()


def mask_losses(
    mask_logits: Tensor,
    owners: Tensor,
    targets: Targets,
    points: int,
    oversampling: float,
    importance: float,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Cross-entropy ("mask") and "dice" at sampled points, unweighted, averaged over the M masks.

    An object's logits are the maximum over its queries; all other queries form one background. Points are random; a
    share `importance` of them is chosen, out of `oversampling` times as many, where logits are nearest to zero
    (PointRend).

    Args:
        mask_logits: float [B, Q, h, w].
        owners: int64 [B, Q].
        targets: the truth; every object has a query.
        points: points for each mask.
        oversampling, importance: see above.
        generator: of the points; None: torch's own.
    """
    merged = torch.cat(
        [
            torch.stack([logits[own == k].amax(0) for k in [*range(int(valid.sum())), BACKGROUND]])
            for logits, own, valid in zip(mask_logits, owners, targets.valid, strict=True)
        ]
    )[:, None].float()
    truth = targets.flat()[:, None]
    with torch.no_grad():
        positions = uncertain_points(merged, points, oversampling, importance, generator)
        sampled_truth = sample_point(truth, positions, align_corners=False)[:, 0]
    sampled_logits = sample_point(merged, positions, align_corners=False)[:, 0]
    return {
        "mask": sigmoid_cross_entropy_loss(sampled_logits, sampled_truth, len(merged)),
        "dice": dice_loss(sampled_logits, sampled_truth, len(merged)),
    }


def uncertain_points(
    logits: Tensor, points: int, oversampling: float, importance: float, generator: torch.Generator | None = None
) -> Tensor:
    """Random points (x, y) in [0, 1]^2, mostly where logits [M, 1, h, w] are nearest to zero: float [M, points, 2]."""
    number = int(points * oversampling)
    candidates = torch.rand(len(logits), number, 2, generator=generator, device=logits.device)
    uncertainty = -sample_point(logits, candidates, align_corners=False)[:, 0].abs()
    count = int(importance * points)
    chosen = uncertainty.topk(count, 1).indices
    points_kept = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    rest = torch.rand(len(logits), points - count, 2, generator=generator, device=logits.device)
    return torch.cat([points_kept, rest], 1)
