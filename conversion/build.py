"""Annotations in, a VNG dataset out: video by video, resumable, going on past bad records.

Every video is one part of the dataset's writer, so that a run killed at any moment goes on where it was and ends in
the same bytes. What could not be used is a `Problem` in `problems.jsonl`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from conversion.nouns import Link, Noun, NounSource, link_records, noun_source, nouns_of
from conversion.official_vng import OVIS_LEAK, TrioFiles, read_trio, with_frames
from conversion.point_vos import PointRecord, read_points
from conversion.pseudo_masks import PointedObject, PseudoMaskSettings, make_pseudo_masks
from conversion.vidln import VidLN, best_keyframe, by_keyframe, read_vidln, trace_segment
from vng.dataset import Video, VideoObject
from vng.dataset_writer import DatasetWriter
from vng.errors import PROBLEMS_FILE, DataError, Problem, UsageError, read_problems
from vng.frames import Frames, find_frames, open_frames
from vng.manifest import file_hash
from vng.narratives import Expression, Narrative
from vng.points import POSITIVE, Points
from vng.propagators import Propagator
from vng.propagators import load as load_propagator
from vng.segmenters import DEFAULT as DEFAULT_SEGMENTER
from vng.segmenters import Segmenter
from vng.segmenters import load as load_segmenter


@dataclass(frozen=True)
class BuildOptions:
    """What a conversion is told beside its inputs."""

    segmenter: str = DEFAULT_SEGMENTER
    checkpoint: str | None = None
    propagator: str | None = None  # None: only annotated frames get masks
    nouns: str = "auto"
    use_trace: bool = True
    pseudo: PseudoMaskSettings = field(default_factory=PseudoMaskSettings)
    link_frames: bool = False  # refer to frames by path instead of embedding them
    dataset: str = ""  # name of the rows; "" takes the annotations' own
    split: str = ""
    limit: int | None = None  # most videos
    progress: bool = True

    def engine(self) -> dict[str, Any]:
        """Options of the segmenter."""
        return {} if self.checkpoint is None else {"checkpoint": self.checkpoint}


@dataclass(frozen=True)
class BuildResult:
    """Totals of the dataset and the problems met."""

    totals: dict[str, int]
    problems: list[Problem]


# One unit of work: the video's name, and how to make its rows; problems go into the list it is given.
Unit = tuple[str, Callable[[list[Problem]], list[Video]]]


def convert_point_vos(points: Path, narratives: Path, frames: Path, out: Path, options: BuildOptions) -> BuildResult:
    """Point-VOS points and VidLN narratives -> a VNG dataset with pseudo-masks."""
    early: list[Problem] = []
    records: dict[str, list[PointRecord]] = {}
    source = noun_source(options.nouns)
    videos = {video.video_id: video for video in _each_once(read_vidln(narratives, early.append), early)}
    keys: set[str] = set()
    for record in read_points(points, early.append):
        if record.key in keys:
            early.append(record.problem("", "this key repeats: the first record of it is used"))
        elif record.video_name is None:
            early.append(record.problem("video_name", "null: no video to take frames and narratives from"))
        elif record.video_id not in videos:
            early.append(record.problem("video_name", f"no narrative of video {record.video_id!r}"))
        else:
            keys.add(record.key)
            records.setdefault(record.video_id, []).append(record)
    units: list[Unit] = [
        (name, partial(_point_vos_video, video, records[name], frames, source, options))
        for name, video in videos.items()
        if name in records
    ]
    settings = _settings("point-vos", {"points": points, "narratives": narratives}, source, options)
    title = "Video Narrative Grounding from Point-VOS points"
    return _build(out, units, early, settings, title, options)


def convert_vidln(narratives: Path, frames: Path, out: Path, options: BuildOptions) -> BuildResult:
    """VidLN narratives alone -> a VNG dataset: each noun's mouse trace becomes an object of its own."""
    early: list[Problem] = []
    source = noun_source(options.nouns)
    units: list[Unit] = [
        (video.video_id, partial(_vidln_video, video, frames, source, options))
        for video in _each_once(read_vidln(narratives, early.append), early)
    ]
    settings = _settings("vidln", {"narratives": narratives}, source, options)
    return _build(out, units, early, settings, "Video Narrative Grounding from mouse traces", options)


def _each_once(videos: Iterable[VidLN], problems: list[Problem]) -> Iterator[VidLN]:
    """The videos of a file; a second line about one is reported."""
    seen: set[str] = set()
    for video in videos:
        if video.video_id in seen:
            problems.append(video.problem("video_id", "this video has a line already: the first one is used"))
        else:
            seen.add(video.video_id)
            yield video


def convert_vng(files: TrioFiles, frames: Path | None, out: Path, options: BuildOptions) -> BuildResult:
    """The official VNG trio -> a VNG dataset with its true masks."""
    early: list[Problem] = []
    name, split = options.dataset or "VNG", options.split or "test"
    videos = read_trio(files, name, split, early.append)
    units: list[Unit] = [(video.video_id, partial(_given, video, frames)) for video in videos]
    if "ovis" in str(files.orig_masks).lower() or "ovis" in name.lower():
        early.append(Problem(str(files.orig_masks), "", "", OVIS_LEAK, kind="note"))
    inputs = {"meta": files.meta, "extra_masks": files.extra_masks, "orig_masks": files.orig_masks}
    settings = _settings("vng", inputs, None, options)
    return _build(out, units, early, settings, name, options)


def _given(video: Video, frames: Path | None, _problems: list[Problem]) -> list[Video]:
    return [video if frames is None else with_frames(video, frames)]


def _settings(kind: str, inputs: dict[str, Path], source: NounSource | None, options: BuildOptions) -> dict[str, Any]:
    """Everything the result depends on, for the manifest; paths of inputs do not count, their content does."""
    kept = asdict(options)
    for key in ("progress", "nouns"):
        kept.pop(key)
    hashes = {name: _sha256(path) for name, path in inputs.items()}
    return {"conversion": kind, "inputs": hashes, "nouns": source.name if source else "", **kept}


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise DataError(path, "", "", "no such file", "check the path")
    return file_hash(path)


def _build(
    out: Path, units: Sequence[Unit], early: list[Problem], settings: dict[str, Any], title: str, options: BuildOptions
) -> BuildResult:
    writer = DatasetWriter(out, settings)
    if not writer.complete:
        units = units[: options.limit]
        writer.write(0, [], early)
        bar = tqdm(units, desc="convert", unit="video", disable=not options.progress)
        for index, (name, make) in enumerate(bar, 1):
            if not writer.done(index):
                bar.set_postfix_str(name[:30], refresh=False)
                _write_unit(writer, index, make, out, options)
        description = f"Made by `vng convert {settings['conversion']}`; masks by {settings['segmenter']}."
        writer.finish(len(units) + 1, title, description)
    return BuildResult(writer.totals, read_problems(out / PROBLEMS_FILE))


def _write_unit(
    writer: DatasetWriter, index: int, make: Callable[[list[Problem]], list[Video]], out: Path, options: BuildOptions
) -> None:
    problems: list[Problem] = []
    rows = []
    try:
        for video in make(problems):
            path = ""
            if options.link_frames and video.frames is not None:
                path = os.path.relpath(Path(video.frames.source).resolve(), out.resolve())
            rows.append(video.as_row(embed=not options.link_frames, frames_path=path))
    except DataError as error:
        problems.append(error.problem)
        rows = []
    writer.write(index, rows, problems)


def _open_video(name: str, root: Path) -> Frames:
    return open_frames(find_frames(root, name))


def _assemble(
    video: VidLN,
    frames: Frames,
    objects: tuple[VideoObject, ...],
    expressions: Sequence[Expression],
    options: BuildOptions,
    split: str,
) -> Video:
    narratives = tuple(Narrative(n.actor_name, n.caption) for n in video.narratives)
    height, width = frames.size
    return Video(
        video.video_id,
        options.dataset or video.dataset_id,
        options.split or split or "train",
        height,
        width,
        frames.fps,
        tuple(frames.names),
        narratives,
        tuple(expressions),
        objects,
        frames,
    )


def _point_vos_video(
    video: VidLN,
    records: Sequence[PointRecord],
    root: Path,
    source: NounSource,
    options: BuildOptions,
    problems: list[Problem],
) -> list[Video]:
    frames = _open_video(video.video_id, root)
    links, open_records = link_records(video, records, source, frames.size, len(frames), options.use_trace)
    problems += open_records
    linked = sorted({link.record for link in links})
    located = {i: _locate(records[i], frames, problems) for i in linked}
    used = [i for i in linked if located[i] is not None]
    if not used:
        return []
    frames, shift = _wanted_frames(frames, [located[i] for i in used], options.propagator is not None)
    how = {link.record: link.how for link in links}
    objects = [
        PointedObject(records[i].key, records[i].object_name, _moved(located[i], shift), link=how[i]) for i in used
    ]
    made = _pseudo_masks(frames, objects, options, problems)
    kept = {item.object_id for item in made}
    expressions = [
        Expression(link.noun.narrative, link.noun.start, link.noun.end, records[link.record].key)
        for link in sorted(links, key=_link_order)
        if records[link.record].key in kept
    ]
    return [_assemble(video, frames, made, expressions, options, records[0].split)] if made else []


def _link_order(link: Link) -> tuple[int, int, int]:
    return link.noun.narrative, link.noun.start, link.record


def _locate(record: PointRecord, frames: Frames, problems: list[Problem]) -> Points | None:
    """A record's points with frame indices; frames are found by name, or by number in a video file."""
    index, xy, label = [], [], []
    missing: dict[str, int] = {}
    for point in record.points:
        place = None if point.frame_id is None else frames.index_of(point.frame_id)
        if place is None:
            missing[str(point.frame_id)] = missing.get(str(point.frame_id), 0) + 1
            continue
        index.append(place)
        xy.append((point.x, point.y))
        label.append(point.label)
    for name, count in missing.items():
        reason = f"frame {name!r} is not in {frames.source} ({count} points)"
        problems.append(record.problem("frame_id", reason, "extract all frames of the video"))
    if not index:
        problems.append(record.problem("annotated_points", "no point lies in a frame that is there"))
        return None
    points = Points.of_lists(index, xy, label)
    if not (points.label == POSITIVE).any():
        problems.append(record.problem("annotated_points", "no positive point: nothing to segment"))
        return None
    return points


def _wanted_frames(frames: Frames, points: Sequence[Points | None], everything: bool) -> tuple[Frames, np.ndarray]:
    """The frames that go into the dataset, and old index -> new index: all of them, or only those with points."""
    if everything:
        return frames, np.arange(len(frames))
    kept = sorted({int(t) for p in points if p is not None for t in p.frame})
    shift = np.full(len(frames), -1)
    shift[kept] = np.arange(len(kept))
    return frames.subset(kept), shift


def _moved(points: Points | None, shift: np.ndarray) -> Points:
    assert points is not None
    return Points(shift[points.frame], points.xy, points.label)


def _pseudo_masks(
    frames: Frames, objects: list[PointedObject], options: BuildOptions, problems: list[Problem]
) -> tuple[VideoObject, ...]:
    """Masks of all objects; one whose points are wrong is reported and left out, the others are kept."""
    segmenter, propagator = engines(options)
    while objects:
        try:
            return make_pseudo_masks(frames, objects, segmenter, options.pseudo, options.segmenter, propagator)
        except DataError as error:
            bad = [item for item in objects if item.object_id == error.problem.record]
            if not bad:
                raise
            problems.append(error.problem)
            objects = [item for item in objects if item not in bad]
    return ()


def _vidln_video(
    video: VidLN, root: Path, source: NounSource, options: BuildOptions, problems: list[Problem]
) -> list[Video]:
    frames = _open_video(video.video_id, root)
    places = [frames.index_of(name) for name in video.keyframe_names]
    objects: list[PointedObject] = []
    expressions: list[Expression] = []
    for noun in nouns_of(video, source):
        points = _trace_points(video, noun, places, frames, problems)
        if points is not None:
            key = f"{video.dataset_id}/{video.vidln_id}/{noun.narrative}/{noun.start}-{noun.end}"
            name = video.narratives[noun.narrative].caption[noun.start : noun.end]
            objects.append(PointedObject(key, name, points, trace=True))
            expressions.append(Expression(noun.narrative, noun.start, noun.end, key))
    _report_unused(video, source, problems)
    everything = options.propagator is not None
    kept = list(range(len(frames))) if everything else sorted({t for t in places if t is not None})
    if not kept:
        names = ", ".join(video.keyframe_names[:3])
        reason = f"none of its key frames ({names}, ...) is in {frames.source}"
        raise DataError(video.file, f"{video.line}: {video.video_id}", "keyframe_names", reason, "check --frames")
    shift = np.full(len(frames), -1)
    shift[kept] = np.arange(len(kept))
    chosen = frames.subset(kept)
    objects = [replace(item, points=_moved(item.points, shift)) for item in objects]
    made = _trace_masks(video, chosen, objects, options, problems)
    return [_assemble(video, chosen, made, expressions, options, "train")]


def _noun_problem(video: VidLN, noun: Noun, reason: str) -> Problem:
    caption = video.narratives[noun.narrative].caption
    where = f"actor_narratives[{noun.narrative}].noun [{noun.start}, {noun.end}) {caption[noun.start : noun.end]!r}"
    return video.problem(where, reason)


def _trace_points(
    video: VidLN, noun: Noun, places: Sequence[int | None], frames: Frames, problems: list[Problem]
) -> Points | None:
    """A noun's trace segment in pixels, on all its key frames; None (and a problem) where it has none."""
    segment = trace_segment(video.narratives[noun.narrative], noun.start, noun.end)
    if not segment:
        problems.append(_noun_problem(video, noun, "no mouse trace was drawn while this noun was spoken"))
        return None
    parts = []
    for key, xy in by_keyframe(segment).items():
        place = places[key]
        if place is None:
            reason = f"key frame {video.keyframe_names[key]!r} is not in {frames.source} ({len(xy)} trace points)"
            problems.append(_noun_problem(video, noun, reason))
            continue
        pixels = xy * np.array([frames.size[1], frames.size[0]]) - 0.5
        parts.append(Points(np.full(len(xy), place), pixels, np.full(len(xy), POSITIVE)))
    return Points.concatenate(parts) if parts else None


def _trace_masks(
    video: VidLN, frames: Frames, objects: list[PointedObject], options: BuildOptions, problems: list[Problem]
) -> tuple[VideoObject, ...]:
    """Masks from traces, each on the key frame its trace covers most (Point-VOS, Sec. 3.2); all trace points are kept."""
    height, width = frames.size
    reduced = []
    for item in objects:
        on_frame = {int(t): item.points.in_frame(int(t)) for t in np.unique(item.points.frame)}
        chosen = best_keyframe({t: points.xy for t, points in on_frame.items()})
        assert chosen is not None  # an object without a point was never made
        best = on_frame[chosen]
        inside = np.clip(best.xy, 0, [width - 1, height - 1])
        reduced.append(replace(item, points=Points(best.frame, inside, best.label)))
    made = _pseudo_masks(frames, reduced, options, problems)
    for done in made:
        if all(rle is None for rle in done.segmentations):
            reason = f"{options.segmenter} found nothing under its mouse trace: kept without a mask"
            problems.append(video.problem(f"objects.{done.object_id}", reason, kind="note"))
    points = {item.object_id: item.points for item in objects}
    return tuple(replace(done, points=points[done.object_id]) for done in made)


def _report_unused(video: VidLN, source: NounSource, problems: list[Problem]) -> None:
    """Say how much of each narrative's trace was drawn over words that are no noun."""
    for index, narrative in enumerate(video.narratives):
        used = set()
        for start, end in source.find(narrative):
            used |= {(p.time_ms, p.x, p.y) for part in trace_segment(narrative, start, end) for p in part}
        everything = [(p.time_ms, p.x, p.y) for part in narrative.traces for p in part]
        left = sum(point not in used for point in everything)
        if left:
            reason = f"trace drawn over words that are no noun is left out ({left} of {len(everything)} points)"
            problems.append(video.problem(f"actor_narratives[{index}].traces", reason, kind="note"))


@lru_cache(maxsize=1)
def engines(options: BuildOptions) -> tuple[Segmenter, Propagator | None]:
    """The segmenter and propagator of a conversion, made once for all its videos."""
    propagator = None if options.propagator is None else load_propagator(options.propagator)
    return load_segmenter(options.segmenter, **options.engine()), propagator


def check_engines(options: BuildOptions) -> None:
    """Raise UsageError for unknown engines before any work is done."""
    engines(options)
    if not 0 <= options.pseudo.held_out < 1:
        raise UsageError(f"--held-out {options.pseudo.held_out}: a share in [0, 1)")
