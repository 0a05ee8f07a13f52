"""Agreement of method rankings from a few and from all annotated frames (Point-VOS, 2402.05917, Appendix A, Figure 8).

Each results folder is a method. Its dense J&F counts every frame of a protocol; its sparse J&F only k of a video's
frames, evenly spaced. The agreement of the two orders is measured with Spearman's and Kendall's (tau-b) coefficients.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vng.dataset import Video
from vng.errors import UsageError
from vng.evaluation.bootstrap import drawn_groups, percentile_interval, weighted_means
from vng.evaluation.figures import folder_names, none_if_nan, percent
from vng.evaluation.predictions import Missing
from vng.evaluation.vos.scores import Protocol, Run, VosScores, evaluate_vos, on_frames
from vng.frames import evenly_spaced
from vng.pages import embed_image, render_page

COUNTS = (1, 2, 3, 5, 10)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Sparse scores on k frames per video beside the dense ones; NaN where undefined (equal scores, two methods)."""

    frames: int
    scores: tuple[float, ...]  # J&F of each method
    spearman: float
    low: float  # bootstrap interval of Spearman's over videos
    high: float
    kendall: float
    swapped: int  # pairs of methods whose order changes
    widest: float  # largest dense difference of such a pair, 0 where there is none
    error: float  # mean absolute difference from the dense J&F


@dataclass(frozen=True)
class FrameSparsity:
    """The study over all methods."""

    methods: tuple[str, ...]
    dense: tuple[float, ...]
    agreements: tuple[Agreement, ...]

    def as_json(self) -> dict[str, Any]:
        """{"methods": {name: dense J&F}, "frames": {k: {...}}}, shares in [0, 1]."""
        rows = {}
        for item in self.agreements:
            row = {
                key: none_if_nan(value) if isinstance(value, float) else value for key, value in asdict(item).items()
            }
            row["scores"] = dict(zip(self.methods, item.scores, strict=True))
            rows[str(item.frames)] = row
        return {"methods": dict(zip(self.methods, self.dense, strict=True)), "frames": rows}


def study_frame_sparsity(
    videos: Iterable[Video],
    runs: Sequence[Run],
    counts: Sequence[int] = COUNTS,
    protocol: Protocol | None = None,
    missing: Missing = "error",
    seed: int = 0,
) -> FrameSparsity:
    """Score every run densely, and on k frames per video for each k of `counts`.

    Args:
        videos: the ground truth, annotated on many frames.
        runs: one per method, two or more.
        counts: numbers of frames per video.
        protocol: protocol of the dense score; DAVIS 2017 by default.
        missing: as `evaluate_vos`.
        seed: seed of the resampling of videos for the interval.

    Raises:
        UsageError: fewer than two runs. Also the errors of `evaluate_vos`.
    """
    if len(runs) < 2:
        raise UsageError("frame sparsity compares methods; give two or more folders of results")
    scores = evaluate_vos(videos, runs, protocol or Protocol(), missing)
    groups = np.unique([score.video for score in scores[0].objects], return_inverse=True)[1]
    dense = _object_scores(scores, scores)
    agreements = []
    for k in counts:
        sparse = _object_scores([on_frames(run, _chosen(run, k)) for run in scores], scores)
        agreements.append(_agreement(k, dense, sparse, groups, seed))
    return FrameSparsity(
        folder_names([run.folder for run in runs]), tuple(float(v) for v in np.nanmean(dense, 1)), tuple(agreements)
    )


def _chosen(scores: VosScores, k: int) -> dict[str, set[str]]:
    """k frames of each video among those that count for any of its objects."""
    chosen = {}
    for video, objects in scores.sequences.items():
        frames = sorted({name for score in objects for name in score.frames}, key=_order(objects))
        chosen[video] = set(evenly_spaced(frames, k, single="middle"))
    return chosen


def _order(objects: Sequence[Any]) -> Any:
    """Sort key of frame names in time order: the longest object's list, then names it lacks."""
    longest = max(objects, key=lambda score: len(score.frames)).frames
    place = {name: i for i, name in enumerate(longest)}
    return lambda name: (place.get(name, len(place)), name)


def _object_scores(scores: Sequence[VosScores], of: Sequence[VosScores]) -> np.ndarray:
    """J&F [M, K] of methods and objects, objects as in `of`; NaN where an object has no chosen frame."""
    places = {(s.video, s.object_id): k for k, s in enumerate(of[0].objects)}
    table = np.full((len(scores), len(places)), np.nan)
    for m, run in enumerate(scores):
        for score in run.objects:
            table[m, places[score.video, score.object_id]] = score.jf
    return table


def _agreement(k: int, dense: np.ndarray, sparse: np.ndarray, groups: np.ndarray, seed: int) -> Agreement:
    from scipy.stats import kendalltau

    full, few = np.nanmean(dense, 1), np.nanmean(sparse, 1)
    swapped = np.triu(np.sign(full[:, None] - full) * np.sign(few[:, None] - few) < 0)
    low, high = percentile_interval(_resampled(dense, sparse, groups, seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NaN where all methods score the same
        kendall = float(kendalltau(full, few).statistic)
    return Agreement(
        frames=k,
        scores=tuple(float(v) for v in few),
        spearman=float(_spearman(full[None], few[None])[0]),
        low=low,
        high=high,
        kendall=kendall,
        swapped=int(swapped.sum()),
        widest=float(np.abs(full[:, None] - full)[swapped].max(initial=0.0)),
        error=float(np.abs(full - few).mean()),
    )


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's coefficient of each row of two arrays [R, M]; NaN where all values of a row are equal."""
    from scipy.stats import rankdata

    a, b = (rankdata(values, axis=1) for values in (first, second))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def _resampled(dense: np.ndarray, sparse: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Spearman's coefficient over draws of videos with replacement [R]; NaN where all methods are equal."""
    weights = drawn_groups(int(groups.max()) + 1, seed)[:, groups].astype(float)  # [R, K]
    return _spearman(weighted_means(dense, weights), weighted_means(sparse, weights))


def sparsity_table(study: FrameSparsity) -> str:
    """The table to print: agreement by number of frames, then each method's scores."""
    counts = [f"{item.frames} fr." for item in study.agreements]
    lines = [
        f"{len(study.methods)} methods",
        f"{'frames':>6} {'Spearman':>9} {'95 %':>16} {'Kendall':>8} {'swapped':>8} {'widest':>7} {'error':>6}",
    ]
    for item in study.agreements:
        span = f"[{_figure(item.low)}, {_figure(item.high)}]"
        figures = f"{_figure(item.spearman):>9} {span:>16} {_figure(item.kendall):>8}"
        rest = f"{item.swapped:>8} {percent(item.widest):>7} {percent(item.error):>6}"
        lines.append(f"{item.frames:>6} {figures} {rest}")
    width = max(len(name) for name in study.methods)
    lines += ["", f"{'J&F':{width}} {'dense':>7} " + " ".join(f"{name:>7}" for name in counts)]
    for m in np.argsort(-np.array(study.dense)):
        row = " ".join(f"{percent(item.scores[m]):>7}" for item in study.agreements)
        lines.append(f"{study.methods[m]:{width}} {percent(study.dense[m]):>7} {row}")
    return "\n".join(lines)


def _figure(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def plot_sparsity(study: FrameSparsity, path: Path) -> None:
    """Plot dense over sparse J&F as a PNG, one panel per number of frames, one dot per method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    count = len(study.agreements)
    figure, panels = plt.subplots(1, count, figsize=(3.4 * count, 3.6), squeeze=False, constrained_layout=True)
    values = [v for item in study.agreements for v in item.scores] + list(study.dense)
    low, high = 100 * min(values) - 2, 100 * max(values) + 2
    for axes, item in zip(panels[0], study.agreements, strict=True):
        axes.plot([low, high], [low, high], color="grey", linewidth=0.8)
        for m, (few, full) in enumerate(zip(item.scores, study.dense, strict=True)):
            axes.scatter(100 * few, 100 * full, s=22, color=plt.get_cmap("tab20")(m % 20), label=study.methods[m])
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel="sparse J&F")
        axes.set_title(f"{item.frames} frames, Spearman {_figure(item.spearman)}", fontsize=10)
        axes.grid(alpha=0.25)
    panels[0][0].set_ylabel("dense J&F")
    if len(study.methods) <= 20:
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles=handles, labels=labels, loc="outside right center", frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_sparsity_page(study: FrameSparsity, folder: Path) -> None:
    """Write `index.html`, a self-contained page, and its plot as `frame-sparsity.png`."""
    picture = folder / "frame-sparsity.png"
    plot_sparsity(study, picture)
    header = ["frames", "Spearman", "95 %", "Kendall", "swapped pairs", "widest of them", "mean error"]
    rows = [
        [
            a.frames,
            _figure(a.spearman),
            f"{_figure(a.low)} to {_figure(a.high)}",
            _figure(a.kendall),
            a.swapped,
            percent(a.widest),
            percent(a.error),
        ]
        for a in study.agreements
    ]
    footer = "Spearman with its bootstrap interval over videos; "
    footer += "widest: the largest dense difference of a swapped pair"
    methods = [
        [name, percent(full), *(percent(a.scores[m]) for a in study.agreements)]
        for m, (name, full) in enumerate(zip(study.methods, study.dense, strict=True))
    ]
    render_page(
        folder / "index.html",
        title="Sparse and dense ground truth",
        lead="J&F on k evenly spaced frames a video beside J&F on all frames (Point-VOS, Figure 8).",
        footer=footer,
        figures=[("methods", len(study.methods))],
        sections=[
            {"title": "Dense over sparse", "image": embed_image(picture)},
            {"title": "Agreement of the two orders", "header": header, "rows": rows},
            {
                "title": "J&F",
                "header": ["method", "dense", *(f"{a.frames} frames" for a in study.agreements)],
                "rows": methods,
            },
        ],
    )
