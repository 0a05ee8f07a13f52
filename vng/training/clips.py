"""Training samples of the grounder: a clip, a narrative and all its expressions.

Sample i of a run depends on (seed, i) alone, so a resumed run sees exactly the samples an uninterrupted one would.
Shapes: T frames, N expressions, H x W pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vng.dataset import Video, VngDataset
from vng.errors import DataError
from vng.masks import decode, resize
from vng.models.referformer.processing_referformer import ReferFormerProcessor
from vng.narratives import mirror
from vng.training.settings import DataSettings

CACHED_VIDEOS = 256


@dataclass(frozen=True)
class Clip:
    """One sample, at the size the processor gives it."""

    pixels: Tensor  # float [T, 3, H, W]
    narrative: str
    spans: tuple[tuple[int, int], ...]  # length N
    masks: Tensor  # bool [N, T, H, W]
    annotated: Tensor  # bool [N, T]; False trains nothing
    weight: Tensor  # float [N]

    def __post_init__(self) -> None:
        n, (t, _, h, w) = len(self.spans), self.pixels.shape
        if tuple(self.masks.shape) != (n, t, h, w) or tuple(self.annotated.shape) != (n, t):
            raise ValueError(f"clip: masks {list(self.masks.shape)}, expected {[n, t, h, w]}")


class ClipSampler(Dataset):
    """`length` random clips of a dataset; item i is drawn with the generator (seed, i)."""

    def __init__(
        self, dataset: VngDataset, settings: DataSettings, processor: ReferFormerProcessor, seed: int, length: int
    ) -> None:
        self.dataset, self.settings, self.processor = dataset, settings, processor
        self.seed, self.length = seed, length
        self._cache: OrderedDict[int, Video] = OrderedDict()
        self._videos = [i for i, count in enumerate(dataset.expression_counts) if count]
        if not self._videos:
            raise DataError(dataset.path, "", "expressions", "no video of this dataset has an expression to train on")

    def __len__(self) -> int:
        return self.length

    def _video(self, index: int) -> Video:
        if index not in self._cache:
            self._cache[index] = self.dataset[index]
            if len(self._cache) > CACHED_VIDEOS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(index)
        return self._cache[index]

    def __getitem__(self, index: int) -> Clip:
        rng = np.random.default_rng([self.seed, index])
        for choice in rng.permutation(len(self._videos)):  # the first that has something to train on
            clip = self._draw(self._video(self._videos[int(choice)]), rng)
            if clip is not None:
                return clip
        reason = "no video has an annotated expression"
        if self.settings.min_agreement:
            reason += f" with a point agreement of {self.settings.min_agreement} or more"
        raise DataError(
            self.dataset.path, "", "segmentations", reason, "lower data.min_agreement, or check the dataset"
        )

    def _draw(self, video: Video, rng: np.random.Generator) -> Clip | None:
        trusted = {item.object_id for item in video.objects if _agreement(item) >= self.settings.min_agreement}
        usable = [e for e in video.expressions if e.object_id in trusted]
        if not usable:
            return None
        narrative = int(rng.choice(sorted({e.narrative for e in usable})))
        expressions = [e for e in usable if e.narrative == narrative]
        rles = [video.object_by_id[e.object_id].segmentations for e in expressions]
        annotated = np.array([[rle is not None for rle in row] for row in rles])  # [N, frames of the video]
        candidates = np.flatnonzero(annotated.any(0))
        if not len(candidates):
            return None
        chosen = sample_frames(candidates, self.settings.frames, self.settings.max_skip, rng)
        frames = video.opened_frames()
        pixels = self.processor.frames(frames[int(i)] for i in chosen)
        size = (int(pixels.shape[2]), int(pixels.shape[3]))
        masks = np.zeros((len(rles), len(chosen), *size), bool)
        for n, row in enumerate(rles):
            for t, i in enumerate(chosen):
                rle = row[i]
                if rle is not None:
                    masks[n, t] = resize(decode(rle), *size)
        text, spans = video.narratives[narrative].description, [(e.start, e.end) for e in expressions]
        truth = torch.from_numpy(masks)
        if rng.random() < self.settings.flip:
            pixels, truth = pixels.flip(-1), truth.flip(-1)
            text, spans = mirror(text, spans)
        known = torch.from_numpy(annotated[:, chosen])
        return Clip(pixels, text, tuple(spans), truth, known, torch.ones(len(rles)))


def _agreement(item: Any) -> float:
    return 1.0 if item.quality.point_agreement is None else item.quality.point_agreement


def sample_frames(candidates: np.ndarray, count: int, max_skip: int, rng: np.random.Generator) -> np.ndarray:
    """ReferFormer's clip: a random frame, one before and one after it within `max_skip`, the rest from anywhere.

    Args:
        candidates: int [F], the frames to choose from, ascending.

    Returns:
        int [count], ascending; frames repeat when there are too few.
    """
    middle = int(rng.integers(len(candidates)))
    chosen = [middle]
    if count > 1:
        chosen.append(max(0, middle - int(rng.integers(1, max_skip + 1))))
    if count > 2:
        chosen.append(min(len(candidates) - 1, middle + int(rng.integers(1, max_skip + 1))))
    rest = np.setdiff1d(np.arange(len(candidates)), chosen)
    missing = count - len(chosen)
    if missing > 0:
        pool = rest if len(rest) >= missing else np.arange(len(candidates))
        chosen += rng.choice(pool, size=missing, replace=len(pool) < missing).tolist()
    return candidates[np.sort(chosen[:count])]


class Collator:
    """Clips -> one padded batch of the model's arguments."""

    def __init__(self, processor: ReferFormerProcessor) -> None:
        self.processor = processor

    def __call__(self, clips: Sequence[Clip]) -> dict[str, Tensor]:
        batch = self.processor.pad([clip.pixels for clip in clips])
        batch |= self.processor.text([clip.narrative for clip in clips], [clip.spans for clip in clips])
        b, n = batch["noun_tokens"].shape[:2]
        t, (h, w) = clips[0].pixels.shape[0], batch["pixel_values"].shape[-2:]
        masks = torch.zeros(b, n, t, h, w, dtype=torch.bool)
        annotated = torch.zeros(b, n, t, dtype=torch.bool)
        weight = torch.zeros(b, n)
        for i, clip in enumerate(clips):
            k, _, height, width = clip.masks.shape
            masks[i, :k, :, :height, :width] = clip.masks
            annotated[i, :k] = clip.annotated
            weight[i, :k] = clip.weight
        return batch | {"target_masks": masks, "target_annotated": annotated, "target_weight": weight}
