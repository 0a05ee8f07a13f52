"""Shared by losses of weak labels: maps read at points, and cross-entropy with a bounded gradient for wrong labels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

UNKNOWN = -1  # label of a point that only pads a row


def read_at(maps: Tensor, xy: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps read bilinearly at exact positions, as if they were first enlarged to the frame.

    Args:
        maps: float [R, h, w], each over the whole frame.
        xy: float [R, P, 2], pixels of the frame, centres at integers; outside the map its edge is read.
        size: (height, width) of the frame.

    Returns:
        float [R, P].
    """
    grid = torch.stack([(2 * xy[..., axis] + 1) / size[1 - axis] - 1 for axis in (0, 1)], -1)
    return F.grid_sample(maps[:, None], grid[:, None].to(maps.dtype), padding_mode="border", align_corners=False)[
        :, 0, 0
    ]


def huberised(logarithm: Tensor, threshold: float) -> Tensor:
    """Cross-entropy that grows linearly where the true class has a probability below 1 / threshold, element by element.

    The gradient of a wrong label is then bounded (Menon et al., "Can gradient clipping mitigate label noise?",
    ICLR 2020, Sec. 5).

    Args:
        logarithm: log-probability of the true class, at most 0, any shape.
        threshold: greater than 1.
    """
    linear = -threshold * logarithm.exp() + math.log(threshold) + 1
    return torch.where(logarithm < -math.log(threshold), linear, -logarithm)
