"""The DynaMITe task: images of datasets with masks, the authors' simulated first clicks; corrective ones come in the model.

Rana et al., ICCV 2023, Sec. 3.4. Sample i of a run depends on (seed, i) alone.
Shapes: B images, K objects, Q queries, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig

from vng.dataset import VngDataset
from vng.errors import DataError
from vng.models.dynamite.clicks import Dice, Prompts, initial_clicks, training_masks
from vng.models.dynamite.configuration_dynamite import STAGES, DynamiteConfig
from vng.models.dynamite.modeling_dynamite import DynamiteModel
from vng.models.dynamite.processing_dynamite import normalised
from vng.models.loading import load_strictly
from vng.points import Click
from vng.training.click_scenes import ObjectScene
from vng.training.clicks import ClickSampler
from vng.training.loop import Task
from vng.training.settings import DynamiteModelSettings, DynamiteRecipe


@dataclass(frozen=True)
class InteractiveSample:
    """One image, its objects and the clicks it starts with."""

    image: np.ndarray  # uint8 [H, W, 3]
    masks: np.ndarray  # bool [K, H, W], without overlaps
    clicks: tuple[Click, ...]


class InteractiveSampler(ClickSampler):
    """The scenes of `ClickSampler` with DynaMITe's clicks."""

    def _prompted(self, scene: ObjectScene, rng: np.random.Generator) -> InteractiveSample:  # type: ignore[override]
        dice = Dice(int(rng.integers(2**31)))
        masks = training_masks(np.stack(scene.masks), dice)
        while not len(masks):  # every chosen object lies behind another one: choose again
            masks = training_masks(np.stack(scene.masks), dice)
        clicks = initial_clicks(masks, np.any(scene.masks, axis=0), dice)
        return InteractiveSample(scene.image, masks, tuple(clicks))


def collate(samples: Sequence[InteractiveSample]) -> dict[str, Tensor]:
    """Samples of one size -> the model's arguments; objects are filled up to the most of the batch."""
    most = max(len(sample.masks) for sample in samples)
    targets = np.zeros((len(samples), most, *samples[0].masks.shape[1:]), bool)
    valid = np.zeros((len(samples), most), bool)
    for b, sample in enumerate(samples):
        targets[b, : len(sample.masks)], valid[b, : len(sample.masks)] = sample.masks, True
    prompts = Prompts.of([sample.clicks for sample in samples])
    return {
        "pixel_values": torch.stack([normalised(sample.image) for sample in samples]),
        "points": prompts.points,
        "times": prompts.times,
        "owners": prompts.owners,
        "traced": prompts.traced,
        "target_masks": torch.from_numpy(targets),
        "target_valid": torch.from_numpy(valid),
    }


def build_dynamite(recipe: DynamiteRecipe) -> Task:
    """Model, samples and saver of a recipe."""
    datasets = [VngDataset(path) for path in recipe.data.paths]
    model = _model(recipe.model)

    def save(trained: nn.Module, folder: Path) -> None:
        assert isinstance(trained, DynamiteModel)
        trained.save_pretrained(folder)

    return Task(model, lambda length: InteractiveSampler(datasets, recipe.data, recipe.seed, length), collate, save)


def _model(settings: DynamiteModelSettings) -> DynamiteModel:
    """An earlier DynaMITe, or a new one over a pre-trained or fresh backbone."""
    if settings.init is not None:
        return load_strictly(DynamiteModel, settings.init)
    try:
        config = DynamiteConfig(_backbone(settings.backbone), **settings.sizes)
        model = DynamiteModel(config)
        if isinstance(settings.backbone, str):
            # The class itself, not AutoBackbone: that asks the hub even for a local folder.
            model.backbone = type(model.backbone).from_pretrained(settings.backbone, out_features=STAGES)
    except OSError as error:  # what the hub's client raises for a name it cannot find or reach
        reason = f"neither a folder nor to be had from the hub ({type(error).__name__})"
        raise DataError(settings.backbone, "", "", reason, "check model.backbone, or the network") from error
    return model


def _backbone(value: str | dict) -> dict | PretrainedConfig:
    return AutoConfig.from_pretrained(value, out_features=STAGES) if isinstance(value, str) else value
