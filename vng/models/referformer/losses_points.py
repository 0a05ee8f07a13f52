"""Matching and losses of ReferFormer with weaker evidence than drawn masks: verified points, and noisy masks.

Points alone (Point-VOS, Sec. 4, carried over to one mask a query): cross-entropy and dice at the points, the logits
read bilinearly at exact positions; a frame with a positive point shows the object, one with negatives only does not,
and there are no boxes. Noisy masks: Huberised cross-entropy in place of the focal term. Both are ours; RF-VNG trains on
pseudo-masks as if they were drawn.
Shapes: M valid nouns, T frames, P points a frame, K masks of a noun (all queries, or the matched one), h x w mask
pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from vng.models.transfer import to_device
from vng.models.weak_losses import UNKNOWN, huberised, read_at

DRAWN, NOISY, POINTS = 0, 1, 2  # kinds of evidence
POSITIVE = 1
HUBER = 10.0  # linear where the true class has a probability below 1 / 10, as for STCN


@dataclass(frozen=True)
class Evidence:
    """The kind of annotation of M nouns, and their points."""

    kind: Tensor  # int64 [M]: DRAWN, NOISY, POINTS
    xy: Tensor  # float [M, T, P, 2], pixels of the padded frame, centres at integers
    verdicts: Tensor  # int64 [M, T, P]: 1 positive, 0 negative, UNKNOWN (no point)
    size: tuple[int, int]  # (height, width) of the padded frame

    def __post_init__(self) -> None:
        shapes, (m, t, p) = (tuple(self.kind.shape), tuple(self.xy.shape)), self.verdicts.shape
        if shapes != ((m,), (m, t, p, 2)):
            raise ValueError(f"evidence: kinds and points of shapes {shapes} for verdicts {[m, t, p]}")

    @cached_property
    def rows(self) -> dict[int, Tensor]:
        """The nouns of each weak kind, int64 [M'] each; their number is known to the host after one transfer."""
        kinds = self.kind.tolist()
        chosen = {kind: [m for m, own in enumerate(kinds) if own == kind] for kind in (NOISY, POINTS)}
        return {
            kind: to_device(torch.tensor(rows, dtype=torch.long), self.kind.device) for kind, rows in chosen.items()
        }

    @property
    def by_points(self) -> Tensor:
        """Nouns annotated with points only, bool [M]."""
        return self.kind == POINTS

    @property
    def visible(self) -> Tensor:
        """Frames in which points show the object, bool [M, T]."""
        return self.by_points[:, None] & (self.verdicts == POSITIVE).any(-1)


def weak_mask_terms(
    masks: Tensor, truth: Tensor, per_clip: Tensor, evidence: Evidence, entropy: Tensor, dice: Tensor
) -> tuple[Tensor, Tensor]:
    """The mask terms, with those of weaker evidence in place of focal and dice loss.

    Args:
        masks: float [M, K, T, h, w], logits.
        truth: float [M, T, h, w].
        per_clip: float [M, T], weights of the annotated frames, which sum to 1 (0 where there is none).
        entropy, dice: float [M, K], the terms of drawn masks.

    Returns:
        entropy, dice: float [M, K].
    """
    noisy, points = evidence.rows[NOISY], evidence.rows[POINTS]
    if len(noisy):
        signed = masks.index_select(0, noisy) * (2 * truth.index_select(0, noisy).round() - 1)[:, None]
        shares = per_clip.index_select(0, noisy)[:, None]
        robust = (huberised(F.logsigmoid(signed), HUBER).mean((-1, -2)) * shares).sum(-1)
        entropy = entropy.index_copy(0, noisy, robust)
    if len(points):
        of_points = _point_terms(masks.index_select(0, points), evidence, points)
        entropy, dice = (old.index_copy(0, points, new) for old, new in zip((entropy, dice), of_points, strict=True))
    return entropy, dice


def _point_terms(masks: Tensor, evidence: Evidence, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy (mean over the points of a clip) and dice loss (smoothed by one point), each [M', K]."""
    m, k, t = masks.shape[:3]
    xy, verdicts = (x.index_select(0, chosen) for x in (evidence.xy, evidence.verdicts))  # [M', T, P, ...]
    positions = xy[:, None].expand(-1, k, -1, -1, -1).flatten(0, 2)
    logits = read_at(masks.flatten(0, 2), positions, evidence.size).view(m, k, t, -1)
    annotated, truth = (verdicts != UNKNOWN).float()[:, None], (verdicts == POSITIVE).float()[:, None].expand_as(logits)
    count = annotated.sum((-1, -2)).clamp(min=1)
    entropy = (F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * annotated).sum((-1, -2)) / count
    probability = logits.sigmoid() * annotated
    overlap = 2 * (probability * truth).sum((-1, -2))
    dice = 1 - (overlap + 1) / (probability.sum((-1, -2)) + truth.sum((-1, -2)) + 1)
    return entropy, dice
