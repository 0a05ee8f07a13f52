"""The record of a report, common to all protocols: figures, cases, and a viewer of cases.

A *case* is one scored item: an expression of a narrative, an object of a video. `page` writes the page, `from_masks`
and `from_points` fill the record from the scores of a protocol.

Shapes: T frames that count, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vng.errors import DataError
from vng.evaluation.bootstrap import Measure, PairedDifference, paired_difference
from vng.evaluation.figures import none_if_nan, p_value, percent, span
from vng.points import Points

Box = tuple[int, int, int, int]  # top, left, bottom, right; half-open
Value = float | int | str | None


@dataclass(frozen=True)
class Scale:
    """Names of the measures of a report's cases, all shares.

    Attributes:
        score: the measure that ranks cases.
        parts: the measures it is made of.
        courses: the measures of each frame; the first one is drawn thick, a second one thin.
        truth: the label of pictures of the ground truth.
        legend: how the ground truth is drawn.
    """

    score: str
    parts: tuple[str, ...]
    courses: tuple[str, ...]
    truth: str = "truth"
    legend: str = "truth (white outlines on predictions)"


J_AND_F = Scale("J&F", ("J", "F"), ("J", "F"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scored item; shares in [0, 1], NaN where undefined.

    Attributes:
        key: unique among all cases; the same item has the same key in every report of its dataset.
        video: id of its video.
        name: the noun, or the name of the object.
        group: value by which tables can be filtered; "" for none.
        score, parts: its values of the scale's measures.
        frames: names of the frames that count; empty where a protocol has no values per frame.
        courses: values on each of those frames, one course per measure; empty where there are no frames.
        caption, span: the narrative and the span of the noun in it, or "" and None.
        more: its values in the report's further columns.
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
            raise ValueError(f"case {self.key}: expected values for {len(self.frames)} frames, got {counts}")

    @property
    def course(self) -> tuple[float, ...]:
        """The first course; empty where there is none."""
        return self.courses[0] if self.courses else ()


@dataclass(frozen=True, kw_only=True)
class View:
    """One frame of one case: the ground truth as a mask, points or a box, and the prediction."""

    frame: str
    image: np.ndarray  # uint8 [H, W, 3]; grey where the dataset has no pixels
    truth: np.ndarray | None  # bool [H, W]; None where unannotated
    prediction: np.ndarray  # bool [H, W]
    points: Points | None = None
    true_box: Box | None = None
    predicted_box: Box | None = None


Viewer = Callable[[Case, Sequence[str]], list[View]]  # (case, frame names) -> views in this order


@dataclass(frozen=True, kw_only=True)
class Report:
    """The scores of one folder of results under one protocol.

    Attributes:
        name: the name of the results, shown beside others.
        title, lead: title of the page, and its first paragraph: the data scored and the meaning of the figures.
        unit: the word for a case: "expression", "object" or "question".
        measures: headline figures, the most important one first.
        cases: all scored items.
        columns: titles and descriptions of the cases' further columns.
        notes: lines below the tables on skipped items and the reasons.
        viewer: opens frames of a case; None where there are no pictures.
        scale: names of the measures of cases.
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
    tests: tuple[tuple[Measure, PairedDifference], ...]  # one per measure that both reports have

    def as_json(self) -> dict[str, Any]:
        """{"results", "against", measures: {name: {...}}}; shares in [0, 1], differences are results - against."""
        tests = {
            measure.name: {
                "results": none_if_nan(paired.first),
                "against": none_if_nan(paired.second),
                "difference": none_if_nan(paired.difference),
                "low": none_if_nan(paired.low),
                "high": none_if_nan(paired.high),
                "p": none_if_nan(paired.p),
            }
            for measure, paired in self.tests
        }
        return {"results": self.first.name, "against": self.second.name, "measures": tests}

    def table(self) -> str:
        """The table to print: each figure of both in per cent, the difference, its 95 % interval, p."""
        one, other = self.first.name, self.second.name
        width = max(20, *(len(measure.name) for measure, _ in self.tests))
        columns = [max(7, len(name)) for name in (one, other)]
        head = f"{'':{width}} {one:>{columns[0]}} {other:>{columns[1]}} {'diff.':>7} {'95 % interval':>17} {'p':>7}"
        lines = [head]
        for measure, paired in self.tests:
            figures = f"{percent(paired.first):>{columns[0]}} {percent(paired.second):>{columns[1]}}"
            rest = (
                f"{percent(paired.difference, '+'):>7} {span(paired.low, paired.high, '+'):>17} {p_value(paired.p):>7}"
            )
            lines.append(f"{measure.name:{width}} {figures} {rest}")
        return "\n".join(lines)


def pair(first: Report, second: Report, seed: int = 0) -> Pairing:
    """Match two reports case by case and test every measure that both have (paired bootstrap over videos).

    Raises:
        DataError: one of them has a case that the other lacks.
    """
    second_cases = {case.key: case for case in second.cases}
    unmatched = [case.key for case in first.cases if case.key not in second_cases]
    unmatched += sorted(set(second_cases) - {case.key for case in first.cases})
    if unmatched:
        reason = f"{len(unmatched)} {first.unit}s are scored in only one of {first.name} and {second.name}"
        raise DataError(
            second.name, record=unmatched[0], reason=reason, cure="compare results of one dataset and protocol"
        )
    measures = {measure.name: measure for measure in second.measures}
    tests = [
        (measure, paired_difference(measure.ratio, measures[measure.name].ratio, seed))
        for measure in first.measures
        if measure.name in measures
    ]
    pairs = tuple((case, second_cases[case.key]) for case in first.cases)
    return Pairing(first, second, pairs, tuple(tests))
