"""Losses of DynaMITe (Rana et al., ICCV 2023): clicks say which mask is whose, so nothing is matched.

Shapes: B images, Q queries, K objects, H x W padded image, h x w mask logits, M masks over the batch: each image's objects
and its background.
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
    valid: Tensor  # bool [B, K], False for objects that only fill up; those come last
    pixel_mask: Tensor  # bool [B, H, W], True where there is image

    def __post_init__(self) -> None:
        b, k, h, w = self.masks.shape
        assert self.valid.shape == (b, k) and self.pixel_mask.shape == (b, h, w)

    def flat(self) -> Tensor:
        """float [M, H, W]; the background is what is neither object nor padding."""
        parts = []
        for masks, valid, inside in zip(self.masks, self.valid, self.pixel_mask, strict=True):
            own = masks[valid]
            parts += [own, (inside & ~own.any(0))[None]]
        return torch.cat(parts).float()


def mask_losses(
    mask_logits: Tensor, owners: Tensor, targets: Targets, points: int, oversampling: float, importance: float
) -> dict[str, Tensor]:
    """Cross-entropy ("mask") and "dice" at sampled points, unweighted, averaged over masks.

    An object's logits are the greatest of its queries'; one background stands for all other queries. Points are random;
    a share `importance` is kept, out of `oversampling` times as many, where logits are nearest to zero (PointRend).

    Args:
        mask_logits: float [B, Q, h, w].
        owners: int64 [B, Q].
        targets: the truth; every object has a query.
        points: points for each mask.
        oversampling, importance: see above.
    """
    merged = torch.cat(
        [
            torch.stack([logits[own == k].amax(0) for k in [*range(int(valid.sum())), BACKGROUND]])
            for logits, own, valid in zip(mask_logits, owners, targets.valid, strict=True)
        ]
    )[:, None].float()
    truth = targets.flat()[:, None]
    with torch.no_grad():
        places = uncertain_points(merged, points, oversampling, importance)
        wanted = sample_point(truth, places, align_corners=False)[:, 0]
    given = sample_point(merged, places, align_corners=False)[:, 0]
    count = _mean_count(len(merged), merged.device)
    return {"mask": sigmoid_cross_entropy_loss(given, wanted, count), "dice": dice_loss(given, wanted, count)}


def uncertain_points(logits: Tensor, points: int, oversampling: float, importance: float) -> Tensor:
    """Points in [0, 1]^2, (x, y), most of them where logits [M, 1, h, w] are nearest to zero: float [M, points, 2]."""
    drawn = torch.rand(len(logits), int(points * oversampling), 2, device=logits.device)
    doubt = -sample_point(logits, drawn, align_corners=False)[:, 0].abs()
    kept = int(importance * points)
    best = doubt.topk(kept, 1).indices
    chosen = drawn.gather(1, best[..., None].expand(-1, -1, 2))
    return torch.cat([chosen, torch.rand(len(logits), points - kept, 2, device=logits.device)], 1)


def _mean_count(count: int, device: torch.device) -> int:
    """Masks a process has on average, so that every mask of a step weighs the same."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return max(count, 1)
    total = torch.tensor(float(count), device=device)
    torch.distributed.all_reduce(total)
    return max(float(total) / torch.distributed.get_world_size(), 1.0)  # type: ignore[return-value]
