"""The point-based matcher of PointVIS (arXiv 2404.01990, Sec. 3.2): which proposal is which object of points.

Shapes: K objects, R proposals, P points, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from vng.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class MatcherWeights:
    """Weights of the three costs; the defaults are the paper's. Raises UsageError for a negative one."""

    points: float = 5.0  # of an object's points on the wrong side of a proposal's outline
    others: float = 5.0  # of other objects' positives that the proposal covers: the cross-instance negatives
    confidence: float = 2.0  # of the proposal's confidence, which is subtracted

    def __post_init__(self) -> None:
        for name in ("points", "others", "confidence"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"weight of {name} {getattr(self, name)}: expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class PointTable:
    """The points of all objects of a video, one row each."""

    frame: np.ndarray  # int [P]
    owner: np.ndarray  # int [P], the object
    positive: np.ndarray  # bool [P]
    xy: np.ndarray  # float32 [P, 2]

    def __post_init__(self) -> None:
        if not len(self.frame) == len(self.owner) == len(self.positive) == len(self.xy):
            raise ValueError("points: frames, owners, labels and places of different numbers")


@dataclass(frozen=True, kw_only=True)
class MatchingCosts:
    """The costs before they are weighted, float64 [K, R] and, of the confidence, [R]."""

    points: np.ndarray
    others: np.ndarray
    confidence: np.ndarray

    def weighted(self, weights: MatcherWeights) -> np.ndarray:
        """The matching cost [K, R] (Eq. 4)."""
        cost = weights.points * self.points + weights.others * self.others
        return cost - weights.confidence * self.confidence


def matching_costs(table: PointTable, covered: np.ndarray, confidence: np.ndarray, count: int) -> MatchingCosts:
    """The costs of every object with every proposal: counts over the frames in which the object has points.

    Args:
        table: the points.
        covered: bool [R, P], whether a proposal covers a point, in the point's frame.
        confidence: float [R], the proposals' maskness, or their scores.
        count: K.
    """
    covers = covered.astype(np.float64)
    own = np.zeros((count, len(table.frame)))  # [K, P]
    own[table.owner, np.arange(len(table.frame))] = 1
    wrong = np.where(table.positive, 1 - covers, covers)
    # the covered positives of each frame, of all objects and of each by itself; only frames where it shows up count
    frames, place = np.unique(table.frame, return_inverse=True)
    in_frame = np.zeros((len(table.frame), len(frames)))
    in_frame[np.arange(len(table.frame)), place] = 1
    positives = covers * table.positive
    everyone = positives @ in_frame  # [R, T]
    shows = (own @ in_frame) > 0  # [K, T]
    return MatchingCosts(
        points=own @ wrong.T,
        others=shows.astype(np.float64) @ everyone.T - own @ positives.T,
        confidence=np.asarray(confidence, np.float64),
    )


def match(cost: np.ndarray) -> np.ndarray:
    """The proposal of each object, int [K], at the least total cost (Hungarian algorithm); -1 for lack of proposals."""
    chosen = np.full(len(cost), -1)
    if cost.size:
        rows, columns = linear_sum_assignment(cost)
        chosen[rows] = columns
    return chosen
