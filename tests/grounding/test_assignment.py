"""Joint assignment of things to tracks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from vng.grounding.assignment import Relation, assign, worth


def brute_force(scores: np.ndarray, allowed: np.ndarray, relations: list[Relation]) -> float:
    """The largest sum over all choices in which no two things share a track."""
    options = [[k for k in range(scores.shape[1]) if allowed[e, k]] + [None] for e in range(len(scores))]
    choices = [c for c in product(*options) if len({k for k in c if k is not None}) == sum(k is not None for k in c)]
    return max(worth(choice, scores, relations) for choice in choices)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_of_all_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    things, tracks = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    scores, allowed = rng.random((things, tracks)), rng.random((things, tracks)) < 0.8
    chosen = assign(scores, allowed)
    assert worth(chosen, scores) == pytest.approx(brute_force(scores, allowed, []))
    taken = [k for k in chosen if k is not None]
    assert len(set(taken)) == len(taken) and all(k is None or allowed[e, k] for e, k in enumerate(chosen))


def test_relations_against_all_choices() -> None:
    right = 0
    for seed in range(40):
        rng = np.random.default_rng([7, seed])
        scores, allowed = rng.random((3, 4)), rng.random((3, 4)) < 0.9
        relations = [Relation(a, b, rng.random((4, 4)), 1.0) for a, b in ((0, 1), (1, 2))]
        chosen = assign(scores, allowed, relations)
        assert worth(chosen, scores, relations) >= worth(assign(scores, allowed), scores, relations) - 1e-9
        right += worth(chosen, scores, relations) == pytest.approx(brute_force(scores, allowed, relations))
    assert right >= 36  # a local search: nearly always the best


def test_two_things_that_want_one_track() -> None:
    scores = np.array([[0.9, 0.8], [0.85, 0.1]])
    allowed = np.ones((2, 2), bool)
    assert assign(scores, allowed) == [1, 0]


def test_absence() -> None:
    scores = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert assign(scores, np.array([[True, False], [False, False]])) == [0, None]
    assert assign(np.zeros((2, 0)), np.zeros((2, 0), bool)) == [None, None]
    assert assign(np.zeros((0, 3)), np.zeros((0, 3), bool)) == []
    assert assign(np.ones((3, 2)), np.ones((3, 2), bool)).count(None) == 1  # more things than tracks


def test_a_relation_decides_between_equals() -> None:
    left = np.array([[0.5, 1.0], [0.0, 0.5]])  # track 0 is left of track 1
    scores, allowed = np.full((2, 2), 0.5), np.ones((2, 2), bool)
    assert assign(scores, allowed, [Relation(0, 1, left, 1.0)]) == [0, 1]
    assert assign(scores, allowed, [Relation(1, 0, left, 1.0)]) == [1, 0]
