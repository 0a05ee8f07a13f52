"""The ABS task: clips that start from a click, with optical flow.

Shapes: B clips, T frames, K objects, H x W pixels, i x j cells of the enhanced features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vng.dataset import VngDataset
from vng.models.abs.configuration_abs import AbsConfig
from vng.models.abs.modeling_abs import Abs
from vng.models.abs.processing_abs import flow_map
from vng.models.loading import find_model, load_strictly
from vng.models.stcn.losses_stcn import IGNORED
from vng.models.stcn.modeling_stcn import Stcn
from vng.training.abs.recipe import AbsLossSettings, AbsModelSettings, AbsRecipe
from vng.training.loop import Task
from vng.training.stcn.clips import VosClip, collate
from vng.training.stcn.task import TrainedStcn, TrainingOutput, vos_task


class TrainedAbs(TrainedStcn):
    """ABS with its losses."""

    settings: AbsLossSettings

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
        prompts: Tensor,
        others: Tensor,
        valid: Tensor,
        labels: Tensor,
        flow: Tensor,
        **annotations: Tensor,
    ) -> TrainingOutput:
        """See `TrainedStcn.forward`; `flow` float [B, T, 3, H, W]."""
        reads = self.settings.reference > 0
        output: Any = self.model(pixel_values, prompts, valid, others=others, read_reference=reads, flow=flow)
        result = self.losses(output.logits, labels, **annotations)
        attention = attention_loss(output.attention, labels, valid)
        assert result.loss is not None and result.loss_terms is not None
        terms = {**result.loss_terms, "attention": attention.detach()}
        return TrainingOutput(result.loss + self.settings.attention * attention, terms)


def attention_loss(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy of coarse masks, a scalar.

    Args:
        logits: float [B, T', K, i, j], of the last T' frames.
        labels: long [B, T, H, W]; IGNORED pixels do not count.
        valid: bool [B, K].
    """
    t, k, rows, columns = logits.shape[1:]
    size = (rows, columns)
    labels = labels[:, -t:]
    known = (labels != IGNORED).flatten(0, 1)[:, None].float()
    own = torch.stack([(labels == 1 + i) for i in range(k)], 2).flatten(0, 1).float()  # [B * T', K, H, W]
    weight = F.adaptive_avg_pool2d(known, size)
    target = F.adaptive_avg_pool2d(own, size) / weight.clamp(min=1e-6)
    loss = F.binary_cross_entropy_with_logits(logits.float().flatten(0, 1), target.clamp(0, 1), reduction="none")
    counted = weight * valid.repeat_interleave(t, 0)[..., None, None]
    return (loss * counted).sum() / counted.sum().clamp(min=1e-6)


def build_abs(recipe: AbsRecipe, opened: Mapping[Path, VngDataset]) -> Task:
    """Model, samples and saver of a recipe."""
    return vos_task(recipe, opened, _model(recipe.model), TrainedAbs, collate_with_flow)


def collate_with_flow(clips: Sequence[VosClip], objects: int = 1) -> dict[str, Tensor]:
    """As `collate`, with the flow of every frame to the one before it; of the first to the one after."""
    flows = [
        np.stack([flow_map(clip.pixels[t], clip.pixels[t - 1 if t else 1]) for t in range(len(clip.pixels))])
        for clip in clips
    ]
    return {**collate(clips, objects), "flow": torch.from_numpy(np.stack(flows))}


def _model(settings: AbsModelSettings) -> Abs:
    """An earlier ABS, or a new one, with the parts of a trained Point-STCN."""
    if settings.init is not None:
        return load_strictly(Abs, settings.init)
    if settings.stcn is None:
        return Abs(AbsConfig(**settings.sizes))
    start = load_strictly(Stcn, find_model(settings.stcn))
    known = {name: value for name, value in start.config.to_dict().items() if name not in ("model_type", "dtype")}
    model = Abs(AbsConfig(**{**known, **settings.sizes}))
    model.load_state_dict(start.float().state_dict(), strict=False)  # the parts that are ABS's own stay as they are
    return model
