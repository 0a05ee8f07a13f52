"""Change of light and colours of a frame: brightness, contrast, saturation and hue, as in torchvision's ColorJitter."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

TO_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601-2, as Pillow


@dataclass(frozen=True)
class Light:
    """The largest changes: factors lie in 1 - x to 1 + x, hue is a share of the circle, `grey` a chance."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    grey: float = 0.0

    def change(self, image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
        """RGB uint8 [H, W, 3] in another light; the changes come in random order, each at most `strength` times these."""
        values = image.astype(np.float32)
        most = np.array([self.brightness, self.contrast, self.saturation, self.hue]) * strength
        amounts = rng.uniform(-1, 1, 4) * most
        for kind in rng.permutation(4):
            if not most[kind]:
                continue
            factor = np.float32(1 + amounts[kind])
            if kind == 0:
                values = values * factor
            elif kind == 1:
                values = values * factor + (1 - factor) * np.float32((values @ TO_GREY).mean())
            elif kind == 2:
                values = values * factor + (1 - factor) * (values @ TO_GREY)[..., None]
            else:
                values = _turned(values, float(amounts[3]))
            values = np.clip(values, 0, 255)
        if rng.random() < self.grey * strength:
            values = np.repeat((values @ TO_GREY)[..., None], 3, 2)
        return np.rint(values).astype(np.uint8)


def _turned(values: np.ndarray, share: float) -> np.ndarray:
    hsv = cv2.cvtColor(values, cv2.COLOR_RGB2HSV)  # hue in degrees
    hsv[..., 0] = (hsv[..., 0] + 360 * share) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
