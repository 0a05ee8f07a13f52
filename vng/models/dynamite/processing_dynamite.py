"""DynaMITe's input from images and training samples, and its masks at the size of the image.

Shapes: K objects, H x W image, H' x W' scaled image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vng.models.dynamite.clicks import Prompts, Trace
from vng.models.dynamite.configuration_dynamite import DynamiteConfig
from vng.models.fit import Fit
from vng.points import Click

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
STRIDE = 32


class InputFit(Fit):
    """An image in the model's input: scaled, then padded with zeros below and to the right."""

    @staticmethod
    def of(image: np.ndarray, config: DynamiteConfig) -> InputFit:
        """The fit of an image: short side `short_side`, or less if the long one would exceed `long_side`."""
        height, width = image.shape[:2]
        scale = 1.0
        if config.short_side:
            scale = min(config.short_side / min(height, width), config.long_side / max(height, width))
        return InputFit(height, width, max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))

    @property
    def padded(self) -> tuple[int, int]:
        """Sides of the model's input, multiples of 32."""
        height, width = (-(-side // STRIDE) * STRIDE for side in (self.rows, self.columns))
        return height, max(width, 2 * STRIDE)  # group norm requires more than one pixel at stride 32

    def places(self, xy: np.ndarray) -> np.ndarray:
        """Pixels (x, y) of the image, [P, 2] -> (y, x) of the input, float32 [P, 2]; points outside move to the edge.

        Without half-pixel shifts, as in the authors' program.
        """
        image, scaled = (np.array(size, np.float32) for size in ((self.height, self.width), (self.rows, self.columns)))
        return np.clip(np.asarray(xy, np.float32)[:, ::-1], 0, image - 1) * (scaled / image)

    def pixel_values(self, image: np.ndarray) -> Tensor:
        """RGB uint8 [H, W, 3] -> float [1, 3, h, w], scaled, normalised, padded with zeros below and to the right."""
        return _padded(_normalised(self.scale(image)), self.padded)[None]


@dataclass(frozen=True)
class TrainingSample:
    """One training image, scaled and cropped already, with the chosen objects (`training_masks`)."""

    image: np.ndarray  # uint8 [H, W, 3]
    masks: np.ndarray  # bool [K, H, W], K >= 1, without overlaps
    clicks: tuple[Click | Trace, ...]  # see `initial_clicks`; every object has one at least
    seed: int = 0  # of its corrective rounds and of the points at which its loss is read

    def __post_init__(self) -> None:
        if self.masks.shape[1:] != self.image.shape[:2]:
            raise ValueError(f"masks {list(self.masks.shape)} do not fit an image {list(self.image.shape)}")
        without_clicks = set(range(len(self.masks))) - {click.owner for click in self.clicks}
        if not len(self.masks) or without_clicks:
            raise ValueError(
                f"{len(self.masks)} masks, without clicks: {sorted(without_clicks)}; every object needs one"
            )


def batch_of(samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
    """Arguments of `DynamiteModel.forward` for images of any sizes, padded to the largest."""
    fits = [InputFit(*s.image.shape[:2], *s.image.shape[:2]).padded for s in samples]
    height, width = (max(sides) for sides in zip(*fits, strict=True))
    most = max(len(s.masks) for s in samples)
    masks = torch.zeros(len(samples), most, height, width, dtype=torch.bool)
    inside = torch.zeros(len(samples), height, width, dtype=torch.bool)
    valid = torch.zeros(len(samples), most, dtype=torch.bool)
    for b, sample in enumerate(samples):
        rows, columns = sample.image.shape[:2]
        masks[b, : len(sample.masks), :rows, :columns] = torch.from_numpy(np.asarray(sample.masks, bool))
        inside[b, :rows, :columns], valid[b, : len(sample.masks)] = True, True
    prompts = Prompts.of([sample.clicks for sample in samples])
    return {
        "pixel_values": torch.stack([_padded(_normalised(s.image), (height, width)) for s in samples]),
        "pixel_mask": inside,
        "points": prompts.points,
        "times": prompts.times,
        "owners": prompts.owners,
        "traced": prompts.traced,
        "target_masks": masks,
        "target_valid": valid,
        "seeds": torch.tensor([sample.seed for sample in samples]),
    }


def _normalised(image: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> float [3, H, W]."""
    return ((torch.from_numpy(image).float() - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)


def _padded(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Zeros below and to the right."""
    return F.pad(pixels, (0, size[1] - pixels.shape[2], 0, size[0] - pixels.shape[1]))


def probabilities(logits: Tensor) -> Tensor:
    """Probability of each object at each pixel: logits [K + 1, H, W], the background last -> float [K, H, W] in [0, 1].

    DynaMITe decides by arg-max over objects and background. An object's probability is the logistic function of its
    lead over the best of the others, which exceeds 0.5 exactly where the object wins; masks above 0.5 never overlap. (A
    softmax over all
    would not: of three candidates the best may have 0.4.)
    """
    best, second = logits.topk(2, 0).values
    first = logits.argmax(0) == torch.arange(len(logits) - 1, device=logits.device)[:, None, None]
    rival = torch.where(first, second, best)
    half = torch.tensor(0.5)
    lead = (logits[:-1] - rival).nan_to_num(nan=-torch.inf).sigmoid()
    return torch.where(first, lead.clamp(min=float(torch.nextafter(half, half + 1))), lead.clamp(max=0.5))
