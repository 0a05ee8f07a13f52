"""Matching and losses of ReferFormer (Wu et al., CVPR 2022), for all nouns of a batch at once.

Shapes: B clips, N nouns, T frames, Q queries, h x w mask pixels at stride 4; M = the nouns that count, over the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
MASK_STRIDE = 4


@dataclass(frozen=True)
class Targets:
    """The truth of M nouns.

    A frame is *annotated* or not (null: trains nothing), and in an annotated frame the object is *present* or absent
    (an empty mask: trains absence).
    """

    masks: Tensor  # float [M, T, h, w], sampled at stride 4
    boxes: Tensor  # float [M, T, 4], (cx, cy, w, h) in [0, 1]; zeros where absent
    present: Tensor  # bool [M, T]
    annotated: Tensor  # bool [M, T]
    weight: Tensor  # float [M], of the object in the loss

    def __post_init__(self) -> None:
        m, t = self.present.shape
        assert self.masks.shape[:2] == self.annotated.shape == (m, t) and self.boxes.shape == (m, t, 4)


def make_targets(masks: Tensor, annotated: Tensor, sizes: Tensor, weight: Tensor) -> Targets:
    """Targets from full-size masks.

    Args:
        masks: bool [M, T, H, W], padded to H, W multiples of 32.
        annotated: bool [M, T].
        sizes: float [M, 2], (height, width) of the image without padding.
        weight: float [M].
    """
    masks = masks & annotated[..., None, None]
    rows, columns = masks.any(-1), masks.any(-2)  # [M, T, H], [M, T, W]
    present = rows.any(-1)
    y0, y1 = _extent(rows)
    x0, x1 = _extent(columns)
    height, width = sizes[:, None, 0], sizes[:, None, 1]
    boxes = torch.stack([(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height], -1)
    start = MASK_STRIDE // 2
    small = masks[..., start::MASK_STRIDE, start::MASK_STRIDE].float()
    return Targets(small, boxes * present[..., None], present, annotated, weight)


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
    """The query that costs least for each noun, over the whole clip; int64 [M].

    One object a noun makes the Hungarian assignment a minimum over queries.
    """
    with torch.no_grad():
        frames = targets.annotated.float()
        per_clip = frames / frames.sum(1, keepdim=True).clamp(min=1)  # [M, T]
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
        masks = prediction.masks.transpose(1, 2)  # [M, Q, T, h, w]
        truth = targets.masks[:, None].expand_as(masks)
        focal = (_focal(masks, truth).mean((-1, -2)) * per_clip[:, None]).sum(-1)
        cost = cost + weights["mask"] * focal
        cost = cost - weights["dice"] * _dice(masks, truth, targets.annotated[:, None])
        return cost.argmin(1)


def losses(prediction: Prediction, targets: Targets, weights: dict[str, float]) -> dict[str, Tensor]:
    """The five losses of one layer, unweighted: class, box, giou, mask, dice."""
    chosen = match(prediction, targets, weights)
    index = torch.arange(len(chosen), device=chosen.device)
    weight = targets.weight
    # The reference divides by the number of frames in which an object is seen, over the batch.
    count = (targets.present.float() * weight[:, None]).sum().clamp(min=1)
    truth = torch.zeros_like(prediction.logits)
    truth[index, :, chosen] = targets.present.float()
    frame_weight = (targets.annotated.float() * weight[:, None])[..., None]
    result = {"class": (_focal(prediction.logits, truth) * frame_weight).sum() / count}
    boxes = prediction.boxes[index, :, chosen]  # [M, T, 4]
    frame_weight = frame_weight[..., 0]
    result["box"] = ((boxes - targets.boxes).abs().sum(-1) * frame_weight).sum() / count
    result["giou"] = ((1 - generalized_iou(boxes, targets.boxes)) * frame_weight).sum() / count
    masks = prediction.masks[index, :, chosen]  # [M, T, h, w]
    frames = targets.annotated.float()
    focal = (_focal(masks, targets.masks).mean((-1, -2)) * frames).sum(1) / frames.sum(1).clamp(min=1)
    result["mask"] = (focal * weight).sum() / count
    dice = 1 - _dice(masks, targets.masks, targets.annotated)
    result["dice"] = (dice * weight * targets.annotated.any(1)).sum() / count
    return result


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
    # Clamping guards boxes without extent, the truth of an absent object.
    return overlap / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)
