"""Conversion of one video's annotations to its dataset row: find frames, link nouns, make masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from conversion.build import NARRATIVES, Conversion
from conversion.formats import vidln
from conversion.formats.vidln import VidLN, best_keyframe, by_keyframe, trace_segment
from conversion.linking import Noun, NounSource, noun_source, nouns_of
from conversion.options import BuildOptions, Engines
from conversion.pseudo_masks import PointedObject, Segment, make_pseudo_masks, segment_points
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import DATA_FOLDER, Video, VideoObject, VngDataset
from vng.errors import DataError, Problem
from vng.frames import Frames, find_frames, open_frames
from vng.narratives import Expression, Narrative
from vng.points import POSITIVE, Points


def open_video(name: str, root: Path) -> Frames:
    """The frames of a video below `root`; raises DataError where there are none."""
    return open_frames(find_frames(root, name))


def assemble(
    video: VidLN,
    frames: Frames,
    objects: tuple[VideoObject, ...],
    expressions: Sequence[Expression],
    options: BuildOptions,
    split: str,
) -> Video:
    """The row of a video with its narratives, frames, objects and nouns; `split` is that of the annotations."""
    narratives = tuple(Narrative(n.actor_name, n.caption) for n in video.narratives)
    height, width = frames.size
    return Video(
        video_id=video.video_id,
        dataset=options.dataset or video.dataset_id,
        split=options.split or split or "train",
        height=height,
        width=width,
        fps=frames.fps,
        frame_names=tuple(frames.names),
        narratives=narratives,
        expressions=tuple(expressions),
        objects=objects,
        frames=frames,
    )


def moved(points: Points | None, shift: np.ndarray) -> Points:
    """Points with new frames: `shift`, int [T], is the new index of each old one."""
    assert points is not None
    return Points(shift[points.frame], points.xy, points.label)


def pseudo_masks(
    frames: Frames,
    objects: list[PointedObject],
    options: BuildOptions,
    engines: Engines,
    problems: list[Problem],
    segment: Segment = segment_points,
) -> tuple[VideoObject, ...]:
    """Masks of all objects, as `make_pseudo_masks`; objects with invalid points are reported and left out."""
    while objects:
        try:
            return make_pseudo_masks(
                frames, objects, engines.segmenter, options.pseudo, options.segmenter, engines.propagator, segment
            )
        except DataError as error:
            bad = [item for item in objects if item.object_id == error.problem.record]
            if not bad:
                raise
            problems.append(error.problem)
            objects = [item for item in objects if item not in bad]
    return ()


def vidln_video(
    video: VidLN, root: Path, source: NounSource, options: BuildOptions, engines: Engines, problems: list[Problem]
) -> list[Video]:
    """The row of a video with narratives only: each noun's mouse trace is an object; arguments as `point_vos_video`."""
    frames = open_video(video.video_id, root)
    places = [frames.index_of(name) for name in video.keyframe_names]
    objects, expressions = trace_objects(video, frames, source, problems)
    _report_unused(video, source, problems)
    all_frames = options.propagator is not None
    kept = list(range(len(frames))) if all_frames else sorted({t for t in places if t is not None})
    if not kept:
        names = ", ".join(video.keyframe_names[:3])
        reason = f"none of its key frames ({names}, ...) is in {frames.source}"
        raise DataError(
            video.file,
            record=f"{video.line}: {video.video_id}",
            field="keyframe_names",
            reason=reason,
            cure="check --frames",
        )
    shift = np.full(len(frames), -1)
    shift[kept] = np.arange(len(kept))
    chosen = frames.subset(kept)
    objects = [replace(item, points=moved(item.points, shift)) for item in objects]
    segmented = _trace_masks(video, chosen, objects, options, engines, problems)
    return [assemble(video, chosen, segmented, expressions, options, "train")]


def trace_objects(
    video: VidLN, frames: Frames, source: NounSource, problems: list[Problem]
) -> tuple[list[PointedObject], list[Expression]]:
    """An object for each noun that has a mouse trace, with the points of all its key frames, and the nouns."""
    places = [frames.index_of(name) for name in video.keyframe_names]
    objects: list[PointedObject] = []
    expressions: list[Expression] = []
    for noun in nouns_of(video, source):
        points = _trace_points(video, noun, places, frames, problems)
        if points is not None:
            key = noun_key(video, noun)
            name = video.narratives[noun.narrative].caption[noun.start : noun.end]
            objects.append(PointedObject(key, name, points, trace=True))
            expressions.append(Expression(noun.narrative, noun.start, noun.end, key))
    return objects, expressions


def noun_key(video: VidLN, noun: Noun) -> str:
    """The object id of a noun's trace."""
    return f"{video.dataset_id}/{video.vidln_id}/{noun.narrative}/{noun.start}-{noun.end}"


def on_best_keyframe(objects: Sequence[PointedObject], size: tuple[int, int]) -> list[PointedObject]:
    """Objects with the points of the key frame that their trace covers most (Point-VOS, Sec. 3.2), inside the frame."""
    height, width = size
    reduced = []
    for item in objects:
        on_frame = {int(t): item.points.in_frame(int(t)) for t in np.unique(item.points.frame)}
        chosen = best_keyframe({t: points.xy for t, points in on_frame.items()})
        # Every object has at least one point.
        assert chosen is not None
        best = on_frame[chosen]
        inside = np.clip(best.xy, 0, [width - 1, height - 1])
        reduced.append(replace(item, points=Points(best.frame, inside, best.label)))
    return reduced


def segmented_video(video: Video, options: BuildOptions, engines: Engines, problems: list[Problem]) -> list[Video]:
    """The row of a video with new masks made from its objects' points; no row where no object is left."""
    frames = video.opened_frames()
    objects = [
        PointedObject(i.object_id, i.name, i.points, link=i.quality.link) for i in video.objects if len(i.points)
    ]
    segmented = pseudo_masks(frames, objects, options, engines, problems)
    low = options.min_agreement
    agreeing = tuple(i for i in segmented if i.quality.point_agreement is None or i.quality.point_agreement >= low)
    for item in sorted({i.object_id for i in video.objects} - {i.object_id for i in agreeing}):
        reason = "left out: no points, or point agreement below --min-agreement"
        problems.append(
            Problem(
                video.dataset, record=f"{video.video_id}, object {item}", field="points", reason=reason, kind="note"
            )
        )
    kept = {item.object_id for item in agreeing}
    expressions = tuple(e for e in video.expressions if e.object_id in kept)
    dataset, split = options.dataset or video.dataset, options.split or video.split
    result = replace(video, objects=agreeing, expressions=expressions, dataset=dataset, split=split)
    return [result] if agreeing else []


def _noun_problem(video: VidLN, noun: Noun, reason: str) -> Problem:
    caption = video.narratives[noun.narrative].caption
    where = f"actor_narratives[{noun.narrative}].noun [{noun.start}, {noun.end}) {caption[noun.start : noun.end]!r}"
    return video.problem(where, reason)


def _trace_points(
    video: VidLN, noun: Noun, places: Sequence[int | None], frames: Frames, problems: list[Problem]
) -> Points | None:
    """A noun's trace segment in pixels, on all its key frames; None (and a problem) where there is none."""
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
    video: VidLN,
    frames: Frames,
    objects: list[PointedObject],
    options: BuildOptions,
    engines: Engines,
    problems: list[Problem],
) -> tuple[VideoObject, ...]:
    """Masks from traces, on the key frame that each trace covers most; all points are kept."""
    segmented = pseudo_masks(frames, on_best_keyframe(objects, frames.size), options, engines, problems)
    for masked in segmented:
        if all(rle is None for rle in masked.segmentations):
            reason = f"{options.segmenter} found nothing under its mouse trace: kept without a mask"
            problems.append(video.problem(f"objects.{masked.object_id}", reason, kind="note"))
    points = {item.object_id: item.points for item in objects}
    return tuple(replace(masked, points=points[masked.object_id]) for masked in segmented)


def _report_unused(video: VidLN, source: NounSource, problems: list[Problem]) -> None:
    """Report how much of each narrative's trace was drawn over words other than nouns."""
    for index, narrative in enumerate(video.narratives):
        used = set()
        for start, end in source.find(narrative):
            used |= {(p.time_ms, p.x, p.y) for part in trace_segment(narrative, start, end) for p in part}
        trace_points = [(p.time_ms, p.x, p.y) for part in narrative.traces for p in part]
        left = sum(point not in used for point in trace_points)
        if left:
            reason = f"trace drawn over words other than nouns is left out ({left} of {len(trace_points)} points)"
            problems.append(video.problem(f"actor_narratives[{index}].traces", reason, kind="note"))


def vidln_conversion(options: BuildOptions, engines: Engines, *, narratives: Path, frames: Path) -> Conversion:
    """VidLN narratives alone -> a VNG dataset: each noun's mouse trace becomes an object of its own."""
    nouns = noun_source(options.nouns)

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        spool_narratives(spool, narratives, lambda name: wanted.video(name) and wanted.listed_video(name))
        wanted.report_missing(spool, {NARRATIVES: narratives})

    def make(spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        (video,) = spool.items(NARRATIVES, name)
        return vidln_video(narrated_video(video, narratives), frames, nouns, options, engines, problems)

    title = "Video Narrative Grounding from mouse traces"
    return Conversion(
        kind="vidln",
        title=title,
        inputs={"narratives": narratives},
        options=options,
        read=read,
        make=make,
        nouns=nouns.name,
        engines=engines,
    )


def points_conversion(options: BuildOptions, engines: Engines, *, source: Path) -> Conversion:
    """A VNG dataset whose objects have points -> the same dataset with pseudo-masks made from the points."""
    dataset = VngDataset(source)
    places = {name: index for index, name in enumerate(dataset.video_ids)}

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        for name in places:
            if wanted.video(name) and wanted.listed_video(name):
                spool.add(NARRATIVES, name, Item(name, "", None))
        wanted.report_missing(spool, {NARRATIVES: source})

    def make(spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        return segmented_video(dataset[places[name]], options, engines, problems)

    title = "Pseudo-masks from points"
    return Conversion(
        kind="points",
        title=title,
        inputs={"dataset": source / DATA_FOLDER},
        options=options,
        read=read,
        make=make,
        engines=engines,
    )


def spool_narratives(spool: SpoolWriter, path: Path, wanted: Callable[[str], bool]) -> None:
    """Add the narratives of the wanted videos to a spool; a video that repeats is a problem."""
    for video in vidln.read_vidln(path, spool.problem):
        if not wanted(video.video_id):
            continue
        if not spool.add(NARRATIVES, video.video_id, Item(video.video_id, video.line, vidln.as_json(video))):
            spool.problem(video.problem("video_id", "this video repeats: its first line is used"))


def narrated_video(item: Item, file: Path) -> vidln.VidLN:
    """The narratives of a video in a spool; `file` is the one that they come from, for messages."""
    return vidln.from_json(item.body, file, item.place)
