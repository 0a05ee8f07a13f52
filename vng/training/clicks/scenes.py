"""Images with objects to click on: frames of datasets, moved, recoloured, with further objects pasted into them.

Shapes: H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vng.training.clicks.recipe import SceneSettings

LEAST_AREA = 40  # pixels; smaller objects are not prompted
LEAST_SHARE = 0.3  # least visible share of an object behind another


@dataclass(frozen=True)
class ObjectScene:
    """One image and the visible masks of its objects."""

    image: np.ndarray  # uint8 [H, W, 3]
    masks: list[np.ndarray]  # bool [H, W] each


@dataclass(frozen=True)
class Turn:
    """How an object is turned that is pasted into a scene."""

    rotation: float = 20.0  # at most, degrees
    aspect: float = 0.12  # largest change of the logarithm of width over height
    flip: float = 0.5  # chance


GUEST = Turn()


def moved(scene: ObjectScene, settings: SceneSettings, rng: np.random.Generator) -> ObjectScene:
    """The scene scaled, rotated, mirrored and cropped to `settings.size`, with a point of one object in view."""
    target, size = scene.masks[int(rng.integers(len(scene.masks)))], settings.size
    scale = float(np.exp(rng.uniform(*np.log(settings.scale))))
    height, width = target.shape
    filling_scale = (size[0] * size[1] / target.sum()) ** 0.5
    # The object is neither tiny nor as large as the canvas.
    scale = min(max(scale, (LEAST_AREA * 4 / target.sum()) ** 0.5), 0.7 * filling_scale)
    scale = max(scale, 0.9 * min(size[0] / height, size[1] / width))
    rows, columns = np.nonzero(target)
    pick = int(rng.integers(len(rows)))
    focus = 0.5 * np.array([columns[pick], rows[pick]]) + 0.5 * np.array([columns.mean(), rows.mean()])
    matrix = _affine(focus, scale, settings, rng)
    canvas = np.array([size[1], size[0]])
    place = canvas * rng.uniform(0.25, 0.75, 2)
    corners = (np.array([[0, 0], [0, height], [width, 0], [width, height]]) - focus) @ matrix[:, :2].T
    high, low = -corners.min(0), canvas - corners.max(0)
    place = np.where(low <= high, np.clip(place, low, high), (low + high) / 2)  # show the frame, not its outside
    matrix[:, 2] = place - matrix[:, :2] @ focus
    return warped(scene, matrix, size)


def warped(scene: ObjectScene, matrix: np.ndarray, size: tuple[int, int]) -> ObjectScene:
    """The scene through an affine map [2, 3] onto a canvas of `size` (height, width)."""
    shape = (size[1], size[0])
    shrinks = abs(np.linalg.det(matrix[:, :2])) < 0.6
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    image = cv2.warpAffine(scene.image, matrix, shape, flags=interpolation, borderMode=cv2.BORDER_REPLICATE)
    masks = [cv2.warpAffine(m.astype(np.uint8) * 255, matrix, shape, flags=cv2.INTER_LINEAR) > 127 for m in scene.masks]
    return ObjectScene(image, masks)


def _affine(focus: np.ndarray, scale: float, change: SceneSettings | Turn, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(-change.rotation, change.rotation)
    matrix = cv2.getRotationMatrix2D((float(focus[0]), float(focus[1])), angle, scale)
    aspect = np.exp(rng.uniform(-change.aspect, change.aspect))
    mirror = -1.0 if rng.random() < change.flip else 1.0
    matrix[:, 0] *= mirror * aspect
    matrix[:, 1] = matrix[:, 1] / aspect
    return matrix


def beside(scene: ObjectScene, guest: ObjectScene, rng: np.random.Generator) -> ObjectScene:
    """The scene with `guest`'s first object pasted near one of its own; unchanged if that hides an object."""
    host, mask = scene.masks[int(rng.integers(len(scene.masks)))], guest.masks[0]
    if host.sum() < LEAST_AREA or mask.sum() < LEAST_AREA:
        return scene
    scale = float(np.clip((host.sum() / mask.sum()) ** 0.5 * np.exp(rng.uniform(-0.7, 0.5)), 0.3, 2.5))
    centre = _centre(mask)
    matrix = _affine(centre, scale, GUEST, rng)
    reach = (_extent(host) + scale * _extent(mask)) / 2
    angle = rng.uniform(0, 2 * np.pi)
    offset = np.array([np.cos(angle), np.sin(angle)]) * reach * rng.uniform(0.35, 1.05)
    matrix[:, 2] = _centre(host) + offset - matrix[:, :2] @ centre
    placed = warped(ObjectScene(guest.image, [mask]), matrix, (host.shape[0], host.shape[1]))
    visible = placed.masks[0]
    if rng.random() < 0.4:  # behind
        visible = visible & ~np.any(scene.masks, axis=0)
    kept = [m & ~visible for m in scene.masks]
    hidden = any(k.sum() < LEAST_SHARE * m.sum() for k, m in zip(kept, scene.masks, strict=True))
    if hidden or visible.sum() < LEAST_AREA:
        return scene
    alpha = cv2.GaussianBlur(visible.astype(np.float32), (0, 0), rng.uniform(0.4, 0.9))[..., None]
    image = scene.image + alpha * (placed.image.astype(np.float32) - scene.image)
    return ObjectScene(np.rint(image).astype(np.uint8), [*kept, visible])


def _centre(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


def _extent(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([np.ptp(columns) + 1.0, np.ptp(rows) + 1.0])


def recoloured(image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """An image, uint8 [H, W, 3], in other light: contrast, gamma, saturation, hue; sometimes grey, blurred or noisy."""
    values = np.arange(256, dtype=np.float32) / 255
    gamma, gain = np.exp(rng.normal(0, 0.2 * strength)), np.exp(rng.normal(0, 0.08 * strength, 3))
    contrast, shift = np.exp(rng.normal(0, 0.2 * strength)), rng.normal(0, 0.07 * strength)
    curves = (values[:, None] ** gamma * gain - 0.5) * contrast + 0.5 + shift
    image = cv2.LUT(image, np.rint(np.clip(curves, 0, 1) * 255).astype(np.uint8)[:, None])
    saturation = 0.0 if rng.random() < 0.05 * strength else np.exp(rng.normal(0, 0.3 * strength))
    grey = np.full((3, 3), 1 / 3)
    turn = np.roll(np.eye(3), int(rng.integers(1, 3)), 0) if rng.random() < 0.1 * strength else np.eye(3)
    image = cv2.transform(image, (saturation * (np.eye(3) - grey) + grey) @ turn)
    if rng.random() < 0.15 * strength:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < 0.15 * strength:
        noise = rng.integers(-1, 2, image.shape, dtype=np.int8) * np.int16(rng.integers(2, 9))
        image = np.clip(image.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return image
