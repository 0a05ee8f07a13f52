"""Simulated clicks and mouse traces for a mask, and parts of objects that a person might mean.

Shapes: H x W pixels, P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vng.points import PointPrompts
from vng.training.clicks.recipe import ClickDataSettings

TRIED = 40  # candidates for each click
TRACE_STRAYS = 0.27  # share of a mouse trace that lies off its object (VidLN, Sec. 3)


def scatter(mask: np.ndarray, count: int, distance: float, rng: np.random.Generator) -> np.ndarray:
    """Up to `count` random foreground pixels of a mask [H, W], at least `distance` apart: float32 [P, 2] of (x, y).

    Like `vng.points.sample_in_mask`, but with a few candidates only: a training sample requires ten such draws.
    """
    pixels = np.flatnonzero(mask)
    if not len(pixels) or not count:
        return np.empty((0, 2), np.float32)
    drawn = pixels[rng.integers(0, len(pixels), TRIED * count)]
    candidates = np.stack([drawn % mask.shape[1], drawn // mask.shape[1]], 1).astype(np.float32)
    chosen: list[np.ndarray] = []
    while len(candidates) and len(chosen) < count:
        chosen.append(candidates[0])
        distances = np.hypot(*(candidates - candidates[0]).T)
        candidates = candidates[(distances >= distance) & (distances > 0)]
    return np.stack(chosen)


@dataclass(frozen=True)
class Wish:
    """The form of a prompt, drawn before its target."""

    positives: int
    negatives: int
    heed_others: bool  # the negatives include clicks on other objects
    trace: bool

    @staticmethod
    def draw(settings: ClickDataSettings, rng: np.random.Generator) -> Wish:
        """A random form."""
        trace, heed_others = rng.random() < settings.traces, rng.random() < settings.others
        chance = rng.random()
        for positives, negatives, share in settings.counts:
            chance -= share
            if chance < 0:
                return Wish(positives, negatives, heed_others, trace)
        positives, negatives = int(rng.integers(1, settings.most[0] + 1)), int(rng.integers(0, settings.most[1] + 1))
        return Wish(positives, negatives, heed_others, trace)

    @property
    def precise(self) -> bool:
        """Whether there are enough clicks for a target that is not a whole object."""
        return not self.trace and self.positives >= 3 and self.negatives >= 3


def simulate_prompt(
    mask: np.ndarray, others: Sequence[np.ndarray], wish: Wish, distance: float, rng: np.random.Generator
) -> PointPrompts:
    """A prompt for a mask bool [H, W]; `others` are masks of objects whose positives may count as its negatives."""
    if wish.trace:
        return PointPrompts(simulate_trace(mask, rng), np.empty((0, 2)), trace=True)
    negatives = [scatter(~mask, wish.negatives, distance, rng)]
    if wish.heed_others:
        negatives += [scatter(other & ~mask, wish.positives, distance, rng) for other in others]
    return PointPrompts(scatter(mask, wish.positives, distance, rng), np.concatenate(negatives))


def simulate_trace(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pointer's path over a mask, float32 [P, 2], about a quarter of it off the object."""
    corners = scatter(mask, int(rng.integers(3, 7)), 0, rng)
    count = int(rng.integers(10, 60))
    along = np.linspace(0, len(corners) - 1, count)
    path = np.stack([np.interp(along, np.arange(len(corners)), corners[:, axis]) for axis in (0, 1)], 1)
    reach = np.sqrt(mask.sum() / np.pi)
    stray = rng.random(count) < rng.uniform(0.3, 1.7) * TRACE_STRAYS
    path += rng.normal(0, 0.08, path.shape) * reach + stray[:, None] * rng.normal(0, 0.9, path.shape) * reach
    return np.clip(path, 0, [mask.shape[1] - 1, mask.shape[0] - 1]).astype(np.float32)


def piece_of(mask: np.ndarray, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A part of an object, bool [H, W]: a cluster in colour and position, or all that lies beyond a line through it.

    Some real masks join two things, such as a rider and a horse; parts teach the network to rely more on clicks.
    """
    rows, columns = np.nonzero(mask)
    place = np.stack([columns, rows], 1).astype(np.float32)
    place = (place - place.mean(0)) / (place.std(0).mean() + 1e-3)
    if rng.random() < 0.25:
        angle = rng.uniform(0, 2 * np.pi)
        along = place @ np.array([np.cos(angle), np.sin(angle)], np.float32)
        inside = along > np.quantile(along, rng.uniform(0.25, 0.6))
    else:
        inside = _cluster(image[rows, columns], place, rng)
    part = np.zeros(mask.shape, np.uint8)
    part[rows[inside], columns[inside]] = 1
    return (cv2.medianBlur(part, 5) > 0) & mask


def region_of(image: np.ndarray, taken: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A region of one colour outside `taken` bool [H, W], bool [H, W]; it may be of any size.

    Unannotated things in a frame have outlines too; such regions train the network on them.
    """
    height, width = taken.shape
    small = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[: height // 2, : width // 2]
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab).reshape(-1, 3)
    place = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32) * (rng.uniform(10, 60) / width * 2)
    features = np.concatenate([lab, place], 1)
    nearest = _nearest_mean(features, _k_means(features, int(rng.integers(4, 12)), rng))
    free = np.flatnonzero(~taken[: height // 2 * 2 : 2, : width // 2 * 2 : 2])
    if not len(free):
        return np.zeros_like(taken)
    seed = int(free[rng.integers(len(free))])
    alike = cv2.medianBlur((nearest == nearest[seed]).astype(np.uint8).reshape(y.shape), 5)
    _, parts = cv2.connectedComponents(alike)
    part = (parts == parts.ravel()[seed]) & (alike > 0)
    return (cv2.resize(part.astype(np.float32), (width, height)) > 0.5) & ~taken


def _k_means(features: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Means [count, D] of clusters of features [P, D], computed from a sample of them."""
    sample = features[rng.integers(0, len(features), 500)]
    means = sample[:count].copy()
    for _ in range(4):
        nearest = _nearest_mean(sample, means)
        for i in range(count):
            if (nearest == i).any():
                means[i] = sample[nearest == i].mean(0)
    return means


def _nearest_mean(features: np.ndarray, means: np.ndarray) -> np.ndarray:
    return ((means**2).sum(1) - 2 * features @ means.T).argmin(1)


def _cluster(colours: np.ndarray, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of two clusters in colour and place, bool [pixels]."""
    lab = cv2.cvtColor(colours[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    features = np.concatenate([lab / (lab.std(0).mean() + 1e-3), place * rng.uniform(0.3, 1.5)], 1)
    return _nearest_mean(features, _k_means(features, 2, rng)) == 0
