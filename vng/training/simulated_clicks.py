"""Clicks and mouse traces that a mask might have been given by, and parts of objects that a person might mean.

Shapes: H x W pixels, P points.
"""

from __future__ import annotations

import cv2
import numpy as np

from vng.points import PointPrompts
from vng.training.settings import ClickDataSettings

TRIED = 40  # candidates looked at for each click wanted
TRACE_STRAYS = 0.27  # share of a mouse trace that lies off its object (VidLN, Sec. 3)


def scatter(mask: np.ndarray, count: int, distance: float, rng: np.random.Generator) -> np.ndarray:
    """Up to `count` random foreground pixels of a mask [H, W], at least `distance` apart: float32 [P, 2] of (x, y).

    As `vng.points.sample_in_mask`, but looks at a few candidates only: a training sample wants ten such draws.
    """
    places = np.flatnonzero(mask)
    if not len(places) or not count:
        return np.empty((0, 2), np.float32)
    drawn = places[rng.integers(0, len(places), TRIED * count)]
    candidates = np.stack([drawn % mask.shape[1], drawn // mask.shape[1]], 1).astype(np.float32)
    chosen: list[np.ndarray] = []
    while len(candidates) and len(chosen) < count:
        chosen.append(candidates[0])
        away = np.hypot(*(candidates - candidates[0]).T)
        candidates = candidates[(away >= distance) & (away > 0)]
    return np.stack(chosen)


def simulate_prompt(
    mask: np.ndarray, others: list[np.ndarray], settings: ClickDataSettings, rng: np.random.Generator
) -> PointPrompts:
    """A prompt for a mask bool [H, W]; `others` are masks of objects whose positives may count as its negatives."""
    if rng.random() < settings.traces:
        return PointPrompts(simulate_trace(mask, rng), np.empty((0, 2)), trace=True)
    on, off = _counts(settings, rng)
    negatives = [scatter(~mask, off, settings.distance, rng)]
    if others and rng.random() < settings.others:
        negatives += [scatter(other & ~mask, on, settings.distance, rng) for other in others]
    return PointPrompts(scatter(mask, on, settings.distance, rng), np.concatenate(negatives))


def _counts(settings: ClickDataSettings, rng: np.random.Generator) -> tuple[int, int]:
    draw = rng.random()
    for on, off, share in settings.counts:
        draw -= share
        if draw < 0:
            return on, off
    return int(rng.integers(1, settings.most[0] + 1)), int(rng.integers(0, settings.most[1] + 1))


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
    """A part of an object, bool [H, W]: what is of one colour and place, or what lies beyond a line through it.

    Real masks hold riders together with what they ride, so that the network has to learn to trust clicks more.
    """
    rows, columns = np.nonzero(mask)
    place = np.stack([columns, rows], 1).astype(np.float32)
    place = (place - place.mean(0)) / (place.std(0).mean() + 1e-3)
    if rng.random() < 0.4:
        angle = rng.uniform(0, 2 * np.pi)
        along = place @ np.array([np.cos(angle), np.sin(angle)], np.float32)
        inside = along > np.quantile(along, rng.uniform(0.25, 0.6))
    else:
        inside = _cluster(image[rows, columns], place, rng)
    part = np.zeros(mask.shape, np.uint8)
    part[rows[inside], columns[inside]] = 1
    return (cv2.medianBlur(part, 5) > 0) & mask


def _cluster(colours: np.ndarray, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of two clusters in colour and place, bool [pixels]."""
    lab = cv2.cvtColor(colours[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    features = np.concatenate([lab / (lab.std(0).mean() + 1e-3), place * rng.uniform(0.3, 1.5)], 1)
    means = features[rng.choice(len(features), 2, replace=False)]
    sample = features[rng.integers(0, len(features), 400)]
    for _ in range(5):
        nearer = _nearer_first(sample, means)
        if nearer.all() or not nearer.any():
            break
        means = np.stack([sample[nearer].mean(0), sample[~nearer].mean(0)])
    return _nearer_first(features, means)


def _nearer_first(features: np.ndarray, means: np.ndarray) -> np.ndarray:
    first, second = (((features - mean) ** 2).sum(1) for mean in means)
    return first < second
