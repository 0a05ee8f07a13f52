"""The STCN task: clips of video object segmentation under four supervisions, model, losses and saver.

Point-VOS, Sec. 4 and App. D: `masks` trains STCN (bootstrapped cross-entropy), `pseudo_masks` STCN on noisy masks
(Huberised cross-entropy), `points` Point-STCN (cross-entropy at points), `hybrid` starts from points and trains on
masks.
Shapes: B clips, T frames, K objects, P points an object, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.utils import ModelOutput

from vng.dataset import VngDataset
from vng.models.backbones import published_config, start_from
from vng.models.batch_norm import takes_statistics
from vng.models.efficientnet_lite.configuration_efficientnet_lite import EfficientNetLiteConfig
from vng.models.layout import channels_last
from vng.models.loading import load_strictly
from vng.models.stcn.configuration_stcn import StcnConfig
from vng.models.stcn.losses_stcn import (
    IGNORED,
    Bootstrapping,
    bootstrapped_cross_entropy,
    huberised_cross_entropy,
    point_cross_entropy,
)
from vng.models.stcn.modeling_stcn import Stcn
from vng.training.loop import Task
from vng.training.stcn.clips import VosClipSampler, collate
from vng.training.stcn.recipe import StcnLossSettings, StcnModelSettings, StcnRecipe


@dataclass
class TrainingOutput(ModelOutput):
    """Output for the loop: the loss and its terms (unweighted: masks, points; reference: both of frame 0)."""

    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None


class TrainedStcn(nn.Module):
    """STCN with its losses; the annotations of the clips determine which losses apply."""

    pretrained_parts = ("model.key_encoder.",)

    def __init__(self, model: Stcn, settings: StcnLossSettings) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def forward(
        self,
        pixel_values: Tensor,
        prompts: Tensor,
        others: Tensor,
        valid: Tensor,
        labels: Tensor,
        xy: Tensor,
        verdicts: Tensor,
        robust: Tensor,
        progress: Tensor,
    ) -> TrainingOutput:
        """One pass.

        Args:
            pixel_values: uint8 [B, T, 3, H, W].
            prompts, others: float [B, K, H, W], of frame 0.
            valid: bool [B, K], False for padding.
            labels: long [B, T, H, W], classes.
            xy, verdicts: float [B, T, K, P, 2], long [B, T, K, P].
            robust: bool [B], clips with noisy labels.
            progress: float [B], share of the training before this step.
        """
        reads = self.settings.reference > 0
        logits = self.model(pixel_values, prompts, valid, others=others, read_reference=reads).logits
        return self.losses(logits, labels, xy, verdicts, robust, progress)

    def losses(
        self, logits: Tensor, labels: Tensor, xy: Tensor, verdicts: Tensor, robust: Tensor, progress: Tensor
    ) -> TrainingOutput:
        """The losses of logits [B, T', K + 1, H, W], of the last T' frames; the others as of `forward`."""
        weight = self.settings.reference
        facts = _Facts.of(labels, robust, progress)
        logits = logits.float()
        first = labels.shape[1] - logits.shape[1]
        terms: dict[str, Tensor] = {}
        total = logits.new_zeros(())
        for t in range(logits.shape[1]):
            frame = first + t
            masks = self._mask_loss(logits[:, t], labels[:, frame], robust, facts, frame)
            points = point_cross_entropy(logits[:, t], xy[:, frame], verdicts[:, frame])
            name = "reference" if frame == 0 else ""
            for kind, values in (("masks", masks), ("points", points)):
                key = name or kind
                terms[key] = terms.get(key, total.detach() * 0) + values.mean().detach()
            total = total + (weight if frame == 0 else 1.0) * (masks + points).mean()
        return TrainingOutput(total, terms)

    def _mask_loss(self, logits: Tensor, labels: Tensor, robust: Tensor, facts: _Facts, frame: int) -> Tensor:
        """float [B]: Huberised for noisy labels, bootstrapped for drawn ones."""
        if all(facts.robust):
            return huberised_cross_entropy(logits, labels, self.settings.huber)
        start, end = self.settings.bootstrap
        share = Bootstrapping(start, end, self.settings.bootstrap_top).share(facts.progress)
        drawn = bootstrapped_cross_entropy(logits, labels, share, facts.annotated[frame])
        if not any(facts.robust):
            return drawn
        return torch.where(robust, huberised_cross_entropy(logits, labels, self.settings.huber), drawn)


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """Numbers of a batch that the host needs, brought in one transfer."""

    progress: float
    robust: list[bool]  # of each clip
    annotated: list[list[int]]  # pixels of each frame and clip

    @staticmethod
    def of(labels: Tensor, robust: Tensor, progress: Tensor) -> _Facts:
        counts = (labels != IGNORED).sum((2, 3)).double()  # [B, T]
        rows = torch.cat([progress[:, None], robust[:, None], counts], 1).tolist()
        return _Facts(
            progress=rows[0][0],
            robust=[bool(row[1]) for row in rows],
            annotated=[[int(row[2 + t]) for row in rows] for t in range(labels.shape[1])],
        )


def build_stcn(recipe: StcnRecipe, opened: Mapping[Path, VngDataset]) -> Task:
    """Model, samples and saver of a recipe."""
    return vos_task(recipe, opened, _model(recipe.model), TrainedStcn, collate)


def vos_task(
    recipe: StcnRecipe,
    opened: Mapping[Path, VngDataset],
    model: Stcn,
    trained: type[TrainedStcn],
    batch: Callable[..., dict[str, Tensor]],
) -> Task:
    """The task of STCN, or of a network on top of it.

    Args:
        recipe: its clips and supervisions.
        opened: datasets by path, see `vng.training.tasks.train_recipe`.
        model: the network to train; its configuration learns what kinds of prompts it sees.
        trained: the network with its losses.
        batch: clips -> arguments of `trained`, with `objects` as in `collate`.
    """
    datasets = [source.open(opened) for source in recipe.data.sources]
    supervisions = {source.supervision or recipe.supervision for source in recipe.data.sources}
    model.config.takes_points = bool(supervisions & {"points", "hybrid"})
    model.config.takes_negatives = model.config.takes_points and recipe.data.negatives > 0
    model.config.reads_reference = recipe.loss.reference > 0
    steps, radius = recipe.optimizer.steps, float(model.config.point_radius)

    def samples(length: int) -> VosClipSampler:
        return VosClipSampler(datasets, recipe.data, recipe.supervision, radius, recipe.seed, length, steps)

    samples(1).check()

    def save(whole: nn.Module, folder: Path) -> None:
        assert isinstance(whole, TrainedStcn)
        whole.model.save_pretrained(folder)

    # Padding objects count in the statistics of batch norm, so their number must not depend on the batch.
    least = recipe.data.objects if takes_statistics(model.train()) else 1
    return Task(trained(channels_last(model), recipe.loss), samples, partial(batch, objects=least), save)


def _model(settings: StcnModelSettings) -> Stcn:
    """An earlier STCN, or a new one over pre-trained or fresh backbones."""
    if settings.init is not None:
        return load_strictly(Stcn, settings.init)
    key, value = settings.key_backbone, settings.value_backbone
    model = Stcn(StcnConfig(_configuration(key, 3), _configuration(value, 5), **settings.sizes))
    for encoder, source in ((model.key_encoder, key), (model.value_encoder.backbone, value)):
        if isinstance(source, str):
            start_from(encoder, source)
    return model


def _configuration(source: str | dict[str, Any], channels: int) -> PretrainedConfig | dict[str, Any]:
    """A backbone's configuration: the given one, or that of a pre-trained backbone, cut off after stride 16."""
    if isinstance(source, dict):
        return source
    whole = published_config(source)
    if isinstance(whole, EfficientNetLiteConfig):
        return whole.with_maps(["stage1", "stage2", "stage3"], channels)
    changes = {"depths": whole.depths[:3], "hidden_sizes": whole.hidden_sizes[:3], "num_channels": channels}
    unchanged = {name: value for name, value in whole.to_dict().items() if name not in ("stage_names", "out_indices")}
    return type(whole)(**{**unchanged, **changes, "out_features": ["stage1", "stage2", "stage3"]})
