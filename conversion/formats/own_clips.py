"""Own clips -> a VNG dataset, and back: what a person wrote about some videos (the format: `vng.own_clips`).

Annotation tools have other formats. A reader of one makes own clips of it, and all that follows is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from conversion.build import NARRATIVES, Conversion
from conversion.corrections import correcting
from conversion.export_formats import ExportResult, export_folder, write_frames
from conversion.formats.jsonio import OnProblem, write_json_lines
from conversion.narrated import pseudo_masks
from conversion.options import BuildOptions, Engines
from conversion.pseudo_masks import PointedObject, segment_points
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import Video
from vng.errors import DataError, DataErrors, Problem
from vng.frames import Frames, existing, find_frames, inside, open_frames
from vng.masks import area
from vng.own_clips import (
    WHOLE,
    ClipMask,
    ClipObject,
    ClipPoint,
    LocatedObject,
    OwnClip,
    clip_json,
    clip_of_json,
    locate,
)

DATASET, SPLIT = "own-clips", "train"
CLIPS, FRAMES = "clips.jsonl", "frames"
ANNOTATE = "put a point on it"
OWN_READER = "vng.own_clips:read_own_clips"
ClipReader = Callable[..., Iterator[OwnClip]]  # of a path, a receiver of problems, and `size_of` where it needs sizes


def own_conversion(
    options: BuildOptions,
    engines: Engines,
    *,
    clips: Path,
    frames: Path | None = None,
    kind: str = "own",
    title: str = "Own clips",
    reader: str = OWN_READER,
    needs_sizes: bool = False,
) -> Conversion:
    """A file of own clips -> a VNG dataset: masks that are given, pseudo-masks from points and boxes.

    Args:
        options, engines: settings of the conversion; its segmenter and propagator.
        clips: the file, or the folder of files.
        frames: the folder that its videos lie in; None: the file's folder.
        kind, title: names of the conversion.
        reader: "module:function" that reads clips from the file, see `ClipReader`.
        needs_sizes: whether the reader takes `size_of`, a function: name of a video -> height and width, None without one.
    """
    root = (clips if clips.is_dir() else clips.parent) if frames is None else frames

    def size_of(video: str) -> tuple[int, int] | None:
        try:
            return open_clip(OwnClip(video=video), root).size
        except DataError:  # which the conversion of the clip will tell
            return None

    def read(spool: SpoolWriter) -> None:
        module, _, name = reader.partition(":")
        read_clips: ClipReader = getattr(import_module(module), name)
        wanted = Wanted(options)
        for clip in read_clips(clips, spool.problem, **({"size_of": size_of} if needs_sizes else {})):
            if not wanted.video(clip.video_id) or not wanted.listed_video(clip.video_id):
                continue
            if (body := _checked(clip, spool.problem)) is None:
                continue
            if not spool.add(NARRATIVES, clip.video_id, Item(clip.video_id, clip.record, body)):
                reason = f"there is a video of this name already: {clip.video_id!r}"
                spool.problem(Problem(str(clip.file), record=clip.record, reason=reason, cure="rename one of the two"))
        wanted.report_missing(spool, {NARRATIVES: clips})

    def make(spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        (item,) = spool.items(NARRATIVES, name)
        return own_video(clip_of_json(item.body, clips, item.place), root, options, engines, problems)

    return Conversion(
        kind=kind,
        title=title,
        inputs={"clips": clips},
        options=options,
        read=read,
        make=make,
        engines=engines,
    )


def imported_conversion(
    options: BuildOptions, engines: Engines, *, annotations: Path, frames: Path | None = None, **fixed: Any
) -> Conversion:
    """A file of an annotation tool -> a VNG dataset; arguments as of `own_conversion`, `annotations` for `clips`."""
    return own_conversion(options, engines, clips=annotations, frames=frames, **fixed)


def _checked(clip: OwnClip, on_problem: OnProblem) -> dict[str, Any] | None:
    """The JSON value of a clip; None, and its mistakes, where it cannot be read again."""
    body = clip_json(clip)
    try:
        clip_of_json(body, clip.file, clip.record)
    except DataErrors as errors:
        for problem in errors.problems:
            on_problem(problem)
        return None
    return body


def own_video(
    clip: OwnClip, root: Path, options: BuildOptions, engines: Engines, problems: list[Problem]
) -> list[Video]:
    """The row of a clip; none where nothing of it can be used.

    Args:
        clip: the clip.
        root: folder of the videos.
        options, engines: as of `own_conversion`.
        problems: receives mistakes and notes.

    Raises:
        DataError: there is no such video.
    """
    frames = open_clip(clip, root)
    try:
        located, notes = locate(clip, frames)
    except DataErrors as errors:
        problems += errors.problems
        return []
    problems += notes
    for item in clip.objects:
        if not item.is_prompted:
            record = f"{clip.record}: object {item.object_id!r}"
            reason = "no point, box or mask says where it is: it is left out, and so are its nouns"
            problems.append(Problem(str(clip.file), record=record, reason=reason, cure=ANNOTATE))
    used = [item for item, own in zip(located, clip.objects, strict=True) if own.is_prompted]
    kept = _kept_frames(used, len(frames), options.propagator is not None)
    place = {t: index for index, t in enumerate(kept)}
    chosen = frames.subset(kept)
    pointed = [pointed_object(item, place) for item in used]
    segment = segment_points if engines.propagator is None else correcting(engines.propagator)
    objects = pseudo_masks(chosen, pointed, options, engines, problems, segment)
    if not objects:
        return []
    ids = {item.object_id for item in objects}
    height, width = frames.size
    return [
        Video(
            video_id=clip.video_id,
            dataset=options.dataset or DATASET,
            split=options.split or clip.split or SPLIT,
            height=height,
            width=width,
            fps=frames.fps,
            frame_names=tuple(chosen.names),
            narratives=clip.narratives,
            expressions=tuple(e for e in clip.expressions if e.object_id in ids),
            objects=objects,
            frames=chosen,
        )
    ]


def open_clip(clip: OwnClip, root: Path) -> Frames:
    """The frames of a clip: a file or folder below `root`, with or without the suffix of a video.

    Raises:
        DataError: there is no such video, with the record of the clip.
    """
    path = root if clip.video == WHOLE else existing(root, clip.video)
    try:
        return open_frames(path if path.exists() else find_frames(root, clip.video))
    except DataError as error:
        if path.exists():
            raise
        cure = "check the path; it is relative to the folder of this file, or of --frames"
        reason = f"no such video in {root}: {clip.video!r}"
        raise DataError(clip.file, record=clip.record, field="video", reason=reason, cure=cure) from error


def _kept_frames(objects: Iterable[LocatedObject], count: int, every: bool) -> list[int]:
    """The frames of the row: all, or those that something is known of."""
    if every:
        return list(range(count))
    return sorted({int(t) for item in objects for t in (*item.points.frame, *item.boxes, *item.masks)})


def pointed_object(item: LocatedObject, place: dict[int, int]) -> PointedObject:
    """An object with the frames of the row."""
    points = replace(item.points, frame=np.array([place[int(t)] for t in item.points.frame], np.int32))
    boxes = {place[t]: box for t, box in item.boxes.items()}
    masks = {place[t]: rle for t, rle in item.masks.items()}
    return PointedObject(item.object_id, item.name, points, boxes=boxes, masks=masks)


def write_own_clips(videos: Iterable[Video], out: Path, with_frames: bool = False) -> ExportResult:
    """Write records as own clips: `clips.jsonl`, and with `with_frames` their frames below `frames/`.

    Points, masks, narratives and nouns are kept; qualities and sources of masks are not. Without frames, `video` is the
    id of the video: `vng convert own --frames ROOT` finds it.
    """
    with export_folder(out) as export:
        write_json_lines(_values(videos, out, with_frames, export), out / CLIPS)
        export.files.append(out / CLIPS)
    return export


def _values(videos: Iterable[Video], out: Path, with_frames: bool, export: ExportResult) -> Iterable[object]:
    names: set[str] = set()
    for video in videos:
        if video.video_id in names:
            raise DataError(video.dataset, record=video.video_id, field="video_id", reason="two videos have this id")
        names.add(video.video_id)
        try:
            value = clip_json(_clip(video))
        except ValueError as error:  # spans that overlap
            export.report(video, "expressions", f"{error}: this format cannot hold them; left out", kind="error")
            continue
        value["video"] = video.video_id
        if with_frames:
            folder = f"{FRAMES}/{video.video_id}"
            write_frames(video.opened_frames(), video.frame_names, inside(out, folder))
            value |= {"video": folder, "id": video.video_id}
        export.count(video, holds=("narratives", "points"))
        yield value


def _clip(video: Video) -> OwnClip:
    """A record as an own clip, with frames by name."""
    objects = []
    for item in video.objects:
        rows = zip(item.points.frame, item.points.xy, item.points.label, strict=True)
        points = tuple(
            ClipPoint(frame=video.frame_names[int(t)], x=float(x), y=float(y), label=int(label))
            for t, (x, y), label in rows
        )
        masks = tuple(
            ClipMask(frame=name, mask=rle if area(rle) else None)
            for name, rle in zip(video.frame_names, item.segmentations, strict=True)
            if rle is not None
        )
        objects.append(ClipObject(object_id=item.object_id, name=item.name, points=points, masks=masks))
    return OwnClip(
        video=video.video_id,
        video_id=video.video_id,
        split=video.split,
        narratives=video.narratives,
        expressions=video.expressions,
        objects=tuple(objects),
    )
