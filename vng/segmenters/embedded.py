"""The default segmenter: ClickNet with small weights that ship with the package.

The image is scaled to about 240 x 432 pixels, or to 336 x 600 where every object has `FINE_CLICKS` or more, and encoded
once; each object takes one pass of a light head; see `vng.models.clicknet`. With few clicks the network has to tell what
the thing is, which it does best at the size of its training; with many, the outline is what is left to find.
Training data and scores: `vng/segmenters/weights/embedded/README.md`.
Shapes: H x W image, K objects, N of them with positives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vng.errors import one_of
from vng.models.clicknet.modeling_clicknet import STRIDE, ClickNet
from vng.models.clicknet.processing_clicknet import to_clicks
from vng.models.fit import Fit
from vng.models.loading import fingerprint, load_strictly, shipped_weights
from vng.points import OTHERS, PointPrompts
from vng.segmenters import Segmenter

WORK_AREA = 240 * 432  # approximate number of pixels of the network's input, as in its training
FINE_AREA = 336 * 600  # the same where every object has many clicks
FINE_CLICKS = 3  # positive ones
MOST_GROWTH = 2.0  # maximum factor by which smaller images are enlarged
ENLARGED = 1.4  # scale of the additional encoding of the enlarged image; at the fine size there is none


@dataclass(frozen=True)
class EmbeddedSettings:
    """Settings of the engine; raises UsageError for an unknown value."""

    negatives_of_others: str = "points"  # other objects' positives as negatives: "points" (except traces) or "never"

    def __post_init__(self) -> None:
        one_of(self.negatives_of_others, OTHERS, "negatives_of_others")


class EmbeddedSegmenter(Segmenter):
    """The ClickNet segmenter; see `vng.segmenters.Segmenter` for the call.

    Args:
        checkpoint: a folder written by `vng train` with a recipe of the task "clicks"; None: the shipped weights.
        settings: None: the defaults.

    Raises:
        DataError: there is no checkpoint, or its weights do not fit (listed by name).
    """

    takes_boxes = False

    def __init__(self, checkpoint: str | None = None, settings: EmbeddedSettings | None = None) -> None:
        self._take(load_strictly(ClickNet, shipped_weights("embedded") if checkpoint is None else checkpoint), settings)

    @classmethod
    def of_model(cls, model: ClickNet, settings: EmbeddedSettings | None = None) -> EmbeddedSegmenter:
        """The engine of a loaded model, which stays as it is."""
        engine = cls.__new__(cls)
        engine._take(deepcopy(model), settings)
        return engine

    def _take(self, model: ClickNet, settings: EmbeddedSettings | None) -> None:
        self.settings = settings or EmbeddedSettings()
        self.fingerprint = fingerprint(model)
        # The shipped weights are in half precision, in which CPUs are seven times slower.
        self.model = model.cpu().float().fused()

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """image uint8 [H, W, 3], K prompts -> float32 [K, H, W]; an object without positives gets zeros."""
        return self.encoded(image)(prompts)

    def encoded(self, image: np.ndarray) -> Callable[[Sequence[PointPrompts]], np.ndarray]:
        """See `Segmenter.encoded`."""
        height, width = image.shape[:2]
        large = height * width >= WORK_AREA / 2  # smaller images gain little from a second encoding

        @cache
        def look(fine: bool) -> tuple[View, Any]:
            view = View.of(height, width, FINE_AREA if fine else WORK_AREA)
            return view, self.model.encode(view.apply(image), enlarged=ENLARGED if large and not fine else 1.0)

        return lambda prompts: self._segmented(look, (height, width), prompts)

    @torch.inference_mode()
    def _segmented(
        self, look: Callable[[bool], tuple[View, Any]], size: tuple[int, int], prompts: Sequence[PointPrompts]
    ) -> np.ndarray:
        result = np.empty((len(prompts), *size), np.float32)
        for k, prompt in enumerate(prompts):
            if not len(prompt.positive):
                result[k] = 0
        prompted = [k for k, prompt in enumerate(prompts) if len(prompt.positive)]
        if not prompted:
            return result
        fine = all(len(prompts[k].positive) >= FINE_CLICKS and not prompts[k].trace for k in prompted)
        view, scene = look(fine)
        clicks = to_clicks([view.move(prompts[k]) for k in prompted])
        logits, _ = self.model.decode(scene, clicks, self.settings.negatives_of_others == "points")
        for k, probability in zip(prompted, logits.float().sigmoid().numpy(), strict=True):
            view.restore(probability, result[k])
        return result


class View(Fit):
    """The mapping from an image to the network's input: scaled, then padded by repeating the last pixels."""

    @staticmethod
    def of(height: int, width: int, area: int = WORK_AREA) -> View:
        """The view of an image of height x width pixels in about `area` pixels."""
        scale = min(MOST_GROWTH, (area / (height * width)) ** 0.5)
        if 0.95 < scale < 1.05:
            scale = 1.0
        return View(height, width, *Fit.scaled_size(height, width, scale))

    def apply(self, image: np.ndarray) -> Tensor:
        """uint8 [H, W, 3] -> uint8 [1, 3, h, w], both padded to multiples of `STRIDE`."""
        below, right = -self.rows % STRIDE, -self.columns % STRIDE
        image = np.pad(self.scale(image), ((0, below), (0, right), (0, 0)), mode="edge")
        return torch.from_numpy(image).permute(2, 0, 1)[None]

    def move(self, prompt: PointPrompts) -> PointPrompts:
        """A prompt in pixels of the view; pixel centres are at integer coordinates."""
        return replace(prompt, positive=self.scale_points(prompt.positive), negative=self.scale_points(prompt.negative))

    def restore(self, mask: np.ndarray, into: np.ndarray) -> None:
        """float32 [padded h, w] -> float32 [H, W], written in place, as copies at full size are slow."""
        self.unscale(mask[: self.rows, : self.columns], into)
