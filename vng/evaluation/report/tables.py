"""Tables of a report in the form that the page's script reads: columns, rows of plain values, courses in per cent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vng.evaluation.report.plots import thinned
from vng.evaluation.report.record import Case, Pairing, Report

PAGE = 50  # rows shown at a time
FINE, COARSE = 60, 24  # points per course in a table of up to MANY rows, and of more
MANY = 500


def _column(name: str, kind: str, text: str = "") -> dict[str, str]:
    """A column; kind: text, count, share (0 to 1, shown in per cent with a bar), part (no bar), change, course."""
    return {"name": name, "kind": kind, "text": text}


def case_table(report: Report, pairing: Pairing | None, anchors: Mapping[str, str]) -> dict[str, Any]:
    """One row per case, hardest first; `anchors` are the ids of cases shown on the page (key -> id)."""
    rivals = {} if pairing is None else {first.key: second for first, second in pairing.pairs}
    points = FINE if len(report.cases) <= MANY else COARSE
    grouped = any(case.group for case in report.cases)
    scale = report.scale
    columns = [_column(report.unit, "text"), _column(scale.score, "share"), *_rival_columns(pairing)]
    columns += [_column(f"{scale.courses[0]} over time", "course"), _column("video", "text")]
    group = len(columns) if grouped else -1
    columns += [_column("group", "text")] if grouped else []
    columns += [_column(name, "part") for name in scale.parts] + [_column("frames", "count", "frames that count")]
    columns += [
        _column(name, "text" if _has_text(report, i) else "count", text)
        for i, (name, text) in enumerate(report.columns)
    ]
    texts = {case.caption: i for i, case in enumerate({c.caption: c for c in report.cases if c.caption}.values())}
    rows = []
    for case in sorted(report.cases, key=lambda c: (c.score, c.key)):
        rival = rivals.get(case.key)
        rival_score = None if rival is None else rival.score
        cells: list[Any] = [case.name, _share(case.score), *_rival_cells(case.score, rival_score)]
        cells += [None, case.video, *([case.group] if grouped else [])]
        cells += [*(_share(part) for part in case.parts), len(case.frames), *case.more]
        courses = [course(case.course, points)] + ([] if rival is None else [course(rival.course, points)])
        where = {"case": anchors.get(case.key, ""), "text": texts.get(case.caption, -1), "span": case.span}
        rows.append([*cells, {"lines": courses, "frames": _ends(case.frames), **where}])
    table = {"columns": columns, "rows": rows, "page": PAGE, "sort": 1, "group": group, "unit": report.unit}
    table |= {"texts": list(texts), "score": scale.score, "course": scale.courses[0]}
    title = f"All {report.unit}s"
    text = "Hardest first; a heading sorts. "
    text += "A course opens its row: the curve at length, and the narrative where there is one."
    return {"id": "cases", "title": title, "text": text, "table": table}


def video_table(report: Report, pairing: Pairing | None) -> dict[str, Any]:
    """One row per video: means over its cases, and their mean course."""
    rivals = {} if pairing is None else {first.key: second for first, second in pairing.pairs}
    videos: dict[str, list[Case]] = {}
    for case in report.cases:
        videos.setdefault(case.video, []).append(case)
    points = FINE if len(videos) <= MANY else COARSE
    scale = report.scale
    columns = [_column("video", "text"), _column(scale.score, "share", "mean over its cases"), *_rival_columns(pairing)]
    columns += [_column(f"{scale.courses[0]} over time", "course"), _column(f"{report.unit}s", "count")]
    columns += [_column(name, "part") for name in scale.parts] + [
        _column(f"lowest {scale.score}", "part", "of its cases")
    ]
    rows = []
    for video, cases in videos.items():
        score = _mean([case.score for case in cases])
        rival_cases = [rivals[case.key] for case in cases if case.key in rivals]
        rival_score = _mean([c.score for c in rival_cases]) if rival_cases else None
        cells: list[Any] = [video, _share(score), *_rival_cells(score, rival_score), None, len(cases)]
        cells += [_share(_mean(values)) for values in zip(*(case.parts for case in cases), strict=True)]
        cells.append(_share(min(case.score for case in cases)))
        names, values = _course_of(cases)
        lines = [course(values, points)] + ([course(_course_of(rival_cases)[1], points)] if rival_cases else [])
        rows.append([*cells, {"lines": lines, "frames": _ends(names), "case": "", "text": -1, "span": None}])
    rows.sort(key=lambda row: row[1])
    table = {"columns": columns, "rows": rows, "page": PAGE, "sort": 1, "group": -1, "texts": [], "unit": "video"}
    table |= {"score": scale.score, "course": scale.courses[0]}
    return {"id": "videos", "title": "Videos", "text": "Lowest first.", "table": table}


def course(values: Sequence[float], points: int) -> list[int]:
    """Values over time in whole per cent, at most `points` of them."""
    return [round(100 * v) for v in thinned(values, points)]


def _course_of(cases: Sequence[Case]) -> tuple[list[str], list[float]]:
    """Frames that count for any case, in the order of the longest one, and the mean course over the cases."""
    values: dict[str, list[float]] = {}
    for case in sorted(cases, key=lambda c: -len(c.frames)):
        for name, share in zip(case.frames, case.course, strict=True):
            values.setdefault(name, []).append(share)
    names = sorted(values) if len({len(name) for name in values}) == 1 else list(values)
    return names, [_mean(values[name]) for name in names]


def _ends(names: Sequence[str]) -> list[str]:
    return [names[0], names[-1]] if names else []


def _rival_columns(pairing: Pairing | None) -> list[dict[str, str]]:
    if pairing is None:
        return []
    return [_column(f"{pairing.first.scale.score} of {pairing.second.name}", "share"), _column("difference", "change")]


def _rival_cells(value: float, rival: float | None) -> list[float | None]:
    return [] if rival is None else [_share(rival), _share(value - rival)]


def _has_text(report: Report, index: int) -> bool:
    return any(isinstance(case.more[index], str) for case in report.cases)


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _mean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    valid = [value for value in values if not np.isnan(value)]
    return float(np.mean(valid)) if valid else float("nan")
