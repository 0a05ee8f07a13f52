"""The views of frames in the grounder's training clips, and their light: ReferFormer's augmentation.

ReferFormer (released program): the frame at a random size, or, half of the time, a random piece of it scaled to such a
size; mirrored half of the time; light and colours changed frame by frame. A view is one affine map (`warps`), so that
masks and points move with the pixels.
Shapes: T frames, H x W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from vng.models.referformer.processing_referformer import ReferFormerProcessor
from vng.training.grounding.recipe import DataSettings
from vng.training.warps import Warp, affine, enlarged, flip

BRIGHTNESS = 32.0  # largest change, grey levels
CONTRAST = SATURATION = 0.5  # factors lie in 1 - this to 1 + this
HUE = 18.0  # largest rotation, degrees


def whole_frame(
    frame: tuple[int, int], settings: DataSettings, processor: ReferFormerProcessor, rng: np.random.Generator
) -> Warp:
    """The whole frame (height, width) at one of the sizes the settings allow."""
    size = _size(frame, settings.short_sides, processor, rng, settings.whole_long_side)
    return Warp(enlarged(np.zeros(2), np.array(frame[::-1], float), size)[:2], size)


def piece(
    frame: tuple[int, int], settings: DataSettings, processor: ReferFormerProcessor, rng: np.random.Generator
) -> Warp:
    """A random piece of the frame (height, width) at one of the sizes the settings allow."""
    scale = rng.choice(settings.crop_short_sides) / min(frame)
    least, most = settings.crop_sides
    sides = np.array(frame[::-1]) * scale  # (width, height)
    chosen = np.array([rng.uniform(min(least, side), min(most, side)) for side in sides]) / scale
    corner = rng.uniform(0, 1, 2) * (np.array(frame[::-1]) - chosen)
    width, height = np.maximum(1, np.rint(chosen)).astype(int)
    size = _size((int(height), int(width)), settings.piece_short_sides or settings.short_sides, processor, rng)
    return Warp(enlarged(corner, chosen, size)[:2], size)


def _size(
    shown: tuple[int, int],
    sides: tuple[int, ...],
    processor: ReferFormerProcessor,
    rng: np.random.Generator,
    long_side: int | None = None,
) -> tuple[int, int]:
    return processor.target_size(*shown, int(rng.choice(sides)) if sides else None, long_side)


def mirrored(warp: Warp) -> Warp:
    """The view with left and right exchanged."""
    return Warp((flip(warp.size) @ np.vstack([warp.matrix, (0, 0, 1)]))[:2], warp.size)


def moved(warp: Warp, settings: DataSettings, rng: np.random.Generator) -> Warp:
    """The view of a still's next frame: rotated, sheared and scaled a little about its middle."""
    own = affine(warp.size, rng, settings.degrees, settings.still_scale, settings.shear)
    return Warp((own @ np.vstack([warp.matrix, (0, 0, 1)]))[:2], warp.size)


def distorted(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """The image with other light and colours, each of five changes half of the time; uint8 RGB [H, W, 3].

    Brightness, contrast (before or after the colours), saturation, hue, and the order of the channels, as in
    ReferFormer's program; values outside the range are clipped here, whereas they wrap around there.

    Args:
        strength: in [0, 1], of all changes; 1 is ReferFormer's.
    """
    values = image.astype(np.float32)
    if rng.random() < 0.5:
        values += np.float32(rng.uniform(-BRIGHTNESS, BRIGHTNESS) * strength)
    contrast = 1 + rng.uniform(-CONTRAST, CONTRAST) * strength if rng.random() < 0.5 else 1.0
    early = rng.random() < 0.5
    values = np.clip(values * contrast if early else values, 0, 255, dtype=np.float32)
    hsv = cv2.cvtColor(values, cv2.COLOR_RGB2HSV)  # hue in degrees, saturation in [0, 1], value in [0, 255]
    if rng.random() < 0.5:
        hsv[..., 1] = np.clip(hsv[..., 1] * (1 + rng.uniform(-SATURATION, SATURATION) * strength), 0, 1)
    if rng.random() < 0.5:
        hsv[..., 0] = (hsv[..., 0] + rng.uniform(-HUE, HUE) * strength) % 360
    values = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not early:
        values = values * contrast
    if rng.random() < 0.5 * strength:
        values = values[..., rng.permutation(3)]
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
