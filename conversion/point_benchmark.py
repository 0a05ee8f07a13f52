"""A dataset with points -> the form of the PV-Oops benchmark (Point-VOS, App. B): a reference frame and few true masks.

The rules (`conversion.benchmark_rules`) are for raw annotations. The published validation file is their result: all
points of an object lie on its reference frame. An object with points on one frame alone is taken as it is, with its true
masks after that frame.

The points of the reference frame and the true masks of the evaluation frames are kept; all else is unannotated. The
paper's videos have one object each. Here a video keeps its frames from its earliest reference frame on, every object
has its own reference frame, and a video without any object left is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from conversion.benchmark_decisions import explained
from conversion.benchmark_report import write_report
from conversion.benchmark_rules import (
    PAPER,
    PUBLISHED,
    BenchmarkRules,
    Decision,
    Placement,
    place,
    published,
    why_dropped,
)
from conversion.build import NARRATIVES, Conversion
from conversion.formats.vidln import VidLN, best_keyframe, by_keyframe, read_vidln, trace_segment
from conversion.options import BuildOptions
from conversion.questions import Questions
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import DATA_FOLDER, Video, VideoObject, VngDataset
from vng.errors import Problem, UsageError
from vng.points import Points
from vng.records import Reader
from vng.text_files import load_json

OnProblem = Callable[[Problem], None]


def decide(video: Video, traces: Mapping[str, str] | None, rules: BenchmarkRules = PAPER) -> dict[str, Decision]:
    """Object id -> decision; `traces` as of `benchmark_video`."""
    return {
        item.object_id: published(item) or place(item.points, _trace_index(video, item.object_id, traces), rules)
        for item in video.objects
    }


def benchmark_video(
    video: Video, traces: Mapping[str, str] | None, on_problem: OnProblem, file: str = "", rules: BenchmarkRules = PAPER
) -> Video | None:
    """A video in the benchmark's form; None where no object is left.

    Args:
        video: with points, and true masks where there are any. Pseudo-masks are not ground truth and are removed.
        traces: object id -> name of the frame with its mouse trace; None skips the rule about it.
        on_problem: receives dropped objects and videos with the reason, and evaluation frames without a true mask.
        file: file named in problems.
    """

    def note(where: str, reason: str) -> None:
        on_problem(Problem(file, record=video.video_id, field=where, reason=reason, kind="note"))

    placed: dict[str, Placement] = {}
    for key, decision in decide(video, traces, rules).items():
        if traces is not None and decision.trace is None and decision.outcome != PUBLISHED:
            note(f"objects.{key}", "the frame with its mouse trace is unknown or missing: the rule about it is skipped")
        if decision.placement is None:
            note(f"objects.{key}", f"dropped: {why_dropped(decision, rules)}")
        else:
            placed[key] = decision.placement
    if not placed:
        note("", "dropped: no object of this video is left")
        return None
    cropped = _cut(video, placed)
    for item in cropped.objects:
        own = placed[item.object_id].evaluation
        lacking = [video.frame_names[t] for t in own if item.segmentations[t - _start(placed)] is None]
        if lacking:
            note(f"objects.{item.object_id}", f"no true mask in frames to be evaluated ({', '.join(lacking)})")
    return cropped


def _start(placed: Mapping[str, Placement]) -> int:
    return min(item.reference for item in placed.values())


def _cut(video: Video, placed: Mapping[str, Placement]) -> Video:
    """The video from the earliest reference frame on, with the placed objects only."""
    kept = range(_start(placed), len(video.frame_names))
    objects = tuple(_cropped(item, placed[item.object_id], kept) for item in video.objects if item.object_id in placed)
    return replace(
        video,
        frame_names=tuple(video.frame_names[t] for t in kept),
        expressions=tuple(e for e in video.expressions if e.object_id in placed),
        objects=objects,
        frames=None if video.frames is None else video.frames.subset(kept),
    )


def _cropped(item: VideoObject, where: Placement, kept: Sequence[int]) -> VideoObject:
    points = item.points.in_frame(where.reference)
    truth = not item.has_pseudo_masks
    masks = tuple(item.segmentations[t] if truth and t in where.evaluation else None for t in kept)
    moved = Points(points.frame - kept[0], points.xy, points.label)
    quality = replace(item.quality, n_points=len(points), n_held_out=0, point_agreement=None)
    return replace(item, segmentations=masks, points=moved, quality=quality)


def _trace_index(video: Video, object_id: str, traces: Mapping[str, str] | None) -> int | None:
    name = None if traces is None else traces.get(object_id)
    if name is None:
        return None
    if video.frames is not None:
        return video.frames.index_of(name)
    return video.frame_names.index(name) if name in video.frame_names else None


def read_trace_frames(path: Path) -> dict[str, str]:
    """Object id -> frame name, from a JSON object of strings; raises DataError."""
    reader = Reader(load_json(path), path, "")
    return {key: reader.get(key, str) for key in reader.value}


def narrated_trace_frames(video: Video, vidln: VidLN) -> dict[str, str]:
    """Object id -> the key frame that the mouse trace of its nouns covers most; objects without a trace are left out.

    `vidln` must hold the narratives that the video was converted from, in their order.
    """
    boxes: dict[str, dict[int, np.ndarray]] = {}
    for expression in video.expressions:
        if expression.narrative >= len(vidln.narratives):
            continue
        narrative = vidln.narratives[expression.narrative]
        if narrative.caption != video.narratives[expression.narrative].description:
            continue
        positions = by_keyframe(trace_segment(narrative, expression.start, expression.end))
        own = boxes.setdefault(expression.object_id, {})
        for index, xy in positions.items():
            if index not in own or np.ptp(xy, axis=0).prod() > np.ptp(own[index], axis=0).prod():
                own[index] = xy
    best = {name: best_keyframe(positions) for name, positions in boxes.items()}
    return {name: vidln.keyframe_names[index] for name, index in best.items() if index is not None}


def _check_traces(
    narratives: Path | None, trace_frames: Path | None, questions: Path | None, points: Path | None
) -> None:
    """Raise UsageError for sources of mouse traces that do not go together."""
    if sum(path is not None for path in (narratives, trace_frames, questions)) > 1:
        raise UsageError("--narratives, --questions and --trace-frames all give the mouse traces: use one of them")
    if (questions is None) != (points is None):
        raise UsageError("--questions and --points go together: the points say which object has which question")


def _listed_traces(trace_frames: Path | None, questions: Path | None, points: Path | None) -> dict[str, str] | None:
    """Object id -> frame of its mouse trace, from one of the files; None without them."""
    if questions is not None and points is not None:
        return Questions(questions).trace_frames(points)
    return None if trace_frames is None else read_trace_frames(trace_frames)


def benchmark_conversion(
    options: BuildOptions,
    *,
    source: Path,
    narratives: Path | None = None,
    trace_frames: Path | None = None,
    questions: Path | None = None,
    points: Path | None = None,
) -> Conversion:
    """A VNG dataset with points -> one in the benchmark's form.

    Args:
        options: settings common to all conversions.
        source: folder of the dataset.
        narratives: the VidLN narratives that the dataset was converted from.
        trace_frames: a JSON object {object id: name of the frame with its mouse trace}, instead of `narratives`.
        questions: VidLN's location questions, whose traces the annotators were shown, instead of `narratives`.
            Without all three, the rule about the mouse trace is skipped.
        points: the Point-VOS file of the dataset; it has the objects' questions.
    """
    _check_traces(narratives, trace_frames, questions, points)
    if options.link_frames:
        raise UsageError("--link-frames: a benchmark embeds its frames; omit this option")
    made = _Benchmark(options, source, narratives, _listed_traces(trace_frames, questions, points))
    given = {"narratives": narratives, "trace frames": trace_frames, "questions": questions, "points": points}
    inputs = {"dataset": source / DATA_FOLDER} | {name: path for name, path in given.items() if path is not None}
    return Conversion(
        kind="point-benchmark",
        title=f"{source.name}, benchmark",
        inputs=inputs,
        options=options,
        read=made.read,
        make=made.make,
        explain=made.explain,
        report=write_report,
        more={"rules": asdict(PAPER)},
    )


class _Benchmark:
    """A source of videos and mouse traces, read video by video."""

    def __init__(
        self, options: BuildOptions, source: Path, narratives: Path | None, traces: Mapping[str, str] | None
    ) -> None:
        self.options, self.source, self.narratives, self.listed_traces = options, source, narratives, traces
        self.videos = VngDataset(source)
        self.index = {name: i for i, name in enumerate(self.videos.video_ids)}

    def read(self, spool: SpoolWriter) -> None:
        """Add the wanted videos, and the trace frames of their narratives."""
        wanted = Wanted(self.options)
        for name in self.index:
            if wanted.video(name) and wanted.listed_video(name):
                spool.add(NARRATIVES, name, Item(name, "", None))
        wanted.report_missing(spool, {NARRATIVES: self.source})
        for vidln in () if self.narratives is None else read_vidln(self.narratives, spool.problem):
            if spool.has(NARRATIVES, vidln.video_id):
                frames = narrated_trace_frames(self.videos[self.index[vidln.video_id]], vidln)
                spool.add("traces", vidln.video_id, Item(vidln.video_id, vidln.line, frames))

    def make(self, spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        """The row of a video."""
        video, options = self.videos[self.index[name]], self.options
        renamed = replace(video, dataset=options.dataset or video.dataset, split=options.split or video.split)
        row = benchmark_video(renamed, self._traces(spool, name), problems.append, str(self.source))
        return [] if row is None else [row]

    def explain(self, spool: Spool, name: str) -> list[dict[str, Any]]:
        """The decisions about a video's objects."""
        video = self.videos[self.index[name]]
        decisions = decide(video, self._traces(spool, name))
        return [explained(video, item, decisions[item.object_id]).as_json() for item in video.objects]

    def _traces(self, spool: Spool, name: str) -> Mapping[str, str] | None:
        if self.narratives is None:
            return self.listed_traces
        return {key: frame for item in spool.items("traces", name) for key, frame in item.body.items()}
