"""Scores of video object segmentation as a printed table, JSON and CSV.

Tables show per cent, JSON and CSV hold shares in [0, 1]; undefined values are "-", null or empty.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vng.dataset import VngDataset
from vng.errors import DataError
from vng.evaluation.figures import none_if_nan, percent
from vng.evaluation.metrics import Statistics
from vng.evaluation.vos.scores import ObjectScore, Summary, VosScores
from vng.text_files import parse_json, read_text

POINT_COUNTS = (1, 2, 5, 10)  # of the Point-VOS benchmark (2402.05917, Tab. 3)
COURSE_PARTS = 10  # equal parts of a video, over which the course of J is told
MOST_SEQUENCES = 40  # rows of the printed table; files hold all
HEADER = ("J&F", "J", "recall", "decay", "F", "recall", "decay")


def read_seen(path: Path) -> frozenset[str]:
    """Seen categories from a file with one per line, a YouTube-VOS meta.json, or the objects' names of a VNG dataset.

    Raises:
        DataError: no such file, or no category in it.
    """
    if path.is_dir():
        names = {item.name for video in VngDataset(path) for item in video.objects}
    else:
        text = read_text(path, "check --seen")
        names = _meta_categories(path, text) if text.lstrip().startswith("{") else set(text.split("\n"))
    seen = frozenset(name.strip() for name in names) - {""}
    if not seen:
        raise DataError(
            path, reason="no category in this file", cure="write one category per line, or give a meta.json"
        )
    return seen


def _meta_categories(path: Path, text: str) -> set[str]:
    try:
        videos = parse_json(text, path)["videos"]
        return {str(item["category"]) for video in videos.values() for item in video["objects"].values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = "expected {videos: {video: {objects: {id: {category}}}}}"
        raise DataError(path, field="videos", reason=reason, cure="give the train split's meta.json") from error


def check_categories(scores: VosScores) -> None:
    """Raise DataError where an object has no category, as it is then neither seen nor unseen."""
    unnamed = [s for s in scores.objects if not s.category]
    if unnamed:
        place, reason = f"{unnamed[0].video}: {unnamed[0].object_id}", f"{len(unnamed)} objects have no category"
        raise DataError(
            scores.run.folder,
            record=place,
            field="objects.name",
            reason=reason,
            cure="convert with categories, or leave out --seen",
        )


@dataclass(frozen=True)
class PointCount:
    """Runs with the same number of points."""

    points: int
    values: tuple[float, ...]  # J&F, or G, of each seed

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Standard deviation over seeds (n - 1); NaN for one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else float("nan")


def point_counts(scores: Sequence[VosScores], seen: Collection[str] | None = None) -> list[PointCount]:
    """J&F (G with `seen`) by number of points; empty for a plain folder."""
    values_by_points: dict[int, list[float]] = {}
    for score in scores:
        if score.run.points is not None:
            values_by_points.setdefault(score.run.points, []).append(headline(score, seen))
    return [PointCount(points, tuple(values)) for points, values in sorted(values_by_points.items())]


def benchmark_mean(counts: Sequence[PointCount]) -> float:
    """Mean over 1, 2, 5 and 10 points, each the mean of its seeds; NaN unless all four exist."""
    by_points = {count.points: count.mean for count in counts}
    return float(np.mean([by_points.get(points, float("nan")) for points in POINT_COUNTS]))


def headline(scores: VosScores, seen: Collection[str] | None) -> float:
    """The main figure of a run: G with `seen`, else J&F."""
    return scores.summary().jf if seen is None else scores.overall(seen).g


def as_json(scores: Sequence[VosScores], seen: Collection[str] | None = None) -> dict[str, Any]:
    """All scores: summary, sequences and objects with each frame for each run; benchmarks also by number of points."""
    protocol = scores[0].protocol
    tree: dict[str, Any] = {"protocol": protocol.name, "official": protocol.official}
    tree["runs"] = [_run_json(score, seen) for score in scores]
    tree["left_out"] = [asdict(item) for item in scores[0].left_out]
    if len(scores) == 1:
        tree |= {key: tree["runs"][0][key] for key in ("J&F", "J", "F", "G") if key in tree["runs"][0]}
    if counts := point_counts(scores, seen):
        tree["measure"] = "J&F" if seen is None else "G"
        tree["points"] = {
            str(c.points): {
                "mean": none_if_nan(c.mean),
                "spread": none_if_nan(c.spread),
                "seeds": [none_if_nan(v) for v in c.values],
            }
            for c in counts
        }
        tree["mean"] = none_if_nan(benchmark_mean(counts))
    return tree


def _run_json(scores: VosScores, seen: Collection[str] | None) -> dict[str, Any]:
    tree: dict[str, Any] = {"folder": str(scores.run.folder), "points": scores.run.points, "seed": scores.run.seed}
    tree |= _summary_json(scores.summary())
    if seen is not None:
        overall = scores.overall(seen)
        tree |= {
            "G": none_if_nan(overall.g),
            "seen": _summary_json(overall.seen),
            "unseen": _summary_json(overall.unseen),
        }
    if scores.protocol.name == "click":
        tree["J-course"] = [none_if_nan(value) for value in course(scores)]
    tree["sequences"] = {video: _summary_json(scores.summary(rows)) for video, rows in scores.sequences.items()}
    tree["objects"] = [_object_json(scores, score, seen) for score in scores.objects]
    return tree


def summary_figures(summary: Summary) -> dict[str, float]:
    """The figures of a summary by name, shares in [0, 1]; NaN where undefined."""
    return {
        "J&F": summary.jf,
        "J": summary.j.mean,
        "F": summary.f.mean,
        "J-recall": summary.j.recall,
        "J-decay": summary.j.decay,
        "F-recall": summary.f.recall,
        "F-decay": summary.f.decay,
    }


def _summary_json(summary: Summary) -> dict[str, Any]:
    return {
        "objects": summary.objects,
        **{name: none_if_nan(value) for name, value in summary_figures(summary).items()},
    }


def _object_json(scores: VosScores, score: ObjectScore, seen: Collection[str] | None) -> dict[str, Any]:
    tree: dict[str, Any] = {"video": score.video, "object_id": score.object_id, "category": score.category}
    if seen is not None:
        tree["seen"] = score.category in seen
    tree |= _summary_json(scores.summary([score]))
    del tree["objects"]
    tree["frames"] = {name: [j, f] for name, j, f in zip(score.frames, score.j, score.f, strict=True)}
    return tree


def course(scores: VosScores, parts: int = COURSE_PARTS) -> list[float]:
    """Mean J over objects in equal parts of their frames, first to last: how masks heal, or decay. NaN for no frame."""
    rows = []
    for score in scores.objects:
        j = np.array(score.j, float)
        if len(j) >= parts:
            rows.append([part.mean() for part in np.array_split(j, parts)])
    return [float(v) for v in np.mean(rows, axis=0)] if rows else [float("nan")] * parts


def csv_rows(scores: Sequence[VosScores], seen: Collection[str] | None = None) -> list[dict[str, Any]]:
    """One row per object and run."""
    measures = ("J&F", "J", "J-recall", "J-decay", "F", "F-recall", "F-decay")
    rows = []
    for run in scores:
        for score in run.objects:
            figures = _object_json(run, score, seen)
            rows.append(
                {
                    "run": str(run.run.folder),
                    "points": run.run.points,
                    "seed": run.run.seed,
                    "video": score.video,
                    "object_id": score.object_id,
                    "category": score.category,
                    "seen": figures.get("seen"),
                    "frames": len(score.frames),
                    **{name: figures[name] for name in measures},
                }
            )
    return rows


def table(scores: Sequence[VosScores], seen: Collection[str] | None = None) -> str:
    """The table to print: the overall line, G with `seen`, then sequences (one run) or runs (several)."""
    lines = [_heading(scores[0]), *_benchmark_lines(scores, seen)]
    if len(scores) == 1:
        lines += _one_run(scores[0], seen)
    else:
        lines += _rows([(score.run.name, score.summary()) for score in scores])
    if scores[0].protocol.name == "youtube-vos" and seen is None:
        lines.append("G is not known: --seen says which categories are seen (a list, or the train split's meta.json)")
    reasons: dict[str, int] = {}
    for item in scores[0].left_out:
        reasons[item.reason] = reasons.get(item.reason, 0) + 1
    return "\n".join(lines + [f"left out: {count} x {reason}" for reason, count in reasons.items()])


def _heading(scores: VosScores) -> str:
    name = scores.protocol.name + (", official" if scores.protocol.official else "")
    masks = sum(len(score.frames) for score in scores.objects)
    return f"{name}: {len(scores.sequences):,} sequences, {len(scores.objects):,} objects, {masks:,} masks scored"


def _benchmark_lines(scores: Sequence[VosScores], seen: Collection[str] | None) -> list[str]:
    counts = point_counts(scores, seen)
    if not counts:
        return []
    lines = [f"{'points':>8} {'J&F' if seen is None else 'G':>8} {'+-':>8} {'seeds':>6}"]
    lines += [f"{c.points:>8} {percent(c.mean):>8} {percent(c.spread):>8} {len(c.values):>6}" for c in counts]
    mean = benchmark_mean(counts)
    absent = [str(points) for points in POINT_COUNTS if points not in {c.points for c in counts}]
    note = f"  (no runs with {', '.join(absent)} points)" if absent else ""
    return [*lines, f"{'mean':>8} {percent(mean):>8}{note}", ""]


def _one_run(scores: VosScores, seen: Collection[str] | None) -> list[str]:
    rows: list[tuple[str, Summary]] = [("all", scores.summary())]
    lines: list[str] = []
    if seen is not None:
        overall = scores.overall(seen)
        rows += [("seen", overall.seen), ("unseen", overall.unseen)]
        note = "" if overall.seen.objects and overall.unseen.objects else "  (needs seen and unseen categories)"
        lines = [f"G {percent(overall.g)}{note}"]
    sequences = [(video, scores.summary(objects)) for video, objects in scores.sequences.items()]
    shown = sequences
    if len(sequences) > MOST_SEQUENCES:
        shown = sorted(sequences, key=lambda row: row[1].jf)[:MOST_SEQUENCES]
    lines += _rows([*rows, *shown])
    if scores.protocol.name == "click":
        lines.append("J over the course of a video, in tenths: " + " ".join(percent(v) for v in course(scores)))
    if len(shown) < len(sequences):
        lines.append(f"(the {len(shown)} lowest of {len(sequences)} sequences; --csv and --json hold all)")
    return lines


def _rows(rows: Sequence[tuple[str, Summary]]) -> list[str]:
    width = max(len("sequence"), *(len(name) for name, _ in rows))
    lines = [f"{'':{width}} {'objects':>7} " + " ".join(f"{name:>7}" for name in HEADER)]
    for name, summary in rows:
        figures = [summary.jf, *_figures(summary.j), *_figures(summary.f)]
        lines.append(f"{name:{width}} {summary.objects:>7} " + " ".join(f"{percent(v):>7}" for v in figures))
    return lines


def _figures(values: Statistics) -> tuple[float, float, float]:
    return values.mean, values.recall, values.decay
