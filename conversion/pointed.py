"""Point-VOS points -> dataset rows: with narratives, whose nouns the objects are linked to, or as points alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from conversion.build import NARRATIVES, POINTS, Conversion
from conversion.formats import point_vos
from conversion.formats.object_masks import ObjectMasks
from conversion.formats.point_vos import PointRecord
from conversion.formats.points import read_points
from conversion.formats.vidln import VidLN
from conversion.linking import Link, NounSource, link_records, noun_source
from conversion.narrated import assemble, moved, narrated_video, open_video, pseudo_masks, spool_narratives
from conversion.options import BuildOptions, Engines
from conversion.pseudo_masks import PointedObject
from conversion.questions import Questions
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import Quality, Video, VideoObject
from vng.errors import Problem, UsageError
from vng.frames import Frames
from vng.narratives import Expression
from vng.points import POSITIVE, Points

SOURCE = "point-vos"  # of objects with points and no pseudo-masks
DATASET = "Point-VOS"


def point_vos_video(
    video: VidLN,
    records: Sequence[PointRecord],
    root: Path,
    source: NounSource,
    options: BuildOptions,
    engines: Engines,
    problems: list[Problem],
    questions: Questions | None = None,
    keep_unlinked: bool = False,
) -> list[Video]:
    """The row of a video with Point-VOS records: objects are linked to nouns and segmented from their points.

    Args:
        video, records: narratives of the video, and points of its objects.
        root: folder of all videos' frames.
        source: the source of nouns.
        options: settings of the conversion.
        engines: segmenter and propagator.
        problems: receives data that cannot be used.
        questions: link by them, exactly, and not by name.
        keep_unlinked: whether objects without a noun stay.

    Returns:
        One row; none where no object is left.

    Raises:
        DataError: the whole video cannot be used.
    """
    frames = open_video(video.video_id, root)
    if questions is None:
        links, reasons = link_records(video, records, source, frames.size, len(frames), options.use_trace)
    else:
        links, reasons = questions.links(video, [record.question_hash for record in records], source)
    problems += [replace(reason, kind="note") if keep_unlinked else reason for reason in reasons.values()]
    linked = sorted({link.record for link in links} | (set(reasons) if keep_unlinked else set()))
    located = {i: _locate(records[i], frames, problems) for i in linked}
    used = [i for i in linked if located[i] is not None]
    if not used:
        return []
    frames, shift = _wanted_frames(frames, [located[i] for i in used], options.propagator is not None)
    how = {link.record: link.how for link in links}
    objects = [
        PointedObject(records[i].key, records[i].object_name, moved(located[i], shift), link=how.get(i, ""))
        for i in used
    ]
    segmented = pseudo_masks(frames, objects, options, engines, problems)
    segmented = _agreeing(segmented, {records[i].key: records[i] for i in used}, options.min_agreement, problems)
    kept = {item.object_id for item in segmented}
    expressions = [
        Expression(link.noun.narrative, link.noun.start, link.noun.end, records[link.record].key)
        for link in sorted(links, key=_link_order)
        if records[link.record].key in kept
    ]
    return [assemble(video, frames, segmented, expressions, options, records[0].split)] if segmented else []


def _link_order(link: Link) -> tuple[int, int, int]:
    return link.noun.narrative, link.noun.start, link.record


def _locate(record: PointRecord, frames: Frames, problems: list[Problem]) -> Points | None:
    """A record's points with frame indices; frames are looked up by name, or by number in a video file."""
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
        problems.append(record.problem("annotated_points", "no point lies in an existing frame"))
        return None
    points = Points.of_lists(index, xy, label)
    if not (points.label == POSITIVE).any():
        problems.append(record.problem("annotated_points", "no positive point: nothing to segment"))
        return None
    return points


def _wanted_frames(frames: Frames, points: Sequence[Points | None], all_frames: bool) -> tuple[Frames, np.ndarray]:
    """The frames of the row (all, or only those with points), and a map from old to new frame index."""
    if all_frames:
        return frames, np.arange(len(frames))
    kept = sorted({int(t) for p in points if p is not None for t in p.frame})
    shift = np.full(len(frames), -1)
    shift[kept] = np.arange(len(kept))
    return frames.subset(kept), shift


def _agreeing(
    objects: tuple[VideoObject, ...], records: Mapping[str, PointRecord], least: float, problems: list[Problem]
) -> tuple[VideoObject, ...]:
    """The objects whose point agreement is high enough; the others are reported as notes."""
    kept = []
    for item in objects:
        share = item.quality.point_agreement
        if share is None or share >= least:
            kept.append(item)
        else:
            reason = f"left out: point agreement {share:.3f} of {item.quality.n_held_out} points is below {least:g}"
            problems.append(replace(records[item.object_id].problem("", reason), kind="note"))
    return tuple(kept)


def points_video(
    name: str,
    records: Sequence[PointRecord],
    root: Path,
    masks: ObjectMasks | None,
    options: BuildOptions,
    problems: list[Problem],
) -> list[Video]:
    """The row of a video with Point-VOS records and no language: objects with their points, without pseudo-masks.

    Without `masks` the row has the frames with points. With `masks`, the true masks of evaluation frames, it has all
    frames from the first one with positive points on, as methods segment them.

    Args: as `point_vos_video`.
    """
    frames = open_video(name, root)
    located = [(record, _locate(record, frames, problems)) for record in records]
    used = [(record, points) for record, points in located if points is not None]
    if not used:
        return []
    if masks is None:
        frames, shift = _wanted_frames(frames, [points for _, points in used], all_frames=False)
    else:
        start = min(int(points.of(POSITIVE).frame.min()) for _, points in used)
        shift = np.arange(len(frames)) - start
        frames = frames.subset(range(start, len(frames)))
    objects = []
    for record, points in used:
        kept = points[shift[points.frame] >= 0]
        segmentations = (None,) * len(frames) if masks is None else masks.of(record.key, frames)
        if masks is not None and not any(segmentations):
            reason = f"no mask in {masks.path}: this object cannot be scored"
            problems.append(replace(record.problem("", reason), kind="note"))
        quality = Quality(n_points=len(kept))
        own = moved(kept, shift)
        objects.append(VideoObject(record.key, record.object_name, SOURCE, segmentations, own, quality))
    return [assemble(_unnarrated(name, Path(records[0].file)), frames, tuple(objects), [], options, records[0].split)]


def point_vos_conversion(
    options: BuildOptions,
    engines: Engines,
    *,
    points: Path,
    frames: Path,
    narratives: Path | None = None,
    questions: Path | None = None,
    masks: Path | None = None,
    keep_unlinked: bool = False,
) -> Conversion:
    """Point-VOS points -> a VNG dataset.

    Args:
        points: the published points.
        frames: folder of the videos' frames.
        narratives: VidLN narratives: objects are linked to nouns and get pseudo-masks. None: objects with points alone.
        questions: VidLN's location questions, by which Oops records are linked exactly; see `conversion.questions`.
        masks: true masks of evaluation frames; see `conversion.formats.object_masks`. Without narratives only.
        keep_unlinked: whether objects stay that no noun is linked to; with narratives only.

    Raises:
        UsageError: options that do not go together.
    """
    if narratives is None:
        if questions is not None or keep_unlinked:
            raise UsageError("vng convert point-vos: --questions and --keep-unlinked go with --narratives")
        return _points_conversion(options, points, frames, masks)
    if masks is not None:
        raise UsageError("vng convert point-vos: --masks goes with points alone; leave out --narratives")
    nouns = noun_source(options.nouns)
    asked = None if questions is None else Questions(questions)

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        spool_narratives(spool, narratives, wanted.video)
        _spool_points(spool, points, wanted, without_narrative=keep_unlinked)
        wanted.report_missing(spool, {NARRATIVES: narratives, POINTS: points})

    def make(spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        (item,) = spool.items(NARRATIVES, name)
        video = _unnarrated(name, points) if item.body is None else narrated_video(item, narratives)
        records = _records(spool, name, points)
        return point_vos_video(video, records, frames, nouns, options, engines, problems, asked, keep_unlinked)

    inputs = {"points": points, "narratives": narratives} | ({"questions": questions} if questions else {})
    return Conversion(
        kind="point-vos",
        title="Video Narrative Grounding from Point-VOS points",
        inputs=inputs,
        options=options,
        read=read,
        make=make,
        nouns=nouns.name,
        having=POINTS,
        engines=engines,
        more={"keep_unlinked": True} if keep_unlinked else {},
    )


def _points_conversion(options: BuildOptions, points: Path, frames: Path, masks: Path | None) -> Conversion:
    """All records as objects with points; language is not needed (Point-VOS, Tables 3 to 9)."""
    object_masks = None if masks is None else ObjectMasks(masks)

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        _spool_points(spool, points, wanted, without_narrative=True)
        wanted.report_missing(spool, {POINTS: points})

    def make(spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        return points_video(name, _records(spool, name, points), frames, object_masks, options, problems)

    return Conversion(
        kind="point-vos",
        title="Point-VOS points",
        inputs={"points": points} | ({} if masks is None else {"masks": masks}),
        options=options,
        read=read,
        make=make,
        having=POINTS,
    )


def _records(spool: Spool, name: str, file: Path) -> list[PointRecord]:
    return [point_vos.from_json(item.key, item.body, file, item.place) for item in spool.items(POINTS, name)]


def _unnarrated(name: str, file: Path) -> VidLN:
    """The narratives of a video that has none."""
    return VidLN(
        vidln_id=0, dataset_id=DATASET, video_id=name, annotator_id="", keyframe_names=(), narratives=(), file=str(file)
    )


def _spool_points(spool: SpoolWriter, path: Path, wanted: Wanted, without_narrative: bool) -> None:
    for record in read_points(path, spool.problem):
        if record.video_name is None:
            spool.problem(record.problem("video_name", "null: no video to take frames and narratives from"))
        elif not wanted.video(record.video_id) or not wanted.listed_record(record):
            continue
        elif not spool.has(NARRATIVES, record.video_id) and without_narrative:
            spool.add(NARRATIVES, record.video_id, Item(record.video_id, record.place, None))
            spool.add(POINTS, record.video_id, Item(record.key, record.place, point_vos.as_json(record)))
        elif not spool.has(NARRATIVES, record.video_id):
            spool.problem(record.problem("video_name", f"no narrative of video {record.video_id!r}"))
        elif not spool.add(POINTS, record.video_id, Item(record.key, record.place, point_vos.as_json(record))):
            spool.problem(record.problem("", "this key repeats: its first record is used"))
