"""Baseline segmenters: a seeded watershed, and networks of full size with random weights (for speed only)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from vng.points import PointPrompts
from vng.segmenters import ENGINES, Segmenter, load

# "sam2-random" is the engine "sam2" with random weights
RANDOM = "-random"


class Watershed:
    """Watershed on the Lab gradient, seeded with the points: a baseline of ten lines of OpenCV."""

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """The masks of all objects, as in `vng.segmenters.Segmenter`; probabilities are 0 or 1."""
        if not prompts:
            return np.zeros((0, *image.shape[:2]), np.float32)
        lab = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 1.0), cv2.COLOR_RGB2Lab)
        slopes = [np.hypot(cv2.Sobel(c, cv2.CV_32F, 1, 0), cv2.Sobel(c, cv2.CV_32F, 0, 1)) for c in cv2.split(lab)]
        gradient = np.max(slopes, 0)
        relief = cv2.cvtColor(np.clip(gradient, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
        return np.stack([self._mask(relief, prompt) for prompt in prompts])

    @staticmethod
    def _mask(relief: np.ndarray, prompt: PointPrompts) -> np.ndarray:
        """The mask of one object, float32 [H, W]; without negatives, the image border is background."""
        markers = np.zeros(relief.shape[:2], np.int32)
        for value, points in ((1, prompt.negative), (2, prompt.positive)):
            for x, y in np.rint(points).astype(int):
                cv2.circle(markers, (int(x), int(y)), 2, value, -1)
        if not len(prompt.negative):
            markers[[0, -1]], markers[:, [0, -1]] = 1, 1
        return (cv2.watershed(relief, markers) == 2).astype(np.float32)


def make_segmenter(name: str) -> Segmenter:
    """The segmenter of a name: "classical", "sam2=CHECKPOINT", "watershed", or "sam2-random" with random weights."""
    engine, _, checkpoint = name.partition("=")
    if engine == "watershed":
        return Watershed()
    if engine in ENGINES:
        return load(engine, **({"checkpoint": checkpoint} if checkpoint else {}))
    with tempfile.TemporaryDirectory() as folder:
        _random_model(name.removesuffix(RANDOM)).save_pretrained(folder)
        return load(name.removesuffix(RANDOM), checkpoint=folder)


def _random_model(name: str) -> Any:
    """A network of the published size with random weights (torch seed 0)."""
    import torch

    torch.manual_seed(0)
    if name == "dynamite":
        from vng.models.dynamite.configuration_dynamite import DynamiteConfig
        from vng.models.dynamite.modeling_dynamite import DynamiteModel

        return DynamiteModel(DynamiteConfig.resnet50())
    from transformers import Sam2Config, Sam2Model

    return Sam2Model(Sam2Config())
