"""The record a report is made from, whatever the protocol: figures, cases, and how to see a case.

A *case* is what a protocol scores once: an expression of a narrative, an object of a video. `report_page` writes the page,
`report_sources` fills the record from the scores of a protocol.

Shapes: T frames that count, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vng.errors import DataError
from vng.evaluation.bootstrap import Measure, PairedDifference, paired_difference
from vng.evaluation.figures import known, p_value, percent, span
from vng.points import Points

Box = tuple[int, int, int, int]  # top, left, bottom, right; half-open
Value = float | int | str | None


@dataclass(frozen=True)
class Scale:
    """What the cases of a report are measured by: names of shares.

    Attributes:
        score: what cases are ranked by.
        parts: what it is made of.
        courses: what each frame has; the first one is drawn thick, a second one thin.
        truth: what predictions are compared with, under its pictures.
        legend: how it is drawn.
    """

    score: str
    parts: tuple[str, ...]
    courses: tuple[str, ...]
    truth: str = "truth"
    legend: str = "truth (white outlines on predictions)"


J_AND_F = Scale("J&F", ("J", "F"), ("J", "F"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that was scored; shares in [0, 1], NaN where there is none.

    Attributes:
        key: names it among all cases; the same thing has the same key in every report of its dataset.
        name: the noun, or what the object is called.
        group: what tables can be filtered by; "" where there is nothing.
        score, parts: as the report's scale has them.
        frames: names of the frames that count; empty where a protocol has no values of frames.
        courses: likewise, values of each of those frames; none where there are no frames.
        caption, span: the narrative it stands in and where, or "" and None.
        more: its values of the report's further columns.
    """

    key: str
    video: str
    name: str
    group: str
    score: float
    parts: tuple[float, ...]
    frames: tuple[str, ...] = ()
    courses: tuple[tuple[float, ...], ...] = ()
    caption: str = ""
    span: tuple[int, int] | None = None
    more: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        counts = [len(values) for values in self.courses]
        if any(count != len(self.frames) for count in counts) or bool(self.frames) != bool(counts):
            raise ValueError(f"case {self.key}: values for {len(self.frames)} frames are wanted, got {counts}")

    @property
    def course(self) -> tuple[float, ...]:
        """The first of its courses, or nothing."""
        return self.courses[0] if self.courses else ()


@dataclass(frozen=True, kw_only=True)
class View:
    """One frame of one case: what is there, as a mask or points or a box, and what was predicted."""

    frame: str
    image: np.ndarray  # uint8 [H, W, 3]; grey where the dataset has no pixels
    truth: np.ndarray | None  # bool [H, W]; None where not annotated
    prediction: np.ndarray  # bool [H, W]
    points: Points | None = None
    true_box: Box | None = None
    predicted_box: Box | None = None


Viewer = Callable[[Case, Sequence[str]], list[View]]  # the frames of these names, in this order


@dataclass(frozen=True, kw_only=True)
class Report:
    """The scores of one folder of results under one protocol.

    Attributes:
        name: what the results are called, beside others.
        title, lead: of the page; what was scored, and what the figures mean.
        unit: what a case is, "expression" or "object".
        measures: headline figures, the first one the most important.
        scale: what cases are measured by.
        columns: titles of the cases' further columns, and what they are.
        notes: lines below the tables: what was left out, and why.
        viewer: how to see a case; None where there is nothing to see.
    """

    name: str
    title: str
    lead: str
    unit: str
    measures: tuple[Measure, ...]
    cases: tuple[Case, ...]
    columns: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    viewer: Viewer | None = field(default=None, compare=False)
    scale: Scale = J_AND_F


@dataclass(frozen=True)
class Pairing:
    """Two reports of one dataset under one protocol, case by case."""

    first: Report
    second: Report
    pairs: tuple[tuple[Case, Case], ...]
    tests: tuple[tuple[Measure, PairedDifference], ...]  # of each measure of the first

    def as_json(self) -> dict[str, Any]:
        """{"results", "against", measures: {name: {...}}}; shares in [0, 1], differences are results - against."""
        tests = {
            measure.name: {
                "results": known(found.first),
                "against": known(found.second),
                "difference": known(found.difference),
                "low": known(found.low),
                "high": known(found.high),
                "p": known(found.p),
            }
            for measure, found in self.tests
        }
        return {"results": self.first.name, "against": self.second.name, "measures": tests}

    def table(self) -> str:
        """What is printed: each figure of both in per cent, the difference, its 95 % interval, p."""
        one, other = self.first.name, self.second.name
        width = max(20, *(len(measure.name) for measure, _ in self.tests))
        columns = [max(7, len(name)) for name in (one, other)]
        head = f"{'':{width}} {one:>{columns[0]}} {other:>{columns[1]}} {'diff.':>7} {'95 % interval':>17} {'p':>7}"
        lines = [head]
        for measure, found in self.tests:
            figures = f"{percent(found.first):>{columns[0]}} {percent(found.second):>{columns[1]}}"
            rest = f"{percent(found.difference, '+'):>7} {span(found.low, found.high, '+'):>17} {p_value(found.p):>7}"
            lines.append(f"{measure.name:{width}} {figures} {rest}")
        return "\n".join(lines)


def pair(first: Report, second: Report, seed: int = 0) -> Pairing:
    """Match two reports case by case and test every measure that both have (paired bootstrap over videos).

    Raises:
        DataError: one of them has a case or a measure the other lacks.
    """
    theirs = {case.key: case for case in second.cases}
    strange = [case.key for case in first.cases if case.key not in theirs]
    strange += sorted(set(theirs) - {case.key for case in first.cases})
    if strange:
        reason = f"{len(strange)} {first.unit}s are scored in one of {first.name} and {second.name} only"
        raise DataError(
            second.name, record=strange[0], reason=reason, cure="compare results of one dataset and protocol"
        )
    measures = {measure.name: measure for measure in second.measures}
    tests = [
        (measure, paired_difference(measure.ratio, measures[measure.name].ratio, seed))
        for measure in first.measures
        if measure.name in measures
    ]
    pairs = tuple((case, theirs[case.key]) for case in first.cases)
    return Pairing(first, second, pairs, tuple(tests))
