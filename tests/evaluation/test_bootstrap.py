"""Intervals and paired tests of scores."""

from __future__ import annotations

import numpy as np
import pytest

from vng.evaluation import bootstrap
from vng.evaluation.bootstrap import Ratio, bootstrap_interval, drawn_groups, paired_difference, weighted_means


def test_draws_are_of_whole_groups() -> None:
    draws = drawn_groups(7)
    assert draws.shape == (bootstrap.RESAMPLES, 7) and (draws.sum(1) == 7).all()
    assert (draws == drawn_groups(7)).all() and (draws != drawn_groups(7, 1)).any()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drawn_groups(5)
    monkeypatch.setattr(bootstrap, "BLOCK", 37)
    assert (drawn_groups(5) == whole).all()


def test_an_interval_of_a_mean(rng: np.random.Generator) -> None:
    values = rng.normal(3.0, 2.0, 400)
    found = bootstrap_interval(Ratio.of(range(400), values))
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.value == pytest.approx(half, rel=0.15)
    assert found.value - found.low == pytest.approx(half, rel=0.15)


def test_alike_items_of_a_video_do_not_narrow_it(rng: np.random.Generator) -> None:
    values = rng.normal(size=30)
    once = bootstrap_interval(Ratio.of(range(30), values))
    often = bootstrap_interval(Ratio.of(np.repeat(range(30), 50).tolist(), np.repeat(values, 50)))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    alone = bootstrap_interval(Ratio.of(range(1500), np.repeat(values, 50)))
    assert alone.high - alone.low < 0.3 * (once.high - once.low)


def test_a_ratio_is_of_sums() -> None:
    ratio = Ratio.of("aab", [1, 2, 3], [2, 2, 0])
    assert ratio.value == 6 / 4 and ratio.items == 2 and ratio.counted_groups == ["a"]
    found = bootstrap_interval(ratio)  # one video counts: it stands in every draw
    assert (found.low, found.high) == (0.75, 0.75)


def test_the_mean_of_two_parts() -> None:
    seen, unseen = Ratio.of("xyz", [1.0, 0, 0], [1, 0, 0]), Ratio.of("xyz", [0, 0.5, 0.1], [0, 1, 1])
    both = Ratio.mean_of([seen, unseen])
    assert both.value == pytest.approx((1 + 0.3) / 2) and both.items == 3
    found = bootstrap_interval(both)
    assert found.low == pytest.approx(0.55) and found.high == pytest.approx(0.75)  # draws with one of both kinds only


def test_nothing_to_count_is_not_known() -> None:
    for ratio in (Ratio.of([], []), Ratio.of("ab", [1, 1], [0, 0])):
        found = bootstrap_interval(ratio)
        assert np.isnan([found.value, found.low, found.high]).all()
        assert np.isnan(paired_difference(ratio, ratio).p)


def test_paired_difference(rng: np.random.Generator) -> None:
    hard = rng.uniform(size=60)
    first, second = Ratio.of(range(60), hard + 0.05 + rng.normal(0, 0.02, 60)), Ratio.of(range(60), hard)
    found = paired_difference(first, second)
    assert found.difference == pytest.approx(first.value - second.value)
    assert 0.04 < found.low < found.difference < found.high < 0.06 and found.p == pytest.approx(2 / 2001)
    back = paired_difference(second, first)
    assert (back.low, back.high, back.p) == pytest.approx((-found.high, -found.low, found.p))
    assert paired_difference(first, first).p == 1.0


def test_no_difference_is_seldom_found(rng: np.random.Generator) -> None:
    values = rng.normal(size=(60, 2, 40))
    small = [paired_difference(Ratio.of(range(40), a), Ratio.of(range(40), b)).p < 0.05 for a, b in values]
    assert 0 < np.mean(small) <= 0.15  # 5 % by design; percentile intervals of 40 are a little narrow


def test_weighted_means_leave_out_what_is_not_known() -> None:
    table, weights = np.array([[1.0, np.nan, 3.0], [2.0, 4.0, 6.0]]), np.array([[1.0, 5.0, 3.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(weighted_means(table, weights), [[2.5, 40 / 9], [0.0, 4.0]])
