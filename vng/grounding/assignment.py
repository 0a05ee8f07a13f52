"""Joint assignment of things to tracks: all nouns of a narrative are decided together.

Nouns that mean one thing share a track; different things never do. A thing without a good track is absent.
Shapes: E things (entities), K tracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

NEUTRAL = 0.5  # a fit of a relation that says nothing
STEPS = 200  # of the local search, at most; each makes the sum larger


@dataclass(frozen=True)
class Relation:
    """A relation between two things: how well each pair of tracks fits it, float64 [K, K] in [0, 1], and its weight."""

    first: int
    second: int
    fits: np.ndarray
    weight: float


def assign(scores: np.ndarray, allowed: np.ndarray, relations: Sequence[Relation] = ()) -> list[int | None]:
    """The track of each thing, or None: the choice with the largest sum of scores and of fits of relations.

    Without relations it is the optimum (Hungarian algorithm); with them, a local search from there: moves of one thing,
    and swaps of two, as long as the sum grows.

    Args:
        scores: float [E, K], larger is better, above 0; absence counts 0.
        allowed: bool [E, K], whether a thing may be that track at all.
        relations: what is told of pairs of things; a relation counts only where both are present.
    """
    count, tracks = scores.shape
    if not count:
        return []
    # One more column for each thing: to be absent.
    absent = np.where(np.eye(count, dtype=bool), 0.0, -np.inf)
    gains = np.concatenate([np.where(allowed, np.maximum(scores, 0), -np.inf), absent], 1)
    finite = np.where(np.isinf(gains), -1e6, gains)
    rows, columns = linear_sum_assignment(finite, maximize=True)
    chosen: list[int | None] = [None] * count
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        chosen[row] = column if column < tracks else None
    if relations:
        chosen = _improved(chosen, scores, allowed, relations)
    return chosen


def worth(chosen: Sequence[int | None], scores: np.ndarray, relations: Sequence[Relation] = ()) -> float:
    """The sum that `assign` makes as large as it can."""
    total = sum(float(scores[e, k]) for e, k in enumerate(chosen) if k is not None)
    for relation in relations:
        a, b = chosen[relation.first], chosen[relation.second]
        if a is not None and b is not None:
            total += relation.weight * (float(relation.fits[a, b]) - NEUTRAL)
    return total


def _improved(
    chosen: list[int | None], scores: np.ndarray, allowed: np.ndarray, relations: Sequence[Relation]
) -> list[int | None]:
    best = worth(chosen, scores, relations)
    for _ in range(STEPS):
        options = _neighbours(chosen, allowed)
        values = [worth(option, scores, relations) for option in options]
        if not values or max(values) <= best + 1e-9:
            break
        best = max(values)
        chosen = options[values.index(best)]
    return chosen


def _neighbours(chosen: list[int | None], allowed: np.ndarray) -> list[list[int | None]]:
    """Choices that differ in one thing, in a thing that pushes another one away, or in two that are swapped."""
    found = []
    for e, own in enumerate(chosen):
        for k in (*np.flatnonzero(allowed[e]).tolist(), None):
            if k == own:
                continue
            moved = list(chosen)
            holder = chosen.index(k) if k is not None and k in chosen else None
            moved[e] = k
            if holder is None:
                found.append(moved)
                continue
            for instead in {own, None}:
                if instead is None or allowed[holder, instead]:
                    moved[holder] = instead
                    found.append(list(moved))
            for free in np.flatnonzero(allowed[holder]).tolist():
                if free not in chosen:
                    moved[holder] = free
                    found.append(list(moved))
    return found
