"""Tables of a report as the page's script takes them: columns, rows of plain values, courses as per cents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vng.evaluation.report import Case, Pairing, Report
from vng.evaluation.report_plots import thinned

PAGE = 50  # rows shown at a time
FINE, COARSE = 60, 24  # points of a course in a table of up to MANY rows, and of more
MANY = 500


def _column(name: str, kind: str, text: str = "") -> dict[str, str]:
    """kind: text, count, share (0 to 1, shown as per cent with a bar), part (without), change (signed), course."""
    return {"name": name, "kind": kind, "text": text}


def case_table(report: Report, pairing: Pairing | None, anchors: Mapping[str, str]) -> dict[str, Any]:
    """One row a case, hardest first; `anchors` say where on the page a case is shown (key -> id)."""
    rivals = {} if pairing is None else {first.key: second for first, second in pairing.pairs}
    points = FINE if len(report.cases) <= MANY else COARSE
    grouped = any(case.group for case in report.cases)
    columns = [_column(report.unit, "text"), _column("J&F", "share"), *_rival_columns(pairing)]
    columns += [_column("J over time", "course"), _column("video", "text")]
    group = len(columns) if grouped else -1
    columns += [_column("group", "text")] if grouped else []
    columns += [_column("J", "part"), _column("F", "part"), _column("frames", "count", "frames that count")]
    columns += [
        _column(name, "text" if _worded(report, i) else "count", text) for i, (name, text) in enumerate(report.columns)
    ]
    texts = {case.caption: i for i, case in enumerate({c.caption: c for c in report.cases if c.caption}.values())}
    rows = []
    for case in sorted(report.cases, key=lambda c: (c.jf, c.key)):
        rival = rivals.get(case.key)
        cells: list[Any] = [case.name, _share(case.jf), *_rival_cells(case.jf, None if rival is None else rival.jf)]
        cells += [None, case.video, *([case.group] if grouped else [])]
        cells += [_share(case.j), _share(case.f), len(case.frames), *case.more]
        courses = [course(case.frame_j, points)] + ([] if rival is None else [course(rival.frame_j, points)])
        where = {"case": anchors.get(case.key, ""), "text": texts.get(case.caption, -1), "span": case.span}
        rows.append([*cells, {"lines": courses, "frames": _ends(case.frames), **where}])
    table = {"columns": columns, "rows": rows, "page": PAGE, "sort": 1, "group": group, "unit": report.unit}
    table["texts"] = list(texts)
    title = f"All {report.unit}s"
    text = "Hardest first; a heading sorts. A course opens its row: the curve at length, and the narrative where there is one."
    return {"id": "cases", "title": title, "text": text, "table": table}


def video_table(report: Report, pairing: Pairing | None) -> dict[str, Any]:
    """One row a video: means over its cases, and its mean J over time."""
    rivals = {} if pairing is None else {first.key: second for first, second in pairing.pairs}
    videos: dict[str, list[Case]] = {}
    for case in report.cases:
        videos.setdefault(case.video, []).append(case)
    points = FINE if len(videos) <= MANY else COARSE
    columns = [_column("video", "text"), _column("J&F", "share", "mean over its cases"), *_rival_columns(pairing)]
    columns += [_column("J over time", "course"), _column(f"{report.unit}s", "count"), _column("J", "part")]
    columns += [_column("F", "part"), _column("lowest J&F", "part", "of its cases")]
    rows = []
    for video, cases in videos.items():
        jf = _mean([case.jf for case in cases])
        theirs = [rivals[case.key] for case in cases if case.key in rivals]
        cells: list[Any] = [video, _share(jf), *_rival_cells(jf, _mean([c.jf for c in theirs]) if theirs else None)]
        cells += [
            None,
            len(cases),
            _share(_mean([case.j for case in cases])),
            _share(_mean([case.f for case in cases])),
        ]
        cells.append(_share(min(case.jf for case in cases)))
        names, values = _course_of(cases)
        lines = [course(values, points)] + ([course(_course_of(theirs)[1], points)] if theirs else [])
        rows.append([*cells, {"lines": lines, "frames": _ends(names), "case": "", "text": -1, "span": None}])
    rows.sort(key=lambda row: row[1])
    table = {"columns": columns, "rows": rows, "page": PAGE, "sort": 1, "group": -1, "texts": [], "unit": "video"}
    return {"id": "videos", "title": "Videos", "text": "Lowest first.", "table": table}


def course(values: Sequence[float], points: int) -> list[int]:
    """Values over time as whole per cents, at most `points` of them."""
    return [round(100 * v) for v in thinned(values, points)]


def _course_of(cases: Sequence[Case]) -> tuple[list[str], list[float]]:
    """Frames that count for any case, in the order of the longest one, and the mean J of the cases on each."""
    found: dict[str, list[float]] = {}
    for case in sorted(cases, key=lambda c: -len(c.frames)):
        for name, value in zip(case.frames, case.frame_j, strict=True):
            found.setdefault(name, []).append(value)
    names = sorted(found) if len({len(name) for name in found}) == 1 else list(found)
    return names, [_mean(found[name]) for name in names]


def _ends(names: Sequence[str]) -> list[str]:
    return [names[0], names[-1]] if names else []


def _rival_columns(pairing: Pairing | None) -> list[dict[str, str]]:
    if pairing is None:
        return []
    return [_column(f"J&F of {pairing.second.name}", "share"), _column("difference", "change")]


def _rival_cells(value: float, rival: float | None) -> list[float | None]:
    return [] if rival is None else [_share(rival), _share(value - rival)]


def _worded(report: Report, index: int) -> bool:
    return any(isinstance(case.more[index], str) for case in report.cases)


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
