"""Matching and losses of ReferFormer (Wu et al., CVPR 2022), for all nouns of a batch at once.

Shapes: B clips, N nouns, T frames, Q queries, h x w mask pixels at stride 4; M = the valid nouns of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vng.models.referformer.losses_points import Evidence, weak_mask_terms

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
MASK_STRIDE = 4


@dataclass(frozen=True)
class Targets:
    """The truth of M nouns.

    A frame is *annotated* or not (null: trains nothing), and in an annotated frame the object is *present* or absent
    (an empty mask: trains absence).
    """

    masks: Tensor  # float [M, T, h, w] in [0, 1]: of a pixel, or of all pixels, of each cell of 4 x 4
    boxes: Tensor  # float [M, T, 4], (cx, cy, w, h) in [0, 1]; zeros where absent
    present: Tensor  # bool [M, T]
    annotated: Tensor  # bool [M, T]
    weight: Tensor  # float [M], of the object in the loss
    evidence: Evidence | None = None  # None: drawn masks throughout

    @property
    def boxed(self) -> Tensor:
        """Annotated frames that train boxes, or their absence, bool [M, T]; points give no boxes."""
        return self.annotated if self.evidence is None else self.annotated & ~self.evidence.by_points[:, None]

    @property
    def count(self) -> Tensor:
        """Scalar, the number of frames in which an object is present, weighted; the reference divides losses by it.

        The reference takes the mean over processes; here the training loop sums over a step (`loss_count`).
        """
        return (self.present.float() * self.weight[:, None]).sum()

    def __post_init__(self) -> None:
        m, t = self.present.shape
        assert self.masks.shape[:2] == self.annotated.shape == (m, t) and self.boxes.shape == (m, t, 4)


def make_targets(
    masks: Tensor,
    annotated: Tensor,
    sizes: Tensor,
    weight: Tensor,
    evidence: Evidence | None = None,
    averaged: bool = False,
) -> Targets:
    """Targets from full-size masks.

    Args:
        masks: bool [M, T, H, W], padded to H, W multiples of 32.
        annotated: bool [M, T].
        sizes: float [M, 2], (height, width) of the image without padding.
        weight: float [M].
        evidence: for noisy masks, or points alone.
        averaged: a cell's truth is the object's share of its pixels, which keeps parts thinner than a cell; False: one
            pixel's, as in ReferFormer.
    """
    masks = masks & annotated[..., None, None]
    rows, columns = masks.any(-1), masks.any(-2)  # [M, T, H], [M, T, W]
    present = rows.any(-1)
    y0, y1 = _extent(rows)
    x0, x1 = _extent(columns)
    height, width = sizes[:, None, 0], sizes[:, None, 1]
    boxes = torch.stack([(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height], -1)
    if averaged:
        small = F.avg_pool2d(masks.float(), MASK_STRIDE)
    else:
        start = MASK_STRIDE // 2
        small = masks[..., start::MASK_STRIDE, start::MASK_STRIDE].float()
    boxes = boxes * present[..., None]
    if evidence is not None:
        present = present | (evidence.visible & annotated)
    return Targets(small, boxes, present, annotated, weight, evidence)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and last occupied position of bool [..., L], as float; the reference's boxes end at the last pixel."""
    length = occupied.shape[-1]
    position = torch.arange(length, device=occupied.device)
    first = torch.where(occupied, position, length).amin(-1)
    last = torch.where(occupied, position, -1).amax(-1)
    return first.float(), last.float()


@dataclass(frozen=True)
class Prediction:
    """One decoder layer's output for M nouns."""

    logits: Tensor  # [M, T, Q]
    boxes: Tensor  # [M, T, Q, 4]
    masks: Tensor  # [M, T, Q, h, w]


def match(prediction: Prediction, targets: Targets, weights: dict[str, float]) -> Tensor:
    """The query of least cost for each noun over the whole clip, int64 [M].

    With one object a noun the Hungarian assignment is a minimum over queries.
    """
    with torch.no_grad():
        per_clip = _shares(targets.boxed)
        present = targets.present.float()
        per_present = present / present.sum(1, keepdim=True).clamp(min=1)
        probability = prediction.logits.sigmoid()
        positive = FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * -(probability + 1e-8).log()
        negative = (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * -(1 - probability + 1e-8).log()
        cost = weights["class"] * ((positive - negative) * per_present[..., None]).sum(1)
        truth_boxes = targets.boxes[:, :, None]
        l1 = (prediction.boxes - truth_boxes).abs().sum(-1)
        giou = generalized_iou(prediction.boxes, truth_boxes.expand_as(prediction.boxes))
        cost = cost + ((weights["box"] * l1 - weights["giou"] * giou) * per_clip[..., None]).sum(1)
        entropy, dice = _mask_terms(prediction.masks.transpose(1, 2), targets)
        return (cost + weights["mask"] * entropy + weights["dice"] * dice).argmin(1)


def losses(prediction: Prediction, targets: Targets, weights: dict[str, float]) -> dict[str, Tensor]:
    """The five losses of one layer, unweighted: class, box, giou, mask, dice."""
    matched = match(prediction, targets, weights)
    index = torch.arange(len(matched), device=matched.device)
    weight = targets.weight
    count = targets.count.clamp(min=1)
    truth = torch.zeros_like(prediction.logits)
    truth[index, :, matched] = targets.present.float()
    frame_weight = (targets.annotated.float() * weight[:, None])[..., None]
    result = {"class": (_focal(prediction.logits, truth) * frame_weight).sum() / count}
    boxes = prediction.boxes[index, :, matched]  # [M, T, 4]
    frame_weight = targets.boxed.float() * weight[:, None]
    result["box"] = ((boxes - targets.boxes).abs().sum(-1) * frame_weight).sum() / count
    result["giou"] = ((1 - generalized_iou(boxes, targets.boxes)) * frame_weight).sum() / count
    entropy, dice = _mask_terms(prediction.masks[index, :, matched][:, None], targets)
    result["mask"] = (entropy[:, 0] * weight).sum() / count
    result["dice"] = (dice[:, 0] * weight * targets.annotated.any(1)).sum() / count
    return result


def _shares(frames: Tensor) -> Tensor:
    """bool [M, T] -> weights of the frames of a clip, which sum to 1; 0 if there is none."""
    return frames.float() / frames.sum(1, keepdim=True).clamp(min=1)


def _mask_terms(masks: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of K masks a noun over its annotated frames: [M, K, T, h, w] -> [M, K] each."""
    truth = targets.masks[:, None].expand_as(masks)
    per_clip = _shares(targets.annotated)
    focal = (_focal(masks, truth).mean((-1, -2)) * per_clip[:, None]).sum(-1)
    dice = 1 - _dice(masks, truth, targets.annotated[:, None])
    if targets.evidence is None:
        return focal, dice
    return weak_mask_terms(masks, targets.masks, per_clip, targets.evidence, focal, dice)


def _focal(logits: Tensor, truth: Tensor) -> Tensor:
    """Sigmoid focal loss, element by element."""
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    wrong = probability + truth - 2 * probability * truth
    return (FOCAL_ALPHA * truth + (1 - FOCAL_ALPHA) * (1 - truth)) * entropy * wrong**FOCAL_GAMMA


def _dice(logits: Tensor, truth: Tensor, annotated: Tensor) -> Tensor:
    """Soft dice over the annotated frames of a clip: [..., T, h, w] -> [...]; smoothed by one pixel."""
    keep = annotated[..., None, None].float()
    probability = logits.sigmoid() * keep
    overlap = 2 * (probability * truth).sum((-1, -2, -3))
    return (overlap + 1) / (probability.sum((-1, -2, -3)) + (truth * keep).sum((-1, -2, -3)) + 1)


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """GIoU of paired boxes (cx, cy, w, h), [..., 4] -> [...]."""
    a0, a1 = first[..., :2] - first[..., 2:] / 2, first[..., :2] + first[..., 2:] / 2
    b0, b1 = second[..., :2] - second[..., 2:] / 2, second[..., :2] + second[..., 2:] / 2
    overlap = (torch.minimum(a1, b1) - torch.maximum(a0, b0)).clamp(min=0).prod(-1)
    union = (a1 - a0).prod(-1) + (b1 - b0).prod(-1) - overlap
    hull = (torch.maximum(a1, b1) - torch.minimum(a0, b0)).clamp(min=0).prod(-1)
    # The clamp is for boxes without extent, the truth of an absent object.
    return overlap / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)
