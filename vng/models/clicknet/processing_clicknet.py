"""Point prompts -> padded tensors of the click segmenter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vng.models.clicknet.modeling_clicknet import Clicks
from vng.points import PointPrompts

TRACE_KEPT = 0.73  # share of a mouse trace that lies on its object (VidLN, Sec. 3)
TRACE_POINTS = 24  # a trace is thinned to about this many


def to_clicks(prompts: Sequence[PointPrompts]) -> Clicks:
    """N prompts -> padded tensors. The core of a trace is the share nearest its median; the rest is only counted."""
    positive = [_thinned(prompt) for prompt in prompts]
    cores = [_core(points, prompt.trace) for points, prompt in zip(positive, prompts, strict=True)]
    padded, valid = pad(positive)
    core_padded = torch.zeros_like(valid)
    for row, is_core in zip(core_padded, cores, strict=True):
        row[: len(is_core)] = torch.from_numpy(is_core)
    negative, negative_valid = pad([prompt.negative for prompt in prompts])
    trace = torch.tensor([prompt.trace for prompt in prompts], dtype=torch.bool)
    return Clicks(padded, valid, core_padded, negative, negative_valid, trace)


def pad(points: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """N arrays [P_i, 2] -> float [N, P, 2] padded with zeros, and bool [N, P]."""
    most = max((len(p) for p in points), default=0)
    padded, valid = torch.zeros(len(points), most, 2), torch.zeros(len(points), most, dtype=torch.bool)
    for i, p in enumerate(points):
        padded[i, : len(p)] = torch.from_numpy(p)
        valid[i, : len(p)] = True
    return padded, valid


def _thinned(prompt: PointPrompts) -> np.ndarray:
    points = prompt.positive
    return points[:: max(1, len(points) // TRACE_POINTS)] if prompt.trace else points


def _core(points: np.ndarray, trace: bool) -> np.ndarray:
    if not trace or len(points) < 4:
        return np.ones(len(points), bool)
    distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    return distance <= np.quantile(distance, TRACE_KEPT)
