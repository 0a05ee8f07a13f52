"""The task of class-agnostic instances: Mask2Former of `transformers`, its own matching and losses.

Shapes: B clips, T frames, K objects, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
from transformers.utils import ModelOutput

from vng.dataset import VngDataset
from vng.models.backbones import named_config
from vng.models.loading import load_or_raise
from vng.models.stcn.losses_stcn import IGNORED
from vng.models.transfer import normalised
from vng.training.instances.recipe import InstancesModelSettings, InstancesRecipe
from vng.training.loop import Task
from vng.training.stcn.clips import VosClipSampler, collate

NAMES = {0: "object"}


@dataclass
class InstancesOutput(ModelOutput):
    """Output for the loop."""

    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None


class TrainedInstances(nn.Module):
    """Mask2Former with its losses, on the frames of clips."""

    pretrained_parts = ("model.model.pixel_level_module.encoder.",)

    def __init__(self, model: Mask2FormerForUniversalSegmentation) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, labels: Tensor, **_: Tensor) -> InstancesOutput:
        """One pass.

        Args:
            pixel_values: uint8 [B, T, 3, H, W].
            labels: long [B, T, H, W], 0 background, 1..K, IGNORED; a frame with unknown pixels does not count.
        """
        images, maps = pixel_values.flatten(0, 1), labels.flatten(0, 1)
        masks = [
            torch.stack([own == k for k in own.unique().tolist() if k]) if bool(own.any()) else None for own in maps
        ]
        known = [i for i, own in enumerate(maps) if masks[i] is not None and not bool((own == IGNORED).any())]
        if not known:  # all weights take part, so that every process has gradients
            total = torch.stack([p.sum() for p in self.model.parameters() if p.requires_grad]).sum() * 0.0
            return InstancesOutput(total, {"instances": torch.zeros((), device=labels.device)})
        targets = [masks[i].float() for i in known]  # type: ignore[union-attr]
        output: Any = self.model(
            pixel_values=normalised(images[known]),
            mask_labels=targets,
            class_labels=[torch.zeros(len(target), dtype=torch.long, device=labels.device) for target in targets],
        )
        return InstancesOutput(output.loss.squeeze(), {"instances": output.loss.detach().squeeze()})


def build_instances(recipe: InstancesRecipe, opened: Mapping[Path, VngDataset]) -> Task:
    """Model, samples and saver of a recipe."""
    datasets = [source.open(opened) for source in recipe.data.sources]
    steps = recipe.optimizer.steps

    def samples(length: int) -> VosClipSampler:
        return VosClipSampler(datasets, recipe.data, recipe.supervision, 0.0, recipe.seed, length, steps)

    samples(1).check()

    def save(whole: nn.Module, folder: Path) -> None:
        assert isinstance(whole, TrainedInstances)
        whole.model.save_pretrained(folder)

    return Task(TrainedInstances(_model(recipe.model)), samples, collate, save)


def _model(settings: InstancesModelSettings) -> Mask2FormerForUniversalSegmentation:
    """A published model whose class head is new, or a new one; one class."""
    if settings.init is None:
        values = dict(settings.config)
        kind = named_config(values.pop("backbone_config"))
        return Mask2FormerForUniversalSegmentation(
            Mask2FormerConfig(backbone_config=kind, id2label=NAMES, label2id={"object": 0}, **values)
        )
    cure = "check the hub id, or the network"
    return load_or_raise(
        settings.init,
        lambda: Mask2FormerForUniversalSegmentation.from_pretrained(
            settings.init, id2label=NAMES, label2id={"object": 0}, ignore_mismatched_sizes=True
        ),
        cure,
    )
