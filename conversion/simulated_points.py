"""Points simulated from true masks (Point-VOS, Sec. 3.1 and App. A): a VOS dataset's point version.

Every draw depends on the seed and on the names of video, object and frame alone, so neither the order of the work nor
other objects change it, and fewer points of a kind are the first ones of more.
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
from vng.masks import RLE, decode, depth
from vng.points import NEGATIVE, POSITIVE, Points, sample_in_mask

SAMPLING = ("random", "farthest")
FRAME_SAMPLING = ("even", "random")
ROWS = 480  # the height that distances are given for
FRAMES = 10  # the paper's choice


@dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """How points are drawn; raises UsageError for values out of range."""

    positives: int  # most of an object in a frame
    negatives: int
    frames: int | None = FRAMES  # evenly spaced; None takes all
    sampling: str = "random"
    distance: float = 20.0  # least, between points of one label; pixels at 480 rows, in proportion at others
    seed: int = 0
    keep_masks: bool = False
    shared_negatives: bool = False  # one draw a frame, on the background its objects have in common, for all of them
    frame_sampling: str = "even"  # which `frames` of a video: evenly spaced, or a random draw (App. A, Figure 7)

    def __post_init__(self) -> None:
        if self.positives < 1:
            raise UsageError(f"--simulate {self.positives}: at least one positive point")
        if self.negatives < 0:
            raise UsageError(f"--negatives {self.negatives}: a number of points, 0 or more")
        if self.frames is not None and self.frames < 1:
            raise UsageError(f"--point-frames {self.frames}: at least one frame, or all")
        if self.sampling not in SAMPLING:
            raise UsageError(f"--sampling {self.sampling}: choose one of: {', '.join(SAMPLING)}")
        if self.frame_sampling not in FRAME_SAMPLING:
            raise UsageError(f"--frame-sampling {self.frame_sampling}: choose one of: {', '.join(FRAME_SAMPLING)}")
        if not self.distance >= 0 or not np.isfinite(self.distance):
            raise UsageError(f"--distance {self.distance}: pixels, 0 or more")

    def as_settings(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        return asdict(self)


def simulate_points(video: Video, void: Sequence[RLE | None], settings: SimulationSettings) -> Video:
    """The video with points in place of its masks, or beside them with `keep_masks`.

    Frames are evenly spaced over those where any object is annotated, or drawn from them, and the first frame that
    annotates an object is always among them. An object gets points in those of them where it is annotated itself:
    negatives alone where it is absent.

    Args:
        video: with true masks.
        void: per frame, the pixels that nobody has labelled; None where there are none.
        settings: how to draw.
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
    """The frames that get points: `count` of those annotated, and the first one of each object.

    Evenly spaced; with a seed drawn at random, by the seed and the video's name (fewer are the first ones of more).
    """
    annotated = [[t for t, rle in enumerate(item.segmentations) if rle is not None] for item in video.objects]
    known = sorted({t for frames in annotated for t in frames})
    if seed is None or count is None:
        chosen = evenly_spaced(known, count)
    else:
        rng = np.random.default_rng([seed, zlib.crc32(video.video_id.encode())])
        chosen = [int(t) for t in rng.permutation(known)[:count]]
    return sorted({*chosen, *(frames[0] for frames in annotated if frames)})


def _draw(region: np.ndarray, label: int, t: int, names: tuple[str, ...], settings: SimulationSettings) -> Points:
    count = settings.positives if label == POSITIVE else settings.negatives
    distance = settings.distance * region.shape[0] / ROWS
    if settings.sampling == "random":
        rng = np.random.default_rng([settings.seed, *(zlib.crc32(part.encode()) for part in (*names, str(label)))])
        xy = sample_in_mask(region, count, distance, rng)
    else:
        xy = farthest_in_mask(region, count, distance)
    return Points(np.full(len(xy), t), xy, np.full(len(xy), label))


def _pointed(item: VideoObject, points: Points, settings: SimulationSettings) -> VideoObject:
    segmentations = item.segmentations if settings.keep_masks else (None,) * len(item.segmentations)
    return replace(item, segmentations=segmentations, points=points, quality=Quality(n_points=len(points)))


def evenly_spaced(frames: Sequence[int], count: int | None) -> list[int]:
    """`count` of the frames from the first to the last, evenly spaced, in order; all where there are no more (or None)."""
    if count is None or len(frames) <= count:
        return list(frames)
    return [frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]


def farthest_in_mask(mask: np.ndarray, count: int, min_distance: float) -> np.ndarray:
    """Up to `count` foreground pixels, each farthest from those before it, at least `min_distance` pixels apart.

    Point-VOS, App. A: the first is the maximum of the distance transform. No randomness; ties go to the first in rows.

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


def simulation_settings(simulation: SimulationSettings | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a conversion from masks, for the manifest, with those of simulated points."""
    return settings | {"simulation": None if simulation is None else simulation.as_settings()}
