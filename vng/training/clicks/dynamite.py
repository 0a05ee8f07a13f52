"""The DynaMITe task: images of datasets with masks, and the authors' simulated first clicks.

The model itself adds corrective clicks.

Rana et al., ICCV 2023, Sec. 3.4. Sample i of a run depends on (seed, i) alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn
from transformers import AutoConfig, PretrainedConfig

from vng.dataset import VngDataset
from vng.errors import DataError
from vng.models.dynamite.clicks import Dice, Trace, initial_clicks, trace_pixels, training_masks
from vng.models.dynamite.configuration_dynamite import STAGES, DynamiteConfig
from vng.models.dynamite.modeling_dynamite import DynamiteModel
from vng.models.dynamite.processing_dynamite import TrainingSample, batch_of
from vng.models.loading import load_strictly
from vng.points import Click
from vng.training.clicks.prompts import simulate_trace
from vng.training.clicks.recipe import DynamiteModelSettings, DynamiteRecipe, SceneSettings
from vng.training.clicks.scenes import ObjectScene
from vng.training.clicks.task import ClickSampler
from vng.training.loop import Task


class InteractiveSampler(ClickSampler):
    """The scenes of `ClickSampler` with DynaMITe's clicks; with a chance of `traces`, a trace in place of an object's."""

    def __init__(
        self, datasets: Sequence[VngDataset], settings: SceneSettings, seed: int, length: int, traces: float = 0.0
    ) -> None:
        super().__init__(datasets, settings, seed, length)  # type: ignore[arg-type]  # only scenes are drawn
        self.traces = traces

    def _prompted(self, scene: ObjectScene, rng: np.random.Generator) -> TrainingSample:  # type: ignore[override]
        dice = Dice(int(rng.integers(2**31)))
        all_masks = np.stack(scene.masks)
        masks = training_masks(all_masks, dice)
        if not len(masks):  # all chosen ones are tiny or hidden
            masks = all_masks[all_masks.sum((1, 2)).argmax()][None]
        clicks: list[Click | Trace] = [*initial_clicks(masks, np.any(scene.masks, axis=0), dice)]
        seed = int(rng.integers(2**31))
        for k in range(len(masks)) if self.traces else ():
            if rng.random() < self.traces:
                clicks = _traced(clicks, k, masks[k], rng)
        return TrainingSample(scene.image, masks, tuple(clicks), seed)


def _traced(clicks: Sequence[Click | Trace], k: int, mask: np.ndarray, rng: np.random.Generator) -> list[Click | Trace]:
    """The prompts with a mouse trace in place of an object's clicks."""
    places = simulate_trace(mask, rng)[:, ::-1]
    first = min(click.time for click in clicks if click.owner == k)
    trace = Trace(trace_pixels(places, (mask.shape[0], mask.shape[1])), first, k)
    return sorted([*(click for click in clicks if click.owner != k), trace], key=lambda query: query.time)


def build_dynamite(recipe: DynamiteRecipe, opened: Mapping[Path, VngDataset]) -> Task:
    """Model, samples and saver of a recipe."""
    datasets = [source.open(opened) for source in recipe.data.sources]
    model = _model(recipe.model)

    def save(trained: nn.Module, folder: Path) -> None:
        assert isinstance(trained, DynamiteModel)
        trained.save_pretrained(folder)

    def samples(length: int) -> InteractiveSampler:
        return InteractiveSampler(datasets, recipe.data, recipe.seed, length, recipe.data.traces)

    return Task(model, samples, batch_of, save)


def _model(settings: DynamiteModelSettings) -> DynamiteModel:
    """An earlier DynaMITe, or a new one over a pre-trained or fresh backbone."""
    if settings.init is not None:
        return load_strictly(DynamiteModel, settings.init)
    try:
        config = DynamiteConfig(_backbone(settings.backbone), **settings.sizes)
        model = DynamiteModel(config)
        if isinstance(settings.backbone, str):
            # The class itself, not AutoBackbone, which contacts the hub even for a local folder.
            model.backbone = type(model.backbone).from_pretrained(settings.backbone, out_features=STAGES)
    except OSError as error:  # of the hub's client, for a name that it cannot find or reach
        reason = f"neither a folder nor available from the hub ({type(error).__name__})"
        raise DataError(settings.backbone, reason=reason, cure="check model.backbone, or the network") from error
    return model


def _backbone(value: str | dict) -> dict | PretrainedConfig:
    return AutoConfig.from_pretrained(value, out_features=STAGES) if isinstance(value, str) else value
