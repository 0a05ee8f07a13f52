"""The segmenter that needs nothing: ClickNet with small weights that ship with the package.

The image is brought to about 240 x 432 pixels, encoded once, and each object costs a light head; see
`vng.models.clicknet`. What it was trained on and what it reaches: `vng/segmenters/weights/embedded/README.md`.
Shapes: H x W image, K objects, N of them with positives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vng.errors import one_of
from vng.models.clicknet.modeling_clicknet import STRIDE, ClickNet
from vng.models.clicknet.processing_clicknet import to_clicks
from vng.models.fit import Fit
from vng.models.loading import fingerprint, load_strictly
from vng.points import OTHERS, PointPrompts

SHIPPED = Path(__file__).resolve().parent / "weights" / "embedded"
WORK_AREA = 240 * 432  # pixels the network sees, about; it was trained on frames of this size
MOST_GROWTH = 2.0  # smaller images grow by this factor at the most
ENLARGED = 1.4  # of the last look at the image


@dataclass(frozen=True)
class EmbeddedSettings:
    """How the engine is asked; raises UsageError for a value that does not exist."""

    negatives_of_others: str = "points"  # other objects' positives as negatives, but for traces: "points" or "never"

    def __post_init__(self) -> None:
        one_of(self.negatives_of_others, OTHERS, "negatives_of_others")


class EmbeddedSegmenter:
    """The segmenter above, as an engine; see `vng.segmenters.Segmenter` for the call.

    Args:
        checkpoint: a folder that `vng train` wrote with a recipe of the task "clicks"; None takes the shipped weights.
        settings: how it is asked.

    Raises:
        DataError: no checkpoint there, or one whose weights do not fit, with their names.
    """

    def __init__(self, checkpoint: str | None = None, settings: EmbeddedSettings | None = None) -> None:
        self.settings = settings or EmbeddedSettings()
        model = load_strictly(ClickNet, SHIPPED if checkpoint is None else checkpoint)
        self.fingerprint = fingerprint(model)
        # The shipped file is in half precision, in which CPUs compute seven times as slowly.
        self.model = model.float().fused()

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """image uint8 [H, W, 3], K prompts -> float32 [K, H, W]; an object without positives gets zeros."""
        height, width = image.shape[:2]
        result = np.empty((len(prompts), height, width), np.float32)
        for k, prompt in enumerate(prompts):
            if not len(prompt.positive):
                result[k] = 0
        known = [k for k, prompt in enumerate(prompts) if len(prompt.positive)]
        if not known:
            return result
        view = View.of(height, width)
        again = height * width >= WORK_AREA / 2  # a small image has little to see at a second look
        scene = self.model.encode(view.apply(image), mirrored=again, enlarged=ENLARGED if again else 1.0)
        clicks = to_clicks([view.move(prompts[k]) for k in known])
        logits, _ = self.model.decode(scene, clicks, self.settings.negatives_of_others == "points")
        for k, probability in zip(known, logits.float().sigmoid().numpy(), strict=True):
            view.restore(probability, result[k])
        return result


class View(Fit):
    """How an image is brought to the size the network sees: scaled, then padded by repeating its last pixels."""

    @staticmethod
    def of(height: int, width: int) -> View:
        """The view of an image of height x width pixels."""
        scale = min(MOST_GROWTH, (WORK_AREA / (height * width)) ** 0.5)
        if 0.95 < scale < 1.05:
            scale = 1.0
        return View(height, width, *Fit.scaled_size(height, width, scale))

    def apply(self, image: np.ndarray) -> Tensor:
        """uint8 [H, W, 3] -> uint8 [1, 3, h, w], both padded to multiples of `STRIDE`."""
        below, right = -self.rows % STRIDE, -self.columns % STRIDE
        image = np.pad(self.scale(image), ((0, below), (0, right), (0, 0)), mode="edge")
        return torch.from_numpy(image).permute(2, 0, 1)[None]

    def move(self, prompt: PointPrompts) -> PointPrompts:
        """A prompt in pixels of the view; pixel centres are whole numbers."""
        return replace(prompt, positive=self.scale_points(prompt.positive), negative=self.scale_points(prompt.negative))

    def restore(self, mask: np.ndarray, into: np.ndarray) -> None:
        """float32 [padded h, w] -> float32 [H, W], written in place: at full size copies are what takes time."""
        self.unscale(mask[: self.rows, : self.columns], into)
