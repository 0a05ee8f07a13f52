"""The click-segmentation task: images of datasets with masks, simulated prompts, model and saver.

Sample i of a run depends on (seed, i) alone, so a resumed run sees exactly the samples an uninterrupted one would.
Shapes: K prompts an image, P points, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vng.dataset import Video, VngDataset
from vng.errors import DataError, UsageError
from vng.masks import RLE, area, decode
from vng.models.backbones import published_config, start_from
from vng.models.clicknet.configuration_clicknet import STAGES, ClickNetConfig
from vng.models.clicknet.modeling_clicknet import ClickNet
from vng.models.clicknet.processing_clicknet import to_clicks
from vng.models.efficientnet_lite.configuration_efficientnet_lite import EfficientNetLiteConfig
from vng.models.layout import channels_last
from vng.models.loading import load_strictly
from vng.points import PointPrompts
from vng.training.clicks.prompts import Wish, piece_of, region_of, simulate_prompt
from vng.training.clicks.recipe import ClickDataSettings, ClickModelSettings, ClicksRecipe
from vng.training.clicks.scenes import LEAST_AREA, ObjectScene, beside, moved, recoloured
from vng.training.loop import Task
from vng.training.video_cache import VideoCache, as_it_is

MOST_DRAWS = 1000


@dataclass(frozen=True)
class ClickSample:
    """One image, K prompts and the mask that each of them means."""

    image: np.ndarray  # uint8 [H, W, 3]
    prompts: tuple[PointPrompts, ...]  # length K
    masks: np.ndarray  # bool [K, H, W]
    outline: np.ndarray  # bool [H, W], of all objects, prompted or not

    def __post_init__(self) -> None:
        expected = (len(self.prompts), *self.image.shape[:2])
        if self.masks.shape != expected:
            raise ValueError(f"sample: masks {list(self.masks.shape)}, expected {list(expected)}")


class ClickSampler(Dataset):
    """`length` random samples of datasets with masks; item i is drawn with the generator (seed, i)."""

    def __init__(self, datasets: Sequence[VngDataset], settings: ClickDataSettings, seed: int, length: int) -> None:
        self.datasets, self.settings, self.seed, self.length = datasets, settings, seed, length
        self._video = VideoCache(datasets, as_it_is)
        for dataset in datasets:
            if not any(map(_shows_an_object, dataset)):
                reason = "no video of this dataset has a mask to train on"
                raise DataError(dataset.path, field="segmentations", reason=reason)
        self._shares = settings.shares

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ClickSample:
        rng = np.random.default_rng([self.seed, index])
        source = int(rng.choice(len(self.datasets), p=self._shares))
        # Objects that augmentation moves out of view are very rare.
        for _ in range(MOST_DRAWS):
            scene = self._scene(source, rng)
            if any(mask.sum() >= LEAST_AREA for mask in scene.masks):
                return self._prompted(scene, rng)
        reason = f"no object stays visible in {MOST_DRAWS} draws of a training image of {self.settings.size} pixels"
        raise DataError(
            self.datasets[source].path, field="segmentations", reason=reason, cure="train on larger objects"
        )

    def _scene(self, source: int, rng: np.random.Generator) -> ObjectScene:
        video = self._draw(source, rng)
        frame = _read(video, rng)
        scene = moved(frame, self.settings, rng)
        scene = ObjectScene(recoloured(scene.image, rng, self.settings.colour), scene.masks)
        if rng.random() < self.settings.companions:
            for _ in range(int(rng.integers(1, 4))):
                scene = beside(scene, self._guest(source, video, frame, rng), rng)
        return scene

    def _guest(self, source: int, video: Video, frame: ObjectScene, rng: np.random.Generator) -> ObjectScene:
        """An object to paste: one of the same frame, of the same video (both are hard to distinguish), or any."""
        kind = rng.random()
        if kind > 0.7:
            frame = _read(self._draw(source, rng), rng)
        elif kind > 0.4:
            frame = _read(video, rng)
        chosen = frame.masks[int(rng.integers(len(frame.masks)))]
        return ObjectScene(recoloured(frame.image, rng, self.settings.colour), [chosen])

    def _draw(self, source: int, rng: np.random.Generator) -> Video:
        """A random video in which an object is visible."""
        while True:  # there is one
            video = self._video(source, int(rng.integers(len(self.datasets[source]))))
            if _shows_an_object(video):
                return video

    def _prompted(self, scene: ObjectScene, rng: np.random.Generator) -> ClickSample:
        masks = [mask for mask in scene.masks if mask.sum() >= LEAST_AREA]
        prompts, targets = [], []
        for _ in range(self.settings.prompts):
            wish = Wish.draw(self.settings, rng)
            target, others, needed = self._target(scene.image, masks, wish, rng)
            wish = replace(wish, heed_others=wish.heed_others or needed)
            prompts.append(simulate_prompt(target, others, wish, self.settings.distance, rng))
            targets.append(target)
        return ClickSample(scene.image, tuple(prompts), np.stack(targets), outline_of(scene.masks))

    def _target(
        self, image: np.ndarray, masks: list[np.ndarray], wish: Wish, rng: np.random.Generator
    ) -> tuple[np.ndarray, list[np.ndarray], bool]:
        """The target of a prompt, the other objects, and whether clicks on those are necessary to distinguish it.

        The target is an object, a part of one, or a region outside them. Without such clicks the network would learn
        masks that stay close to the clicks.
        """
        chosen, kind = int(rng.integers(len(masks))), rng.random()
        target, others = masks[chosen], [m for i, m in enumerate(masks) if i != chosen]
        if wish.precise and kind < self.settings.pieces:
            part = piece_of(target, image, rng)
            if part.sum() >= LEAST_AREA and (target & ~part).sum() >= LEAST_AREA:
                return part, [target & ~part, *others], True
        elif wish.precise and kind < self.settings.pieces + self.settings.regions:
            region = region_of(image, np.any(masks, axis=0), rng)
            if 3 * LEAST_AREA <= region.sum() <= 0.4 * region.size:
                return region, masks, True
        return target, others, False


def outline_of(masks: Sequence[np.ndarray]) -> np.ndarray:
    """The pixels on both sides of the masks' borders, bool [H, W]."""
    kernel = np.ones((3, 3), np.uint8)
    edges = [cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0 for mask in masks]
    return np.any(edges, axis=0)


def _shows_an_object(video: Video) -> bool:
    return any(_visible_masks(video, t) for t in range(len(video.frame_names)))


def _usable_frames(video: Video) -> list[int]:
    """Frames in which an object is visible."""
    return [t for t in range(len(video.frame_names)) if _visible_masks(video, t)]


def _visible_masks(video: Video, frame: int) -> list[RLE]:
    """The masks of the objects that are visible in a frame."""
    rles = [item.segmentations[frame] for item in video.objects]
    return [rle for rle in rles if rle is not None and area(rle) >= LEAST_AREA]


def _read(video: Video, rng: np.random.Generator) -> ObjectScene:
    """A random frame with the masks of the objects visible in it."""
    for _ in range(MOST_DRAWS):
        t = int(rng.integers(len(video.frame_names)))
        if rles := _visible_masks(video, t):
            break
    else:
        # A long video with objects in very few frames.
        t = int(rng.choice(_usable_frames(video)))
        rles = _visible_masks(video, t)
    (image,) = video.opened_frames().read([t])
    return ObjectScene(image, [decode(rle) for rle in rles])


def collate(samples: Sequence[ClickSample]) -> dict[str, Tensor]:
    """Samples of one size -> the model's arguments."""
    k = len(samples[0].prompts)
    clicks = to_clicks([prompt for sample in samples for prompt in sample.prompts])

    def grouped(x: Tensor) -> Tensor:
        return x.unflatten(0, (len(samples), k))

    return {
        "pixel_values": torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2),
        "positive": grouped(clicks.positive),
        "positive_valid": grouped(clicks.valid),
        "positive_core": grouped(clicks.core),
        "negative": grouped(clicks.negative),
        "negative_valid": grouped(clicks.negative_valid),
        "trace": grouped(clicks.trace),
        "outlines": torch.from_numpy(np.stack([s.outline for s in samples])),
        "targets": torch.from_numpy(np.stack([s.masks for s in samples])),
    }


def _new(settings: ClickModelSettings) -> ClickNet:
    """A new network over a pre-trained or fresh backbone."""
    source = settings.backbone
    config: Any = source
    if isinstance(source, str):
        config = published_config(source)
        config = config.with_maps(STAGES) if isinstance(config, EfficientNetLiteConfig) else config
    # Statistics of a backbone that starts from random numbers have to be learned.
    norms = {"frozen_norms": isinstance(source, str)}
    try:
        model = ClickNet(ClickNetConfig(backbone=config, **norms | settings.sizes))
    except ValueError as error:
        raise UsageError(f"model.backbone: {error}") from error
    if isinstance(source, str):
        start_from(model.backbone, source)
    return model


def build_clicks(recipe: ClicksRecipe, opened: Mapping[Path, VngDataset]) -> Task:
    """Model, samples and saver of a recipe."""
    datasets = [source.open(opened) for source in recipe.data.sources]
    if recipe.model.init is not None:
        model = load_strictly(ClickNet, recipe.model.init)
    else:
        model = _new(recipe.model)
    model = channels_last(model)  # convolutions on CPUs are twice as fast

    def save(trained: nn.Module, folder: Path) -> None:
        assert isinstance(trained, ClickNet)
        trained.save_pretrained(folder)

    return Task(model, lambda length: ClickSampler(datasets, recipe.data, recipe.seed, length), collate, save)
