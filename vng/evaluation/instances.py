"""YouTube-VIS average precision, equal to the publisher's YTVOSeval (Yang et al., ICCV 2019, Sec. 6).

A detection is a track with a category and a score. It is correct at a threshold when its video IoU, intersection over
union of the pixels of all frames, reaches it; of several detections of one object the one with the highest score
counts. Masks stay RLE. All decisions: docs/protocols.md.
Shapes: D detections, G true instances, T thresholds, R recall levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vng.evaluation.accumulator import Accumulator
from vng.masks import RLE, areas, intersections

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0, 1e5**2), "small": (0, 128**2), "medium": (128**2, 256**2), "large": (256**2, 1e5**2)}
COUNTS = (1, 10, 100)  # detections per category and video, highest scores first
MEASURES = ("AP", "AP50", "AP75", "AP-small", "AP-medium", "AP-large", "AR1", "AR10", "AR100")
ANY = ""  # the category of all tracks where categories are ignored

Key = str | int
Masks = tuple[RLE | None, ...]


@dataclass(frozen=True)
class Instance:
    """One true track: its masks over the frames that count (None: absent), and whether it is a crowd."""

    category: Key
    masks: Masks
    crowd: bool = False


@dataclass(frozen=True)
class Detection:
    """One predicted track: its masks over the frames that count (None: absent) and its score, any number."""

    category: Key
    score: float
    masks: Masks


@dataclass(frozen=True)
class _Matches:
    """Matches of one video's detections of one category, highest score first, within one range of areas."""

    scores: np.ndarray  # float [D]
    matched: np.ndarray  # bool [T, D], whether it is matched to an instance
    ignored: np.ndarray  # bool [T, D], counted neither as correct nor as wrong
    truths: int  # number of instances that count


@dataclass
class InstanceScore(Accumulator[dict[Key, dict[str, _Matches]]]):
    """Average precision, accumulated video by video.

    Args:
        class_agnostic: whether to ignore categories, so that any detection can match any instance.
    """

    class_agnostic: bool = False
    _parts: dict[Key, dict[Key, dict[str, _Matches]]] = field(default_factory=dict)

    def add(self, video_id: Key, truth: Sequence[Instance], prediction: Sequence[Detection]) -> None:
        """Add a video.

        Raises:
            ValueError: a video added twice, tracks of different lengths or sizes, a score that is not finite.
        """
        self._check_new(video_id, f"video {video_id!r}")
        tracks: list[Instance | Detection] = [*truth, *prediction]
        if len({len(item.masks) for item in tracks}) > 1:
            raise ValueError(f"video {video_id!r}: tracks of different lengths")
        if not all(np.isfinite(item.score) for item in prediction):
            raise ValueError(f"video {video_id!r}: a score is not a finite number")
        # sorted categories give detections of equal score a fixed order where categories are ignored
        ordered = sorted({item.category for item in tracks}, key=_order)
        kinds = [ordered] if self.class_agnostic else [[category] for category in ordered]
        self._parts[video_id] = {
            ANY if self.class_agnostic else kind[0]: _match(
                [item for category in kind for item in truth if item.category == category],
                [item for category in kind for item in prediction if item.category == category],
            )
            for kind in kinds
        }

    def rules(self) -> Any:
        """Whether categories are ignored."""
        return self.class_agnostic

    def compute(self) -> dict[str, float]:
        """The `MEASURES`, shares in [0, 1], means over categories with an instance; NaN where there is none."""
        return _measures([_curves(self._of(category)) for category in self.categories])

    def by_category(self) -> dict[Key, dict[str, float]]:
        """The `MEASURES` of each category alone."""
        return {category: _measures([_curves(self._of(category))]) for category in self.categories}

    @property
    def categories(self) -> list[Key]:
        """Categories of all instances and detections, sorted."""
        return sorted({category for video in self._parts.values() for category in video}, key=_order)

    def _of(self, category: Key) -> list[dict[str, _Matches]]:
        videos = (self._parts[video] for video in sorted(self._parts, key=_order))
        return [video[category] for video in videos if category in video]


def _order(key: Key) -> tuple[bool, Any]:
    """Sort key: numbers by value, then names."""
    return isinstance(key, str), key


def video_ious(detections: Sequence[Masks], truths: Sequence[Masks]) -> np.ndarray:
    """Video IoU of tracks of one length, pixels summed over frames: float64 [D, G]; 0 where both are empty."""
    shared = np.zeros((len(detections), len(truths)), np.int64)
    for frame in zip(*detections, *truths, strict=True):
        detected = [i for i, rle in enumerate(frame[: len(detections)]) if rle is not None]
        present = [i for i, rle in enumerate(frame[len(detections) :]) if rle is not None]
        rles = [frame[i] for i in detected], [frame[len(detections) + i] for i in present]
        shared[np.ix_(detected, present)] += intersections(*rles)
    sizes = [np.array([_pixels(masks).sum() for masks in tracks], np.int64) for tracks in (detections, truths)]
    united = sizes[0][:, None] + sizes[1] - shared
    return np.divide(shared, united, out=np.zeros(shared.shape), where=united > 0)


def _pixels(masks: Masks) -> np.ndarray:
    return areas([rle for rle in masks if rle is not None])


def _mean_area(masks: Masks) -> float:
    """Mean area over the frames in which a track has a pixel; 0 for none."""
    pixels = _pixels(masks)
    return float(pixels[pixels > 0].mean()) if pixels.any() else 0.0


def _match(truths: Sequence[Instance], detections: Sequence[Detection]) -> dict[str, _Matches]:
    """Matches of one video and category, by range of areas."""
    best = np.argsort([-item.score for item in detections], kind="stable")[: COUNTS[-1]]
    ranked = [detections[i] for i in best]
    ious = video_ious([item.masks for item in ranked], [item.masks for item in truths])
    crowd = np.array([item.crowd for item in truths], bool)
    sizes = [np.array([_mean_area(item.masks) for item in items]) for items in (ranked, truths)]
    matches = {}
    for name, (least, most) in AREAS.items():
        outside = [(size < least) | (size > most) for size in sizes]
        matched, ignored = _greedy(ious, crowd, crowd | outside[1])
        ignored |= ~matched & outside[0]
        matches[name] = _Matches(
            np.array([d.score for d in ranked]), matched, ignored, int((~(crowd | outside[1])).sum())
        )
    return matches


def _greedy(ious: np.ndarray, crowd: np.ndarray, excluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match each detection, in order, to the best free instance, preferring instances that count over excluded ones.

    A crowd is always free. Of equal instances the last is taken. Returns bool [T, D] twice: matched to any instance,
    and matched to an excluded one.
    """
    count, shape = len(THRESHOLDS), (len(THRESHOLDS), len(ious))
    matched, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    if not ious.size:
        return matched, ignored
    taken = np.zeros((count, ious.shape[1]), bool)
    least = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    rows = np.arange(count)
    for d, row in enumerate(ious):
        free = (~taken | crowd) & (row >= least)
        counting = (free & ~excluded).any(1)
        value = np.where(free & (excluded != counting[:, None]), row, -1.0)
        chosen = ious.shape[1] - 1 - value[:, ::-1].argmax(1)
        matched[:, d] = value[rows, chosen] >= 0
        ignored[:, d] = matched[:, d] & excluded[chosen]
        taken[rows, chosen] |= matched[:, d]
    return matched, ignored


def _curves(videos: Sequence[dict[str, _Matches]]) -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
    """(precision [T, R], recall [T]) of one category for each range of areas and number of detections."""
    curves = {}
    for name in AREAS:
        matches = [video[name] for video in videos]
        truths = sum(match.truths for match in matches)
        if not truths:
            continue
        for most in COUNTS:
            order = np.argsort(-np.concatenate([m.scores[:most] for m in matches]), kind="stable")
            matched = np.concatenate([m.matched[:, :most] for m in matches], 1)[:, order]
            ignored = np.concatenate([m.ignored[:, :most] for m in matches], 1)[:, order]
            curves[name, most] = _precision(matched & ~ignored, ~matched & ~ignored, truths)
    return curves


def _precision(correct: np.ndarray, wrong: np.ndarray, truths: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision [T, R] at the recall levels, made monotonically decreasing, and the recall reached [T]."""
    n_correct, n_wrong = (np.cumsum(flags, 1).astype(float) for flags in (correct, wrong))
    recall = n_correct / truths
    precision = n_correct / (n_correct + n_wrong + np.spacing(1))
    falling = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    at = np.zeros((len(THRESHOLDS), len(RECALLS)))
    for t in range(len(THRESHOLDS)):
        places = np.searchsorted(recall[t], RECALLS, side="left")
        reached = places < recall.shape[1]
        at[t, reached] = falling[t, places[reached]]
    return at, recall[:, -1] if recall.shape[1] else np.zeros(len(THRESHOLDS))


def _measures(curves: Sequence[dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]]) -> dict[str, float]:
    def mean(which: int, name: str, most: int, rows: slice = slice(None)) -> float:
        shares = [curve[name, most][which][rows] for curve in curves if (name, most) in curve]
        return float(np.mean(shares)) if shares else float("nan")

    most = COUNTS[-1]
    values = [mean(0, "all", most), mean(0, "all", most, slice(0, 1)), mean(0, "all", most, slice(5, 6))]
    values += [mean(0, name, most) for name in ("small", "medium", "large")]
    values += [mean(1, "all", count) for count in COUNTS]
    return dict(zip(MEASURES, values, strict=True))
