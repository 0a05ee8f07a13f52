"""Decisions of the PV-Oops benchmark as records with frame names: `decisions.jsonl` beside a dataset, and its totals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conversion.benchmark_rules import (
    DROPPED,
    KEPT,
    NO_REFERENCE,
    PAPER,
    PLACED,
    PUBLISHED,
    BenchmarkRules,
    Decision,
    why_dropped,
)
from vng.dataset import Video, VideoObject
from vng.masks import area
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE
from vng.records import Reader
from vng.text_files import parse_json

LABELS = {"positive": POSITIVE, "negative": NEGATIVE, "ambiguous": AMBIGUOUS}
_TEXTS = ("video_id", "object_id", "name", "reason")
_COUNTS = ("frames_before", "annotated_before", *LABELS)
_FRAMES = ("evaluation", "annotated_after", "even", "lacking", "absent")


@dataclass(frozen=True, kw_only=True)
class ExplainedObject:
    """The decision on one object of the source, and its reason, with the names of its video's frames."""

    video_id: str
    object_id: str
    name: str
    outcome: str  # one of `benchmark_rules.KEPT` and `DROPPED`
    reason: str = ""  # why it was dropped
    reference: str | None = None
    frames_before: int = 0  # frames of the video before the reference frame
    annotated_before: int = 0  # of these, with points of the object
    positive: int = 0  # points on the reference frame
    negative: int = 0
    ambiguous: int = 0
    annotated_after: tuple[str, ...] = ()  # frames with points after the reference frame
    even: tuple[str, ...] = ()  # evenly spaced among these
    trace: str | None = None  # the frame with the mouse trace; None where unknown
    replaced: str | None = None  # the frame whose place the trace frame takes
    evaluation: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()  # evaluation frames without a true mask
    absent: tuple[str, ...] = ()  # evaluation frames in which the object is not

    @property
    def kept(self) -> bool:
        """Whether the object is in the benchmark."""
        return self.outcome in KEPT

    @property
    def object_frames(self) -> int:
        """Frames of the benchmark with this object: the reference frame, and evaluation frames where it is not absent."""
        return 1 + len(self.evaluation) - len(self.absent) if self.kept else 0

    def as_json(self) -> dict[str, Any]:
        """Plain values, as a line of `decisions.jsonl`."""
        return asdict(self)


def explained(video: Video, item: VideoObject, decision: Decision, rules: BenchmarkRules = PAPER) -> ExplainedObject:
    """The decision about one object of a video, with names and counts."""
    names, reference = video.frame_names, decision.reference
    after = [t for t in decision.annotated if reference is not None and t > reference]
    masks = [None] * len(names) if item.has_pseudo_masks else list(item.segmentations)
    drawn = {t: masks[t] for t in decision.evaluation}
    here = item.points.in_frame(-1 if reference is None else reference)
    return ExplainedObject(
        video_id=video.video_id,
        object_id=item.object_id,
        name=item.name,
        outcome=decision.outcome,
        reason=why_dropped(decision, rules),
        reference=None if reference is None else names[reference],
        frames_before=reference or 0,
        annotated_before=0 if reference is None else sum(t < reference for t in decision.annotated),
        **{name: len(here.of(label)) for name, label in LABELS.items()},
        annotated_after=tuple(names[t] for t in after),
        even=tuple(names[t] for t in decision.even),
        trace=None if decision.trace is None else names[decision.trace],
        replaced=None if decision.replaced is None else names[decision.replaced],
        evaluation=tuple(names[t] for t in decision.evaluation),
        lacking=tuple(names[t] for t, rle in drawn.items() if rle is None),
        absent=tuple(names[t] for t, rle in drawn.items() if rle is not None and not area(rle)),
    )


def read_decisions(path: Path) -> Iterator[ExplainedObject]:
    """The records of a `decisions.jsonl`; raises DataError for a line that is damaged."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            yield _record(Reader(parse_json(line, path, f"line {number}"), path, f"line {number}"))


def _record(reader: Reader) -> ExplainedObject:
    if (outcome := reader.get("outcome", str)) not in KEPT + DROPPED:
        raise reader.error("outcome", f"expected one of {', '.join(KEPT + DROPPED)}, got {outcome!r}")
    if outcome != NO_REFERENCE:
        reader.get("reference", str)
    values: dict[str, Any] = {key: reader.get(key, str) for key in _TEXTS}
    values |= {key: reader.optional(key, str) for key in ("reference", "trace", "replaced")}
    values |= {key: reader.get(key, int) for key in _COUNTS}
    values |= {key: tuple(reader.items(key, str)) for key in _FRAMES}
    return ExplainedObject(outcome=outcome, **values)


def sentences(item: ExplainedObject, rules: BenchmarkRules = PAPER) -> str:
    """The decision on an object, in a few sentences for people."""
    if not item.kept:
        return f"Dropped: {item.reason}."
    if item.outcome == PUBLISHED:
        start = f"All its points lie on {item.reference}: the published form, taken as it is."
        return f"{start} {_evaluated(item)}"
    before = f"{item.frames_before} frames before it are removed, {item.annotated_before} of them with points."
    return (
        f"{item.reference} is the first frame with at least {rules.reference_positives} positive points. "
        f"{before if item.frames_before else 'It is the first frame of the video.'} {_evaluated(item)}"
    )


def _evaluated(item: ExplainedObject) -> str:
    """The evaluation frames of a kept object, and why these."""
    if not item.evaluation:
        return "No frame is for evaluation."
    told = f"For evaluation: {', '.join(item.evaluation)}"
    if item.outcome == PLACED:
        count = len(item.annotated_after)
        told += f", evenly spaced among the {count} frames with points after it" if count > 1 else ""
        if item.replaced is not None:
            told += f"; {item.trace}, which has the mouse trace, takes the place of {item.replaced}"
        elif item.trace is not None:
            told += f"; {item.trace} has the mouse trace"
        else:
            told += "; the frame with the mouse trace is not known"
    told += "."
    if item.lacking:
        told += f" Without a true mask: {', '.join(item.lacking)}."
    if item.absent:
        told += f" Not in the picture: {', '.join(item.absent)}."
    return told


@dataclass(frozen=True, kw_only=True)
class BenchmarkTotals:
    """Counts of Point-VOS's Table 11 for a benchmark, and what became of the source's objects."""

    videos: int
    objects: int
    object_frames: int  # reference frames, and evaluation frames where the object is not absent
    positive: int  # points on reference frames
    negative: int
    ambiguous: int
    lacking: int  # evaluation frames without a true mask
    outcomes: Mapping[str, int]  # objects of the source

    @staticmethod
    def of(items: Iterable[ExplainedObject]) -> BenchmarkTotals:
        """The totals of all decisions."""
        counts = dict.fromkeys(("objects", "object_frames", *LABELS, "lacking"), 0)
        videos, outcomes = set[str](), dict.fromkeys(KEPT + DROPPED, 0)
        for item in items:
            outcomes[item.outcome] += 1
            if not item.kept:
                continue
            videos.add(item.video_id)
            counts["objects"] += 1
            counts["object_frames"] += item.object_frames
            counts["lacking"] += len(item.lacking)
            for name in LABELS:
                counts[name] += getattr(item, name)
        return BenchmarkTotals(videos=len(videos), outcomes=outcomes, **counts)

    def as_json(self) -> dict[str, float]:
        """The counts, and the means over objects and over object-frames, as plain values."""
        points = {f"{name}_points": getattr(self, name) for name in LABELS}
        counts = {"object_frames": self.object_frames, **points}
        means = {f"{name}_an_object": _mean(count, self.objects) for name, count in counts.items()}
        means |= {f"{name}_an_object_frame": _mean(count, self.object_frames) for name, count in points.items()}
        dropped = {f"dropped_{name.replace(' ', '_')}": self.outcomes[name] for name in DROPPED}
        return counts | means | {"evaluation_frames_without_mask": self.lacking} | dropped


def _mean(total: int, count: int) -> float:
    return round(total / count, 2) if count else 0.0
