"""Losses of DynaMITe (Rana et al., ICCV 2023): clicks assign the masks to objects, so there is no matching.

Shapes: B images, Q queries, K objects, H x W padded image, h x w mask logits, M masks over the batch: each image's
objects and its background.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import dice_loss, sample_point, sigmoid_cross_entropy_loss

from vng.models.transfer import to_device
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

    @cached_property
    def counts(self) -> list[int]:
        """The number of objects of each image, known to the host after one transfer."""
        return self.valid.sum(1).tolist()

    @property
    def count(self) -> int:
        """The number M of masks."""
        return sum(self.counts) + len(self.valid)

    def of_image(self, b: int) -> Targets:
        """The truth of one image, without padding objects."""
        count = self.counts[b]
        own = Targets(self.masks[b : b + 1, :count], self.valid[b : b + 1, :count], self.pixel_mask[b : b + 1])
        own.__dict__["counts"] = [count]
        return own

    def flat(self) -> Tensor:
        """float [M, H, W]; the background is all that is neither object nor padding."""
        parts = []
        for masks, count, inside in zip(self.masks, self.counts, self.pixel_mask, strict=True):
            own = masks[:count]
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
            largest_by_owner(logits, own, count)
            for logits, own, count in zip(mask_logits, owners, targets.counts, strict=True)
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


def largest_by_owner(logits: Tensor, owners: Tensor, count: int) -> Tensor:
    """The maximum of each object's maps, then of the background's: [Q, h, w], int64 [Q] -> [count + 1, h, w].

    Minus infinity without queries. No index depends on values, so a device is not waited for.
    """
    place = torch.where(owners == BACKGROUND, count, owners)
    merged = logits.new_full((count + 1, *logits.shape[1:]), -torch.inf)
    return merged.scatter_reduce(0, place[:, None, None].expand_as(logits), logits, "amax")


def uncertain_points(
    logits: Tensor, points: int, oversampling: float, importance: float, generator: torch.Generator | None = None
) -> Tensor:
    """Random points (x, y) in [0, 1]^2, mostly where logits [M, 1, h, w] are nearest to zero: float [M, points, 2].

    They are drawn on the CPU, so that a seed gives the same points on every device.
    """
    number = int(points * oversampling)
    candidates = to_device(torch.rand(len(logits), number, 2, generator=generator), logits.device)
    uncertainty = -sample_point(logits, candidates, align_corners=False)[:, 0].abs()
    count = int(importance * points)
    chosen = uncertainty.topk(count, 1).indices
    points_kept = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    rest = to_device(torch.rand(len(logits), points - count, 2, generator=generator), logits.device)
    return torch.cat([points_kept, rest], 1)
