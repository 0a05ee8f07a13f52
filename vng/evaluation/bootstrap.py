"""Uncertainty of scores: bootstrap intervals over groups (videos), and the paired difference of two methods.

Items of one video are correlated, so whole videos are drawn, with replacement, and a figure is recomputed from all
items of the videos drawn (the cluster bootstrap: Field and Welsh, Bootstrapping clustered data, JRSS B 69, 2007).
Intervals are percentiles of those draws (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, Sec. 13.3). With
few videos they are too narrow.

Shapes: R draws, V videos, K items, P parts of a figure.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES, CONFIDENCE = 2000, 0.95
BLOCK = 2_000_000  # random numbers held in memory at a time


@dataclass(frozen=True)
class Ratio:
    """A figure that is a ratio of sums over items, or the mean of several such ratios.

    Attributes:
        groups: the group of each of the K items, drawn as a whole: its video.
        above, below: float [P, K]; the figure is the mean over P of sum(above) / sum(below).
    """

    groups: tuple[Hashable, ...]
    above: np.ndarray
    below: np.ndarray

    @staticmethod
    def of(groups: Sequence[Hashable], above: ArrayLike, below: ArrayLike | None = None) -> Ratio:
        """The ratio sum(above) / sum(below); without `below` the mean of `above`."""
        top = np.asarray(above, np.float64).reshape(1, -1)
        bottom = np.ones_like(top) if below is None else np.asarray(below, np.float64).reshape(1, -1)
        return Ratio(tuple(groups), top, bottom)

    @staticmethod
    def mean_of(ratios: Sequence[Ratio]) -> Ratio:
        """The mean of ratios over the same items."""
        above, below = (np.concatenate([getattr(r, name) for r in ratios]) for name in ("above", "below"))
        return Ratio(ratios[0].groups, above, below)

    def of_items(self, chosen: np.ndarray) -> Ratio:
        """The same figure over the items where `chosen`, bool [K], is True."""
        return Ratio(self.groups, self.above * chosen, self.below * chosen)

    @property
    def items(self) -> int:
        """Number of items that count."""
        return int((self.below != 0).any(0).sum())

    @property
    def value(self) -> float:
        """The figure; NaN where one of its parts divides by zero."""
        return float(_divided(self.above.sum(1), self.below.sum(1)).mean())

    @property
    def counted_groups(self) -> list[Hashable]:
        """Groups of the items that count, without repeats."""
        counts = (self.below != 0).any(0)
        return list(dict.fromkeys(group for group, counted in zip(self.groups, counts, strict=True) if counted))

    def sums(self, order: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
        """Sums (above, below) [P, V] over the items of each of these groups, in this order."""
        place = {group: v for v, group in enumerate(order)}
        # all other groups are summed in one extra column, cut off below
        index = np.array([place.get(group, len(order)) for group in self.groups], int)
        summed = np.zeros((2, len(self.above), len(order) + 1))
        for rows, table in zip(summed, (self.above, self.below), strict=True):
            for row, values in zip(rows, table, strict=True):
                np.add.at(row, index, values)
        return summed[0, :, :-1], summed[1, :, :-1]


@dataclass(frozen=True)
class Measure:
    """A named figure with a description of one line."""

    name: str
    ratio: Ratio
    text: str = ""


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """Two methods on the same videos: the difference first - second, its 95 % interval and its p value.

    `p` is two-sided: twice the share of draws on the smaller side of zero, computed as (n + 1) / (R + 1), so never 0.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float


def drawn_groups(count: int, seed: int = 0) -> np.ndarray:
    """Number of times each of `count` groups occurs in each draw with replacement: int [R, count]."""
    return np.concatenate(list(_draws(count, seed)))


def _draws(count: int, seed: int) -> Iterator[np.ndarray]:
    """The rows of `drawn_groups`, in blocks of bounded size."""
    rng = np.random.default_rng(seed)
    block = max(1, min(RESAMPLES, BLOCK // count))
    for start in range(0, RESAMPLES, block):
        rows = range(start, min(RESAMPLES, start + block))
        yield np.stack([np.bincount(rng.integers(count, size=count), minlength=count) for _ in rows])


def weighted_means(table: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means [R, M] of a table [M, K] over its entries that are not NaN, for weights [R, K]."""
    valid = ~np.isnan(table)
    return (weights @ np.where(valid, table, 0).T) / np.maximum(weights @ valid.T, 1)


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Limits of the middle 95 % of draws [R] without NaN; NaN where there is none."""
    valid = values[~np.isnan(values)]
    if not len(valid):
        return float("nan"), float("nan")
    low, high = np.quantile(valid, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def bootstrap_interval(ratio: Ratio, seed: int = 0) -> Interval:
    """A figure with its interval over draws of the groups that count for it."""
    return Interval(ratio.value, *percentile_interval(_resampled([ratio], seed)[0]))


def paired_difference(first: Ratio, second: Ratio, seed: int = 0) -> PairedDifference:
    """The difference of two methods' figures, both computed from the same draws."""
    one, other = _resampled([first, second], seed)
    drawn = one - other
    drawn = drawn[~np.isnan(drawn)]
    low, high = percentile_interval(drawn)
    p = float("nan")
    if len(drawn):
        p = min(1.0, 2 * (1 + min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))) / (len(drawn) + 1))
    return PairedDifference(first.value, second.value, first.value - second.value, low, high, p)


def _resampled(ratios: Sequence[Ratio], seed: int) -> list[np.ndarray]:
    """The figures [R] of each ratio over the same draws of all groups that count for at least one of them."""
    order = list(dict.fromkeys(group for ratio in ratios for group in ratio.counted_groups))
    if not order:
        return [np.full(0, np.nan) for _ in ratios]
    sums = [ratio.sums(order) for ratio in ratios]
    blocks = [
        [_divided(draws @ above.T, draws @ below.T).mean(-1) for above, below in sums]
        for draws in _draws(len(order), seed)
    ]
    return [np.concatenate(rows) for rows in zip(*blocks, strict=True)]


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Quotient above / below, NaN where below is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)
