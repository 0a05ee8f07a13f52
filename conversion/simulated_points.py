"""Points simulated from true masks (Point-VOS, Sec. 3.1 and App. A): the point version of a VOS dataset.

Every draw depends only on the seed and on the names of video, object and frame, so neither the order of processing nor
other objects change it, and a smaller number of points is the start of a larger one.
Shapes: H x W pixels, P points.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from vng.dataset import Quality, Video, VideoObject
from vng.errors import UsageError
from vng.frames import evenly_spaced
from vng.masks import RLE, decode, depth
from vng.points import NEGATIVE, POINT_DISTANCE, POINT_FRAMES, POSITIVE, Points, point_distance, sample_in_mask

SAMPLING = ("random", "farthest", "centre", "human")  # the last two: ClickVOS
FRAME_SAMPLING = ("even", "random")


@dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """Settings of simulated points; raises UsageError for values out of range."""

    positives: int  # most per object and frame
    negatives: int
    frames: int | None = POINT_FRAMES  # evenly spaced; None takes all
    sampling: str = "random"
    distance: float = (
        POINT_DISTANCE  # least between points of one label; pixels at 480 rows, scaled with the image height
    )
    seed: int = 0
    keep_masks: bool = False
    shared_negatives: bool = False  # one draw per frame for all objects, on their common background
    frame_sampling: str = "even"  # how `frames` are chosen: evenly spaced, or at random (App. A, Figure 7)

    def __post_init__(self) -> None:
        if self.positives < 1:
            raise UsageError(f"--simulate {self.positives}: expected at least one positive point")
        if self.negatives < 0:
            raise UsageError(f"--negatives {self.negatives}: expected 0 or more points")
        if self.frames is not None and self.frames < 1:
            raise UsageError(f"--point-frames {self.frames}: expected at least one frame, or all")
        if self.sampling not in SAMPLING:
            raise UsageError(f"--sampling {self.sampling}: choose one of: {', '.join(SAMPLING)}")
        if self.frame_sampling not in FRAME_SAMPLING:
            raise UsageError(f"--frame-sampling {self.frame_sampling}: choose one of: {', '.join(FRAME_SAMPLING)}")
        if not self.distance >= 0 or not np.isfinite(self.distance):
            raise UsageError(f"--distance {self.distance}: expected 0 or more pixels")

    def as_settings(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        return asdict(self)


def simulate_points(video: Video, void: Sequence[RLE | None], settings: SimulationSettings) -> Video:
    """The video with points in place of its masks, or beside them with `keep_masks`.

    Frames are evenly spaced over those where any object is annotated, or drawn from them, and always include the first
    annotated frame of each object. An object gets points in those frames where it is annotated itself: only negatives
    where it is absent.

    Args:
        video: a video with true masks.
        void: per frame, the unlabelled pixels; None where there are none.
        settings: settings of the points.
    """
    points: dict[str, list[Points]] = {item.object_id: [] for item in video.objects}
    for t in point_frames(video, settings.frames, settings.seed if settings.frame_sampling == "random" else None):
        masks = {o.object_id: decode(rle) for o in video.objects if (rle := o.segmentations[t]) is not None}
        labelled = True if (rle := void[t]) is None else ~decode(rle)
        unclaimed = ~np.any(list(masks.values()), axis=0) & labelled
        frame = video.frame_names[t]
        for name, mask in masks.items():
            shared = settings.shared_negatives or settings.sampling == "farthest"
            background, owner = (unclaimed, "") if shared else (~mask & labelled, name)
            points[name].append(_draw(mask, POSITIVE, t, (video.video_id, name, frame), settings))
            points[name].append(_draw(background, NEGATIVE, t, (video.video_id, owner, frame), settings))
    objects = tuple(_pointed(item, Points.concatenate(points[item.object_id]), settings) for item in video.objects)
    return replace(video, objects=objects)


def point_frames(video: Video, count: int | None, seed: int | None = None) -> list[int]:
    """The frames that get points: `count` of the annotated ones, and the first annotated frame of each object.

    Evenly spaced; with a seed, drawn at random from the seed and the video's name (a smaller count is the start of a
    larger one).
    """
    per_object = [[t for t, rle in enumerate(item.segmentations) if rle is not None] for item in video.objects]
    annotated = sorted({t for frames in per_object for t in frames})
    if seed is None or count is None:
        chosen = evenly_spaced(annotated, count)
    else:
        rng = np.random.default_rng([seed, zlib.crc32(video.video_id.encode())])
        chosen = [int(t) for t in rng.permutation(annotated)[:count]]
    return sorted({*chosen, *(frames[0] for frames in per_object if frames)})


def _draw(region: np.ndarray, label: int, t: int, names: tuple[str, ...], settings: SimulationSettings) -> Points:
    count = settings.positives if label == POSITIVE else settings.negatives
    distance = point_distance(region.shape[0], settings.distance)
    rng = np.random.default_rng([settings.seed, *(zlib.crc32(part.encode()) for part in (*names, str(label)))])
    # Negatives of "centre" and "human" are random: these two say where on an object people click.
    if settings.sampling == "random" or (settings.sampling in ("centre", "human") and label == NEGATIVE):
        xy = sample_in_mask(region, count, distance, rng)
    elif settings.sampling == "human":
        xy = clicks_in_mask(region, count, distance, rng)
    else:
        xy = farthest_in_mask(region, count, distance)
    return Points(np.full(len(xy), t), xy, np.full(len(xy), label))


def _pointed(item: VideoObject, points: Points, settings: SimulationSettings) -> VideoObject:
    segmentations = item.segmentations if settings.keep_masks else (None,) * len(item.segmentations)
    return replace(item, segmentations=segmentations, points=points, quality=Quality(n_points=len(points)))


def farthest_in_mask(mask: np.ndarray, count: int, min_distance: float) -> np.ndarray:
    """Up to `count` foreground pixels, each farthest from those before it, at least `min_distance` pixels apart.

    Point-VOS, App. A: the first is the maximum of the distance transform. Deterministic; ties go to the first in row
    order.

    Returns:
        float32 [P, 2] of (x, y), P <= count; empty for an empty mask.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows) or not count:
        return np.empty((0, 2), np.float32)
    pixels = np.stack([columns, rows], axis=1).astype(np.float32)
    chosen = [int(depth(mask)[rows, columns].argmax())]
    nearest = np.full(len(pixels), np.inf, np.float32)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.hypot(*(pixels - pixels[chosen[-1]]).T))
        farthest = int(nearest.argmax())
        if nearest[farthest] < min_distance or not nearest[farthest]:
            break
        chosen.append(farthest)
    return pixels[chosen]


def clicks_in_mask(mask: np.ndarray, count: int, min_distance: float, rng: np.random.Generator) -> np.ndarray:
    """Up to `count` pixels as people click them: in half of the draws any, in half by the square of their depth.

    ClickVOS (arXiv 2403.06130) tests random, centre-most and human clicks; of the last only the summary is known, and
    this mixture is ours: people click near the middle, but not on it.

    Returns:
        float32 [P, 2] of (x, y), P <= count; empty for an empty mask.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows) or not count:
        return np.empty((0, 2), np.float32)
    pixels = np.stack([columns, rows], axis=1).astype(np.float32)
    weight = depth(mask)[rows, columns].astype(np.float64) ** 2
    weight = 0.5 * weight / weight.sum() + 0.5 / len(weight)
    chosen = np.empty((0, 2), np.float32)
    while len(chosen) < count and weight.any():
        xy = pixels[rng.choice(len(pixels), p=weight / weight.sum())]
        chosen = np.concatenate([chosen, xy[None]])
        weight = weight * (np.hypot(*(pixels - xy).T) >= max(min_distance, 1))
    return chosen


def simulation_settings(simulation: SimulationSettings | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a conversion from masks and of its simulated points, for the manifest."""
    return settings | {"simulation": None if simulation is None else simulation.as_settings()}
