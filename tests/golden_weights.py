"""Weights of the goldens, which come from the names of keys (PEERS.md, section 0)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

import numpy as np
import torch

STCN_GAINS = {"key_proj.key_proj.weight": 3, "decoder.pred.weight": 4}
REFERFORMER_GAINS = {"bbox_embed": 0.3, "controller.layers.2": 0.6, "sampling_offsets.weight": 0.5}
STCN_SMALL = r"(bn3|layer[1-4]\.\d+\.bn2)\.weight$"  # the last norm of a residual branch


def drawn(key: str, shape: list[int], gains: Mapping[str, float], small: str = "$^", seed: int = 0) -> torch.Tensor:
    """One tensor; `gains` multiply keys that contain a text, `small` is a pattern of norms that start at 0.2 to 0.4."""
    r = np.random.default_rng([seed, zlib.crc32(key.encode())])
    if key.endswith((".bg_query", "relative_position_index", "num_batches_tracked")):
        value = np.zeros(shape)
    elif key.endswith("running_mean"):
        value = 0.1 * r.standard_normal(shape)
    elif key.endswith("running_var"):
        value = r.uniform(0.8, 1.2, shape)
    elif key.endswith("sampling_offsets.bias"):
        value = r.uniform(-2, 2, shape)
    elif len(shape) > 1:
        value = r.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    elif key.endswith(".weight"):
        value = r.uniform(*((0.2, 0.4) if re.search(small, key) else (0.6, 1.0)), shape)
    else:
        value = 0.05 * r.standard_normal(shape)
    for part, gain in gains.items():
        value = value * (gain if part in key else 1)
    return torch.from_numpy(np.asarray(value)).float()


def referformer_state(shapes: Mapping[str, list[int]]) -> dict[str, torch.Tensor]:
    """Weights of the authors' ReferFormer, by the shapes of its keys."""
    state = {key: drawn(key, shape, REFERFORMER_GAINS, STCN_SMALL) for key, shape in shapes.items()}
    rare = {
        key: torch.full_like(state[key], -4.59511985013459) for key in state if re.match(r"class_embed.*bias$", key)
    }
    return state | rare
