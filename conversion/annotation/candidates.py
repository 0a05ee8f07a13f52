"""Candidate points of one frame: places that a person only has to confirm or reject (Point-VOS, Sec. 3.2 and App. B)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vng.errors import UsageError
from vng.points import POINT_DISTANCE, POINT_FRAMES, point_distance, sample_in_mask, take_surroundings

FOREGROUND, BACKGROUND, UNCERTAIN = "foreground", "background", "uncertain"
# Per object and frame, in the order in which they are drawn. A person sees foreground, background, uncertain, too.
COUNTS = {FOREGROUND: 7, BACKGROUND: 10, UNCERTAIN: 3}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A place in a frame that a person is asked about."""

    frame: int
    x: float
    y: float
    kind: str  # FOREGROUND, BACKGROUND or UNCERTAIN
    probability: float  # of the object, as the propagator has it


@dataclass(frozen=True, kw_only=True)
class CandidateSettings:
    """How candidates are drawn; counts are those of Point-VOS, whose thresholds are not published.

    Raises UsageError for thresholds that are not 0 <= low < high <= 1.
    """

    frames: int = POINT_FRAMES  # evenly spaced over the video
    foreground: int = COUNTS[FOREGROUND]
    background: int = COUNTS[BACKGROUND]
    uncertain: int = COUNTS[UNCERTAIN]
    low: float = 0.1  # largest probability of a background candidate
    high: float = 0.9  # least probability of a foreground candidate
    distance: float = POINT_DISTANCE  # least distance of two candidates, pixels at 480 rows
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise UsageError(f"thresholds of candidates: expected 0 <= low < high <= 1, got {self.low} and {self.high}")

    @property
    def counts(self) -> dict[str, int]:
        """Candidates of each kind in a frame, in the order in which they are drawn."""
        return {FOREGROUND: self.foreground, BACKGROUND: self.background, UNCERTAIN: self.uncertain}


def candidates_of(
    probability: np.ndarray, frame: int, settings: CandidateSettings, rng: np.random.Generator
) -> list[Candidate]:
    """The candidates of one object in one frame, from its soft probability map float32 [H, W]."""
    regions = {
        FOREGROUND: probability >= settings.high,
        BACKGROUND: probability <= settings.low,
        UNCERTAIN: (probability > settings.low) & (probability < settings.high),
    }
    distance = point_distance(probability.shape[0], settings.distance)
    return [
        Candidate(frame=frame, x=float(x), y=float(y), kind=kind, probability=float(probability[int(y), int(x)]))
        for (x, y), kind in draw_apart(regions, settings.counts, distance, rng)
    ]


def draw_apart(
    regions: Mapping[str, np.ndarray], counts: Mapping[str, int], distance: float, rng: np.random.Generator
) -> list[tuple[np.ndarray, str]]:
    """Up to `counts` positions in each region, all of them at least `distance` pixels apart, with their kinds.

    Mutually apart over all kinds (App. B), so that no pixel gets two verdicts.

    Args:
        regions: kind -> bool [H, W].
        counts: kind -> most positions; drawn in this order.
        distance: pixels, Euclidean.
        rng: the source of randomness.
    """
    free, chosen = np.ones(next(iter(regions.values())).shape, bool), []
    for kind, count in counts.items():
        for x, y in sample_in_mask(regions[kind] & free, count, distance, rng):
            take_surroundings(free, int(x), int(y), distance)
            chosen.append((np.array([x, y]), kind))
    return chosen
