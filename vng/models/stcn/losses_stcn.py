"""Losses of STCN: one for drawn masks, one for noisy masks, one for points.

Shapes: B clips, T frames, K objects, P points an object, H x W pixels. Logits have K + 1 classes, background first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vng.models.weak_losses import UNKNOWN, huberised, read_at

IGNORED = 255  # class of an unannotated pixel
LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Bootstrapping:
    """The share of the pixels that bootstrapped cross-entropy keeps, by step (STCN's released program)."""

    start: float = 20_000  # steps with all pixels
    end: float = 70_000  # the step from which only the hardest `top` count
    top: float = 0.15

    def share(self, step: float) -> float:
        """The share of pixels that count at a step, in (0, 1]."""
        if step < self.start:
            return 1.0
        if step >= self.end:
            return self.top
        return self.top + (1 - self.top) * (self.end - step) / (self.end - self.start)


def bootstrapped_cross_entropy(
    logits: Tensor, target: Tensor, share: float, counts: Sequence[int] | None = None
) -> Tensor:
    """Mean cross-entropy of the hardest pixels, clip by clip.

    Args:
        logits: float [B, K + 1, H, W].
        target: long [B, H, W], classes; IGNORED pixels do not count.
        share: of a clip's annotated pixels, in (0, 1].
        counts: annotated pixels of each clip, if the host knows them already; None: the device is asked.

    Returns:
        float [B]; 0 for a clip without annotated pixels.
    """
    pixels = F.cross_entropy(logits, target, reduction="none", ignore_index=IGNORED).flatten(1)
    annotated = (target != IGNORED).flatten(1)
    return _hardest(pixels, annotated, share, counts)


def _hardest(pixels: Tensor, annotated: Tensor, share: float, counts: Sequence[int] | None = None) -> Tensor:
    if share >= 1:
        return (pixels * annotated).sum(1) / annotated.sum(1).clamp(min=1)
    counts = annotated.sum(1).tolist() if counts is None else counts
    losses = []
    # Unannotated pixels come last, so that those that count need not be gathered.
    for values, total in zip(pixels.masked_fill(~annotated, -1), counts, strict=True):
        hardest = values.topk(int(total * share) or total, sorted=False).values
        losses.append(hardest.mean() if total else values.sum() * 0)
    return torch.stack(losses)


def huberised_cross_entropy(logits: Tensor, target: Tensor, threshold: float = 10.0) -> Tensor:
    """Cross-entropy of noisy masks, clip by clip: the gradient of a wrong pixel is bounded (`huberised`).

    Args:
        logits: float [B, K + 1, H, W].
        target: long [B, H, W], classes; IGNORED pixels do not count.
        threshold: greater than 1.

    Returns:
        float [B]; 0 for a clip without annotated pixels.
    """
    logarithm = -F.cross_entropy(logits, target, reduction="none", ignore_index=IGNORED)
    return _hardest(huberised(logarithm, threshold).flatten(1), (target != IGNORED).flatten(1), 1.0)


def point_cross_entropy(logits: Tensor, xy: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy at points alone, the probabilities read bilinearly at exact positions, clip by clip.

    Point-VOS, App. D. A positive point gives the class of its pixel, a negative one a class that its pixel is not.

    Args:
        logits: float [B, K + 1, H, W].
        xy: float [B, K, P, 2], pixels, centres at integers.
        label: long [B, K, P]: POSITIVE, NEGATIVE or UNKNOWN (no point).

    Returns:
        float [B], mean over the points; 0 for a clip without any.
    """
    b, k, p = label.shape
    height, width = logits.shape[-2:]
    probabilities = logits.float().softmax(1)[:, 1:].flatten(0, 1)
    inside = read_at(probabilities, xy.reshape(b * k, p, 2), (height, width)).view(b, k, p)
    correct = torch.where(label == 1, inside, 1 - inside) + LEAST_PROBABILITY  # a clamp would stop the gradient
    valid = label != UNKNOWN
    return -(correct.log() * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
