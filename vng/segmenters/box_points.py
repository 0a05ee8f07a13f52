"""Points that stand for a box, for segmenters that take no boxes.

The middle of a box is on its thing, the surroundings are not. But the middle may lie off the thing (a crescent, a ring): where
GrabCut (Rother et al., SIGGRAPH 2004, in OpenCV), which parts the box by colour, says so, the points lie deep inside what
it takes for the thing. `python -m benchmarks.zero_shot --figure boxes` measures both.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from vng.masks import depth
from vng.points import PointPrompts, medoids
from vng.segmenters import Segmenter

BEYOND = 1.25  # of half a box: where the points around it lie, from its middle
INSIDE = 3  # points on a thing that its box's middle is off
AROUND = 0.5  # of a box's sides, shown to GrabCut around it
ROUNDS = 3  # of GrabCut
DEEP = 0.4  # of the greatest depth, from which on a pixel is inside
MOST_PIXELS = 200  # from which points are chosen
FIRST_SEED = 0  # of GrabCut's clustering, so that results can be had again


def boxed(prompt: PointPrompts, box: np.ndarray, segmenter: Segmenter, image: np.ndarray) -> PointPrompts:
    """A prompt with a box; for an engine that takes none, with the points that stand for it.

    Where the prompt has positives, these say where the thing is, and only the points around the box are added.

    Args:
        prompt: of one object.
        box: (x0, y0, x1, y1), as in `PointPrompts`.
        segmenter: the engine that will be asked.
        image: uint8 [H, W, 3].
    """
    if segmenter.takes_boxes:
        return replace(prompt, box=box)
    positive = prompt.positive if len(prompt.positive) else points_inside(image, box)
    negative = np.concatenate([prompt.negative, points_around(box, *image.shape[:2])])
    return replace(prompt, positive=positive, negative=negative)


def points_inside(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Points float32 [P, 2] on the thing in a box of an image: the box's middle, or where that is off it a few others."""
    x, y = (box[:2] + box[2:]) / 2
    parted = parted_by_colour(image, box)
    if not parted.any() or parted[int(y), int(x)]:
        return np.array([[x, y]], np.float32)
    deep = depth(parted)
    pixels = np.argwhere(deep >= max(1.0, DEEP * float(deep.max())))[:, ::-1].astype(np.float32)
    return medoids(pixels[:: max(1, len(pixels) // MOST_PIXELS)], INSIDE)


def points_around(box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Points float32 [N, 2] around a box, at most eight: those that lie in an image of height x width."""
    middle, reach = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    ring = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j])
    points = middle + ring * (BEYOND * reach)
    return points[((points >= 0) & (points <= [width - 1, height - 1])).all(1)].astype(np.float32)


def parted_by_colour(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The pixels of the thing in a box, as GrabCut takes it: bool [H, W]; none where colours do not part it."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (int(value) for value in (*np.floor(box[:2]), *np.ceil(box[2:])))
    across, down = (round(AROUND * (last - first + 1)) + 4 for first, last in ((x0, x1), (y0, y1)))
    part = np.s_[max(0, y0 - down) : min(height, y1 + down + 1), max(0, x0 - across) : min(width, x1 + across + 1)]
    crop = cv2.cvtColor(image[part], cv2.COLOR_RGB2BGR)
    labels = np.full(crop.shape[:2], cv2.GC_BGD, np.uint8)
    top, left = part[0].start, part[1].start
    labels[max(0, y0 - top) : y1 + 1 - top, max(0, x0 - left) : x1 + 1 - left] = cv2.GC_PR_FGD
    mask = np.zeros((height, width), bool)
    cv2.setRNGSeed(FIRST_SEED)
    try:
        cv2.grabCut(crop, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    except cv2.error:  # a box that fills the image, or of one colour
        return mask
    mask[part] = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return mask
