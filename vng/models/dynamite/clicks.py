"""Prompts of DynaMITe: clicks and traces as tensors, and simulated training clicks (Rana et al., ICCV 2023, Sec. 3.4).

Shapes: B images, Q queries (one for each click or trace), P points of a query, K objects, H x W pixels of the padded
image.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from vng.masks import depth
from vng.points import BACKGROUND, Click

GAP = 0.125  # of the diagonal, between positions of a trace
NOWHERE = -1.0  # coordinates and time of padding

MOST_OBJECTS, SHARE_OF_OBJECTS, LEAST_PIXELS = 30, 0.7, 50
FIRST_CLICK_DEPTH = 1.7  # the first click lies deeper than the greatest depth divided by this
MOST_FURTHER, FALLING = 6, 0.7  # k further clicks with a probability in proportion to 0.7^k
NO_BACKGROUND = 0.2  # probability
CORRECTED_OBJECTS, CORRECTED_BELOW = 15, 0.9
TWO_CLICKS = 0.2  # probability
CORRECTION_DEPTH = 2.0


@dataclass(frozen=True)
class Trace:
    """A mouse trace, which becomes one query (Point-VOS, Sec. 3.2)."""

    points: np.ndarray  # float32 [P, 2], (y, x) pixels, P >= 1
    time: int
    owner: int


def trace_pixels(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """All pixels of a drawn trace: lines between the pointer's positions [P, 2], (y, x) -> float32 [N, 2].

    Positions farther apart than `GAP` of the image's diagonal are not joined: the pointer was lifted there.

    Args:
        places: (y, x) pixels, in order; those outside the image are moved to its edge.
        size: (height, width) of the image.
    """
    inside = np.clip(np.rint(places), 0, np.array(size) - 1).astype(np.int32)
    canvas = np.zeros(size, np.uint8)
    canvas[inside[:, 0], inside[:, 1]] = 1
    steps = np.hypot(*(inside[1:] - inside[:-1]).T)
    for (y, x), (below, right) in zip(
        inside[:-1][near := steps <= GAP * np.hypot(*size)], inside[1:][near], strict=True
    ):
        cv2.line(canvas, (int(x), int(y)), (int(right), int(below)), 1)
    return np.argwhere(canvas).astype(np.float32)


@dataclass(frozen=True)
class Prompts:
    """Clicks and traces of B images. A query whose points are all negative is a filler, which only pads a batch.

    Fillers take part as further background queries, as in the authors' program.
    """

    points: Tensor  # float [B, Q, P, 2], (y, x) pixels; negative: no point
    times: Tensor  # float [B, Q]
    owners: Tensor  # int64 [B, Q], object or BACKGROUND
    traced: Tensor  # bool [B, Q]

    def __post_init__(self) -> None:
        assert self.points.shape[:2] == self.times.shape == self.owners.shape == self.traced.shape

    @staticmethod
    def of(images: Sequence[Sequence[Click | Trace]], device: torch.device | str = "cpu") -> Prompts:
        """Tensors from the clicks and traces of each image."""
        most = max((len(queries) for queries in images), default=0)
        longest = max((len(q.points) for qs in images for q in qs if isinstance(q, Trace)), default=1)
        points = np.full((len(images), most, longest, 2), NOWHERE, np.float32)
        times = np.full((len(images), most), NOWHERE, np.float32)
        owners, traced = np.full((len(images), most), BACKGROUND, np.int64), np.zeros((len(images), most), bool)
        for b, queries in enumerate(images):
            for q, query in enumerate(queries):
                positions = query.points if isinstance(query, Trace) else [(query.y, query.x)]
                points[b, q, : len(positions)] = positions
                times[b, q], owners[b, q], traced[b, q] = query.time, query.owner, isinstance(query, Trace)
        return Prompts(*(torch.from_numpy(array).to(device) for array in (points, times, owners, traced)))

    def of_image(self, b: int, count: int) -> Prompts:
        """The first `count` prompts of one image; fillers of a batch come last."""
        return Prompts(*(values[b : b + 1, :count] for values in (self.points, self.times, self.owners, self.traced)))

    def with_fillers(self, count: int) -> Prompts:
        """These prompts and `count` fillers."""
        b, _, p, _ = self.points.shape
        return Prompts(
            torch.cat([self.points, self.points.new_full((b, count, p, 2), NOWHERE)], 1),
            torch.cat([self.times, self.times.new_full((b, count), NOWHERE)], 1),
            torch.cat([self.owners, self.owners.new_full((b, count), BACKGROUND)], 1),
            torch.cat([self.traced, self.traced.new_zeros((b, count))], 1),
        )

    def with_clicks(self, images: Sequence[Sequence[Click]]) -> Prompts:
        """These prompts and further clicks of each image."""
        more = Prompts.of(images, self.points.device)
        points = more.points.new_full((*more.times.shape, self.points.shape[2], 2), NOWHERE)
        points[:, :, :1] = more.points
        return Prompts(
            torch.cat([self.points, points], 1),
            torch.cat([self.times, more.times], 1),
            torch.cat([self.owners, more.owners], 1),
            torch.cat([self.traced, more.traced], 1),
        )

    def next_times(self) -> list[int]:
        """The time of each image's next click."""
        if not self.times.shape[1]:
            return [0] * len(self.times)
        return [int(last) + 1 for last in self.times.amax(1).tolist()]


class Dice:
    """Random numbers of the simulation; a seed gives exactly the clicks that it gives in the authors' program.

    That program draws subsets with Python's generator and everything else with numpy's legacy one, so both are used.
    """

    def __init__(self, seed: int) -> None:
        self._numbers, self._subsets = np.random.RandomState(seed), random.Random(seed)

    def one_of(self, count: int) -> int:
        """A random number below `count`."""
        return int(self._numbers.randint(0, count))

    def weighted(self, weights: np.ndarray) -> int:
        """A random index of weights [N], drawn in proportion to them."""
        return int(self._numbers.choice(np.arange(len(weights)), p=weights / weights.sum()))

    def happens(self, chance: float) -> bool:
        """True with this probability."""
        return bool(self._numbers.rand() < chance)

    def subset(self, count: int, size: int) -> list[int]:
        """`size` different random numbers below `count`."""
        return self._subsets.sample(range(count), size)


def training_masks(masks: np.ndarray, dice: Dice) -> np.ndarray:
    """Choose an image's objects and settle overlaps: bool [N, H, W] -> bool [K, H, W], K <= N, largest first.

    A random 70 % of the objects (a single one is kept), at most 30; smaller ones lie in front. Objects of which 50
    pixels or fewer are then visible are left out.
    """
    masks = np.asarray(masks, bool)
    count = 1 if len(masks) == 1 else min(int(len(masks) * SHARE_OF_OBJECTS), MOST_OBJECTS)
    chosen = masks[dice.subset(len(masks), count)]
    chosen = chosen[np.argsort(-chosen.sum((1, 2)), kind="stable")]
    free = np.ones(masks.shape[1:], bool)
    visible = np.zeros_like(chosen)
    for k in reversed(range(count)):
        visible[k] = chosen[k] & free
        free &= ~chosen[k]
    return visible[visible.sum((1, 2)) > LEAST_PIXELS]


def initial_clicks(masks: np.ndarray, taken: np.ndarray, dice: Dice) -> list[Click]:
    """The first clicks of a training image, numbered in order: object after object, then the background.

    Each object gets one click well inside (uniform where the depth exceeds the greatest depth / 1.7) and k in 0..5
    further ones (probability in proportion to 0.7^k) in the mask eroded by 3x3. The background gets none with
    probability 0.2, else k in 0..6 likewise.

    Args:
        masks: bool [K, H, W], none empty.
        taken: bool [H, W], pixels that are not background: any object, or padding.
        dice: random numbers.
    """
    clicks: list[Click] = []

    def add_click(place: np.ndarray, owner: int) -> None:
        clicks.append(Click(int(place[0]), int(place[1]), len(clicks), owner))

    for k, mask in enumerate(np.asarray(masks, bool)):
        depths = depth(mask)
        candidates = np.argwhere(depths > depths.max() / FIRST_CLICK_DEPTH)
        if not len(candidates):
            raise ValueError(f"object {k} has no pixel to click on")
        add_click(candidates[dice.one_of(len(candidates))], k)
        for place in _further(mask, MOST_FURTHER, dice):
            add_click(place, k)
    if not dice.happens(NO_BACKGROUND):
        for place in _further(~np.asarray(taken, bool), MOST_FURTHER + 1, dice):
            add_click(place, BACKGROUND)
    return clicks


def _further(mask: np.ndarray, most: int, dice: Dice) -> np.ndarray:
    """Fewer than `most` random pixels [N, 2] of the eroded mask, and at most half of it."""
    inner = np.argwhere(cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)))
    count = min(dice.weighted(FALLING ** np.arange(most)), len(inner) // 2)
    return inner[dice.subset(len(inner), count)]


def correction(
    predicted: np.ndarray, truth: np.ndarray, labels: np.ndarray, padding: np.ndarray, time: int, dice: Dice
) -> list[Click]:
    """One (probability 0.8) or two clicks deep in the larger error of one object's mask; none if there is no error.

    The error is the missed region if that is strictly deeper, else the wrongly predicted one; clicks are uniform where
    its depth exceeds half the greatest. A click belongs to the object at its pixel, or to the background.

    Args:
        predicted, truth: bool [H, W].
        labels: int [H, W], the object of each pixel, or BACKGROUND.
        padding: bool [H, W], True where there is no image.
        time: of the first click.
        dice: random numbers.
    """
    missed, wrong = depth(truth & ~predicted & ~padding), depth(predicted & ~truth & ~padding)
    error = missed if missed.max() > wrong.max() else wrong
    candidates = np.argwhere(error > error.max() / CORRECTION_DEPTH)
    if not len(candidates):
        return []
    count = min(1 + dice.weighted(np.array([1 - TWO_CLICKS, TWO_CLICKS])), len(candidates))
    chosen = candidates[dice.subset(len(candidates), count)]
    return [Click(int(y), int(x), time + i, int(labels[y, x])) for i, (y, x) in enumerate(chosen)]


def corrective_clicks(
    predicted: np.ndarray, truth: np.ndarray, padding: np.ndarray, time: int, dice: Dice
) -> list[Click]:
    """The clicks of one corrective round on one image: on up to 15 objects, the worst first, whose IoU is below 0.9.

    The authors' program gives them only to the first image of a batch (a `return` stands inside its loop), and counts
    padding as part of the first object when it measures IoU; here every image gets clicks, and padding has no object.

    Args:
        predicted, truth: bool [K, H, W], without overlaps.
        padding: bool [H, W].
        time: of the first click.
        dice: random numbers.
    """
    inside = ~padding
    union = ((predicted | truth) & inside).sum((1, 2))
    iou = (predicted & truth & inside).sum((1, 2)) / np.maximum(union, 1)
    labels = np.where(truth.any(0), truth.argmax(0), BACKGROUND)
    clicks: list[Click] = []
    for k in np.argsort(iou, kind="stable")[:CORRECTED_OBJECTS]:
        if iou[k] < CORRECTED_BELOW:
            clicks += correction(predicted[k], truth[k], labels, padding, time + len(clicks), dice)
    return clicks
