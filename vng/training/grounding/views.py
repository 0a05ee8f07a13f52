"""What a training clip of the grounder shows of its frames, and in which light: ReferFormer's augmentation.

ReferFormer (released program): the frame at a random size, or, every other time, a random piece of it brought to such a size;
mirrored every other time; light and colours changed frame by frame. All of a view is one affine map (`clip_motion`), so
that masks and points move with the pixels.
Shapes: T frames, H x W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from vng.models.referformer.processing_referformer import ReferFormerProcessor
from vng.training.grounding.recipe import DataSettings
from vng.training.warps import Warp, affine, enlarged, flip

BRIGHTNESS = 32.0  # most that is added, grey levels
CONTRAST = SATURATION = 0.5  # factors lie in 1 - this to 1 + this
HUE = 18.0  # most turn, degrees


def whole_frame(
    frame: tuple[int, int], settings: DataSettings, processor: ReferFormerProcessor, rng: np.random.Generator
) -> Warp:
    """The whole frame (height, width) at one of the sizes the settings allow."""
    size = _size(frame, settings, processor, rng)
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
    size = _size((int(height), int(width)), settings, processor, rng)
    return Warp(enlarged(corner, chosen, size)[:2], size)


def _size(
    shown: tuple[int, int], settings: DataSettings, processor: ReferFormerProcessor, rng: np.random.Generator
) -> tuple[int, int]:
    sides = settings.short_sides
    return processor.target_size(*shown, short_side=int(rng.choice(sides)) if sides else None)


def mirrored(warp: Warp) -> Warp:
    """The view with left and right exchanged."""
    return Warp((flip(warp.size) @ np.vstack([warp.matrix, (0, 0, 1)]))[:2], warp.size)


def moved(warp: Warp, settings: DataSettings, rng: np.random.Generator) -> Warp:
    """A view of a still's next frame: turned, sheared and scaled a little about its middle."""
    own = affine(warp.size, rng, settings.degrees, settings.still_scale, settings.shear)
    return Warp((own @ np.vstack([warp.matrix, (0, 0, 1)]))[:2], warp.size)


def distorted(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Another light and other colours, each of five changes every other time; uint8 RGB [H, W, 3].

    Brightness, contrast (before or after the colours), saturation, hue, and the order of the channels, as ReferFormer's
    program has them; what leaves the range is clipped here, where it wraps round there.

    Args:
        strength: in [0, 1], of all changes; 1 is ReferFormer's.
    """
    values = image.astype(np.float32)
    if rng.random() < 0.5:
        values += np.float32(rng.uniform(-BRIGHTNESS, BRIGHTNESS) * strength)
    contrast = 1 + rng.uniform(-CONTRAST, CONTRAST) * strength if rng.random() < 0.5 else 1.0
    early = rng.random() < 0.5
    values = np.clip(values * contrast if early else values, 0, 255, dtype=np.float32)
    hsv = cv2.cvtColor(values, cv2.COLOR_RGB2HSV)  # degrees, [0, 1], as given
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
