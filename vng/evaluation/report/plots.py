"""Plots of a report as inline SVG. Lines have the page's colours by class (a: these results, b: the others).

Plots stretch to the width of their container, so they contain no text; the page adds the labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vng.evaluation.report.record import Case

HEADROOM = 1.15  # height of a histogram, of its highest bar
BINS, STEPS = 20, 24
MOST_POINTS = 400  # of a curve; longer curves are averaged
MOST_DOTS = 2000


def thinned(values: Sequence[float], count: int) -> list[float]:
    """At most `count` values; longer sequences are averaged over runs of consecutive values."""
    if len(values) <= count:
        return list(values)
    edges = np.linspace(0, len(values), count + 1).astype(int)
    return (np.add.reduceat(np.asarray(values, float), edges[:-1]) / np.diff(edges)).tolist()


def curves_svg(lines: Sequence[tuple[str, Sequence[float]]], marks: Sequence[float] = (), height: int = 120) -> str:
    """Shares over time, one line for each (class, values); `marks` are positions in [0, 1] shown as vertical ticks."""
    width = 640
    drawn = [f'<path class="grid" d="M0 {y}H{width}"/>' for y in (0.5, height / 2, height - 0.5)]
    drawn += [f'<path class="tick" d="M{_number(x * width)} 0V{height}"/>' for x in marks]
    for kind, values in lines:
        shown = thinned(values, MOST_POINTS)
        steps = max(1, len(shown) - 1)
        points = [(i * width / steps, (1 - v) * (height - 2) + 1) for i, v in enumerate(shown)]
        if len(points) == 1:
            points.append((width, points[0][1]))
        path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        drawn.append(f'<polyline class="{kind}" points="{path}"/>')
    return _svg(width, height, drawn)


def histogram_svg(groups: Sequence[tuple[str, Sequence[float]]], height: int = 150) -> tuple[str, int]:
    """Histogram over twentieths of [0, 1], for each (class, values) side by side; (SVG, count at its upper edge).

    The upper edge lies above the highest bar, so that its label covers none.
    """
    counts = [np.histogram(np.clip(values, 0, 1), BINS, (0, 1))[0] for _, values in groups]
    highest = math.ceil(HEADROOM * max(1, *(int(c.max()) for c in counts)))
    width, bar = 640, 640 / BINS
    each = (bar - 4) / len(groups)
    drawn = [f'<path class="grid" d="M0 {y}H{width}"/>' for y in (0.5, height / 2, height - 0.5)]
    for g, ((kind, _), row) in enumerate(zip(groups, counts, strict=True)):
        for i, count in enumerate(row.tolist()):
            if count:
                bar_height = count / highest * (height - 2)
                place = f'x="{_number(i * bar + 2 + g * each)}" y="{_number(height - bar_height)}"'
                low, high = round(100 * i / BINS), round(100 * (i + 1) / BINS)
                size = f'width="{_number(each)}" height="{_number(bar_height)}"'
                drawn.append(f'<rect class="{kind}" {place} {size}><title>{low} to {high}: {count}</title></rect>')
    return _svg(width, height, drawn), highest


def scatter_svg(pairs: Sequence[tuple[float, float]], side: int = 320) -> str:
    """Each case's score in one set of results (x) over that in the other (y); at most 2,000 evenly chosen dots."""
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(MOST_DOTS, len(pairs))).round().astype(int)).tolist()
    drawn = [
        f'<path class="grid" d="M0.5 0.5H{side - 0.5}V{side - 0.5}H0.5Z"/>',
        f'<path class="grid" d="M0 {side}L{side} 0"/>',
    ]
    for i in chosen:
        x, y = pairs[i]
        drawn.append(f'<circle class="a" cx="{_number(x * side)}" cy="{_number((1 - y) * side)}" r="3"/>')
    return _svg(side, side, drawn, stretch=False)


def mean_course(cases: Sequence[Case]) -> list[float]:
    """The mean of all cases' courses, in 24 steps from the first to the last frame that counts of each."""
    tables = [np.interp(np.linspace(0, 1, STEPS), _places(len(c.course)), c.course) for c in cases if c.course]
    return np.mean(tables, 0).tolist() if tables else []


def _places(count: int) -> np.ndarray:
    return np.linspace(0, 1, count) if count > 1 else np.zeros(1)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _svg(width: int, height: int, drawn: Sequence[str], stretch: bool = True) -> str:
    ratio = ' preserveAspectRatio="none"' if stretch else ""
    # no xmlns: HTML does not need it, and a self-contained page names no address
    return f'<svg viewBox="0 0 {width} {height}"{ratio} aria-hidden="true">{"".join(drawn)}</svg>'
