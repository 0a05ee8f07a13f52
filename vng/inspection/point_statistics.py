"""Figures of point annotations as in Point-VOS, beside the published ones (2402.05917, Tables 1, 11, Figs. 9, 10).

A "video" in the paper's figures is one object of one video, as in the publisher's program: the bars of its Fig. 10a add
up to about 12K, the objects of Point-VOS Oops, not to its 7.4K videos. Here they are called objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np

from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points

FRAMES_GIVEN = 10  # frames per video shown to annotators
BIN, LAST_BIN = 10, 200  # points per bar of Fig. 10, and the end of its last bar
PLACES = "negative places"  # negatives, where those shared by several objects of a frame are counted once
_SUFFIXES = {"K": 1_000, "M": 1_000_000}
_LABELS = {POSITIVE: "positive", NEGATIVE: "negative", AMBIGUOUS: "ambiguous"}


@dataclass(kw_only=True)
class PointStatistics:
    """Figures accumulated object by object; memory grows with the names of videos and frames, not with points."""

    objects: int = 0
    object_frames: int = 0  # frames with a point, counted for each object; the tables' "annotations"
    points: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_LABELS.values(), 0)))
    by_positive_frames: Counter[int] = field(default_factory=Counter)  # objects by frames with a positive (Fig. 9)
    by_positives: Counter[int] = field(default_factory=Counter)  # objects by bar of Fig. 10
    by_negatives: Counter[int] = field(default_factory=Counter)
    negative_places: int | None = None  # negatives, shared ones counted once; None where not counted
    _videos: set[str] = field(default_factory=set)
    _frames: set[tuple[str, Hashable]] = field(default_factory=set)
    _unknown: bool = False

    def add(self, video: str | None, frames: Sequence[Hashable], labels: Sequence[int]) -> None:
        """Count one object.

        Args:
            video: its video's name; None where unknown, and then `videos` and `frames` are unknown.
            frames, labels: frame name or index, and label, of each of its points; of one length.
        """
        self.objects += 1
        annotated = set(frames)
        self.object_frames += len(annotated)
        counts = Counter(labels)
        for label, name in _LABELS.items():
            self.points[name] += counts[label]
        positive = {frame for frame, label in zip(frames, labels, strict=True) if label == POSITIVE}
        self.by_positive_frames[len(positive)] += 1
        self.by_positives[bar_of(counts[POSITIVE])] += 1
        self.by_negatives[bar_of(counts[NEGATIVE])] += 1
        if video is None:
            self._unknown = True
        else:
            self._videos.add(video)
            self._frames.update((video, frame) for frame in annotated)

    def add_negative_places(self, objects: Sequence[Points]) -> None:
        """Count the negatives of one video's objects by place: those at the same place count once."""
        negatives = Points.concatenate([points.of(NEGATIVE) for points in objects])
        places = np.unique(np.column_stack([negatives.frame, negatives.xy]), axis=0)
        self.negative_places = (self.negative_places or 0) + len(places)

    @property
    def videos(self) -> int | None:
        """Number of videos; None where the video of an object is unknown."""
        return None if self._unknown else len(self._videos)

    @property
    def frames(self) -> int | None:
        """Number of frames with a point of at least one object; None where the video of an object is unknown."""
        return None if self._unknown else len(self._frames)

    def table(self) -> dict[str, int | None]:
        """The columns of Table 11 in its order, the number of frames, and the places of negatives where counted."""
        shared = {} if self.negative_places is None else {PLACES: self.negative_places}
        return {
            "videos": self.videos,
            "annotations": self.object_frames,
            "objects": self.objects,
            **{f"{name} points": self.points[name] for name in _LABELS.values()},
            "frames": self.frames,
            **shared,
        }

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values; bars without an object are left out."""
        return {
            **self.table(),
            "objects by frames with a positive": {str(n): c for n, c in sorted(self.by_positive_frames.items())},
            "objects by positive points": {bar_name(n): c for n, c in sorted(self.by_positives.items())},
            "objects by negative points": {bar_name(n): c for n, c in sorted(self.by_negatives.items())},
        }


def bar_of(points: int) -> int:
    """The bar of Fig. 10 for a number of points: bar 0 for 0 to 10, bar 1 for 11 to 20, ...; bar 20 above 200."""
    return min(max(points - 1, 0), LAST_BIN) // BIN


def bar_name(bar: int) -> str:
    """The label below a bar of Fig. 10."""
    return f"> {LAST_BIN}" if bar * BIN >= LAST_BIN else f"{bar * BIN}-{(bar + 1) * BIN}"


@dataclass(frozen=True)
class Published:
    """Published figures of one set, as printed."""

    name: str
    table: dict[str, str]
    all_frames_positive: float | None = None  # Fig. 9: share of objects with a positive in all ten frames
    note: str = ""  # how to read the printed figures


def _row(name: str, *values: str, all_frames: float | None = None) -> Published:
    columns = ("videos", "annotations", "objects", "positive points", "negative points", "ambiguous points")
    return Published(name, dict(zip(columns, values, strict=True)), all_frames)


def _simulated(name: str, note: str, videos: str, frames: str, objects: str, positive: str, negative: str) -> Published:
    table = {"videos": videos, "frames": frames, "objects": objects, "positive points": positive, PLACES: negative}
    return Published(f"{name} (Table 11)", {key: value for key, value in table.items() if value}, None, note)


_TRAIN_NOTE = (
    "Annotations of this set are frames, ten a video, and its negatives come to ten a frame ({sum}), whatever the "
    "number of objects: drawn once, for all objects of a frame (`vng convert ... --shared-negatives`). This is read "
    "off the table; the paper does not say so."
)
_VAL_NOTE = (
    "The points are those of {where}; the negatives come to ten a frame ({sum}), drawn once for all objects of it. "
    "This is read off the table; the paper does not say so."
)
PUBLISHED = {
    "oops train": _row(
        "Point-VOS Oops, train (Table 11)", "7.4K", "93K", "12K", "541K", "1.2M", "18K", all_frames=0.403
    ),
    "oops val": _row("Point-VOS Oops, val (Table 11)", "991", "3.5K", "991", "7.3K", "9.9K", "91"),
    "oops": _row("Point-VOS Oops, train and val (Table 1)", "8.4K", "93K", "13.1K", "548K", "1.2M", "18K"),
    "kinetics": _row(
        "Point-VOS Kinetics (Tables 1 and 11)", "23.9K", "965K", "120K", "5.2M", "12.6M", "253K", all_frames=0.486
    ),
    "davis train": _simulated(
        "Point-VOS DAVIS, train", _TRAIN_NOTE.format(sum="600 x 10 = 6K"), "60", "600", "145", "9.7K", "6K"
    ),
    "davis val": _simulated(
        "Point-VOS DAVIS, val",
        _VAL_NOTE.format(
            where="the first frames (its 1.9K annotations are the frames with masks)", sum="30 x 10 = 300"
        ),
        *("30", "", "61", "558", "300"),
    ),
    "youtube train": _simulated(
        "Point-VOS YouTube, train", _TRAIN_NOTE.format(sum="34.6K x 10 = 346K"), "3471", "34.6K", "6.4K", "472K", "346K"
    ),
    "youtube val": _simulated(
        "Point-VOS YouTube, val",
        _VAL_NOTE.format(where="the frames where objects first appear", sum="614 x 10 = 6.1K, printed 6K"),
        *("507", "614", "1K", "9.8K", "6K"),
    ),
}


def published_like(name: str, splits: Iterable[str]) -> Published | None:
    """The published set that annotations appear to be; None for sets that are not from the paper.

    Args:
        name: path of the annotations or name of the data set; "oops", "kinetics", "davis" or "youtube" in it selects
            the set.
        splits: splits of its videos; they select the row of the tables. Only Oops has a row for both.
    """
    lower = name.lower()
    if "kinetic" in lower:
        return PUBLISHED["kinetics"]
    kind = next((kind for kind in ("oops", "davis", "youtube") if kind in lower), None)
    if kind is None:
        return None
    split_names = {"val" if split.startswith("val") else "train" for split in splits} or {"train"}
    return PUBLISHED.get(kind if len(split_names) == 2 else f"{kind} {split_names.pop()}")


@dataclass(frozen=True)
class Comparison:
    """One figure beside the published one."""

    name: str
    here: int | None
    published: str
    difference: float | None  # relative difference from the published figure; None without one
    agrees: bool

    @property
    def verdict(self) -> str:
        """The difference as text."""
        if self.difference is None:
            return ""
        return "agrees as printed" if self.agrees else f"{self.difference:+.1%}"


def compare(statistics: PointStatistics, published: Published) -> list[Comparison]:
    """Every figure of the table beside the published one.

    A figure agrees when rounding or truncating it gives the printed one.
    """
    rows = []
    for name, here in statistics.table().items():
        printed = published.table.get(name, "")
        if here is None or not printed:
            rows.append(Comparison(name, here, printed, None, False))
            continue
        value, unit = parse_printed(printed)
        rows.append(Comparison(name, here, printed, here / value - 1, value - unit / 2 <= here < value + unit))
    return rows


def parse_printed(text: str) -> tuple[float, float]:
    """The value of a printed figure and the step of its last digit: "7.4K" gives (7400, 100)."""
    scale = _SUFFIXES.get(text[-1], 1)
    digits = text.rstrip("KM")
    decimals = len(digits.partition(".")[2])
    return float(digits) * scale, scale / 10**decimals


def table_rows(statistics: PointStatistics, published: Published | None) -> list[tuple[str, str, str, str]]:
    """Rows (figure, here, published, difference) as text; the last two are "" without a published set."""
    empty = Published("", {})
    return [
        (row.name, "unknown" if row.here is None else f"{row.here:,}", row.published, row.verdict)
        for row in compare(statistics, published or empty)
    ]


def all_frames_text(statistics: PointStatistics, published: Published | None) -> str:
    """The main result of Fig. 9: the share of objects with a positive in every frame shown to annotators."""
    share = statistics.by_positive_frames[FRAMES_GIVEN] / max(1, statistics.objects)
    text = f"{share:.1%} of the objects have a positive point in all {FRAMES_GIVEN} frames"
    if published and published.all_frames_positive is not None:
        text += f" (published: {published.all_frames_positive:.1%})"
    return text + "."


def plot_frames(statistics: PointStatistics) -> bytes:
    """Fig. 9 as a bar plot: share of objects by number of frames with a positive point. A PNG."""
    counts = statistics.by_positive_frames
    most = max([FRAMES_GIVEN, *counts])
    places = list(range(most + 1))
    heights = [100 * counts[n] / max(1, statistics.objects) for n in places]
    figure, axes = _figure(6.4)
    bars = axes.bar(places, heights, color="#3b6fb6")
    axes.bar_label(bars, [f"{height:.1f}" if height else "" for height in heights], fontsize=8, padding=1)
    axes.set(xlabel="frames with a positive point", ylabel="objects, %", xticks=places)
    axes.margins(y=0.1)
    return _png(figure)


def plot_points(statistics: PointStatistics) -> bytes:
    """Fig. 10 as a bar plot: objects by number of their positive and of their negative points. A PNG."""
    kinds = (
        ("positive points", statistics.by_positives, "#3b6fb6"),
        ("negative points", statistics.by_negatives, "#d98324"),
    )
    last = LAST_BIN // BIN if any(LAST_BIN // BIN in counts for _, counts, _ in kinds) else LAST_BIN // BIN - 1
    places = list(range(last + 1))
    figure, axes = _figure(11.0)
    for side, (name, counts, colour) in zip((-0.21, 0.21), kinds, strict=True):
        heights = [counts[bar] for bar in places]
        bars = axes.bar([place + side for place in places], heights, width=0.42, color=colour, label=name)
        axes.bar_label(bars, [f"{n}" if n else "" for n in heights], fontsize=7, padding=2, rotation=90)
    axes.set(xlabel="points of the object", ylabel="objects")
    axes.set_xticks(places, [bar_name(place) for place in places], rotation=45, ha="right", fontsize=8)
    axes.margins(x=0.01, y=0.12)
    axes.legend(frameon=False)
    return _png(figure)


def _figure(width: float) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: Any) -> bytes:
    data = BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()
