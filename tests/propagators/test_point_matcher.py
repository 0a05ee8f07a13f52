"""The point-based matcher of PointVIS: each cost by hand, the assignment beside a search over all of them."""

from __future__ import annotations

import time
from itertools import permutations

import numpy as np
import pytest

from vng.errors import UsageError
from vng.propagators.point_matcher import MatcherWeights, PointTable, match, matching_costs

# (frame, object, positive)
ROWS = [(0, 0, True), (0, 1, True), (0, 1, False), (1, 0, True), (2, 1, True)]


def table(rows: list[tuple[int, int, bool]]) -> PointTable:
    frame, owner, positive = (np.array(column) for column in zip(*rows, strict=True))
    return PointTable(frame=frame, owner=owner, positive=positive, xy=np.zeros((len(rows), 2), np.float32))


def test_each_cost_by_hand() -> None:
    covered = np.array(
        [
            [True, False, False, True, False],  # object 0's points alone
            [True, True, True, True, True],  # everything
            [False, False, False, False, False],
        ]
    )
    costs = matching_costs(table(ROWS), covered, np.array([0.1, 0.9, 0.0]), 2)
    # wrong points: object 0 has two positives; object 1 two positives and a negative
    assert costs.points.tolist() == [[0, 0, 2], [2, 1, 2]]
    # positives of others in frames where the object has points: object 0 shows in frames 0, 1; object 1 in 0, 2
    assert costs.others.tolist() == [[0, 1, 0], [1, 1, 0]]
    total = costs.weighted(MatcherWeights())
    assert total[0, 1] == pytest.approx(5 * 0 + 5 * 1 - 2 * 0.9) and total[1, 0] == pytest.approx(10 + 5 - 0.2)
    assert match(total).tolist() == [0, 1]


def test_a_frame_in_which_an_object_has_no_point_does_not_count() -> None:
    rows = [(0, 0, True), (5, 1, True)]
    costs = matching_costs(table(rows), np.array([[True, True]]), np.zeros(1), 2)
    assert costs.others.tolist() == [[0], [0]]


@pytest.mark.parametrize("seed", range(20))
def test_the_assignment_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, proposals = 3, 5
    rows = [(int(t), int(k), bool(rng.random() < 0.7)) for t in range(3) for k in range(count)]
    covered = rng.random((proposals, len(rows))) < 0.5
    cost = matching_costs(table(rows), covered, rng.random(proposals), count).weighted(MatcherWeights())
    best = min(sum(cost[k, r] for k, r in enumerate(choice)) for choice in permutations(range(proposals), count))
    assert cost[np.arange(count), match(cost)].sum() == pytest.approx(best)


def test_too_few_proposals_and_none() -> None:
    assert sorted(match(np.array([[1.0], [0.0], [2.0]])).tolist()) == [-1, -1, 0]
    assert match(np.zeros((2, 0))).tolist() == [-1, -1]


def test_a_negative_weight() -> None:
    with pytest.raises(UsageError, match="weight of others -1"):
        MatcherWeights(others=-1)


def test_a_hundred_proposals_thirty_objects_sixty_frames_take_milliseconds() -> None:
    rng = np.random.default_rng(0)
    rows = [(t, k, True) for t in range(60) for k in range(30)]
    covered = rng.random((100, len(rows))) < 0.05
    points, confidence = table(rows), rng.random(100)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        match(matching_costs(points, covered, confidence, 30).weighted(MatcherWeights()))
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.05
