"""Propose candidates for a set of videos, and answer them with a simulated annotator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from conversion.annotation.candidates import CandidateSettings
from conversion.annotation.proposals import ProposalFolder, ProposedObject, ProposedVideo, propose
from conversion.annotation.simulated import SimulatedAnnotator
from conversion.annotation.steps import StepResult
from conversion.formats import vidln
from conversion.formats.own_clips import open_clip, pointed_object
from conversion.formats.point_vos import PointRecord, write_points
from conversion.formats.vidln import VidLN
from conversion.linking import NounSource, noun_source, nouns_of
from conversion.narrated import noun_key, on_best_keyframe, open_video, trace_objects
from conversion.options import BuildOptions, Engines, load_engines
from conversion.pseudo_masks import PointedObject
from vng.dataset import Video, VideoObject, VngDataset
from vng.errors import PROBLEMS_FILE, DataError, DataErrors, Problem, UsageError
from vng.frames import Frames
from vng.manifest import content_hash
from vng.masks import intersection_over_union
from vng.narratives import Expression, Narrative
from vng.own_clips import OwnClip, locate, read_own_clips
from vng.processes import limited_threads
from vng.propagators import DEFAULT as DEFAULT_PROPAGATOR

METHOD = 2  # raised where the same settings give other candidates, so that a folder never mixes two kinds
ENGINE_SETTINGS = ("segmenter", "checkpoint", "settings", "propagator", "propagator_checkpoint")


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One video to propose candidates for; `open` reads its frames and objects."""

    video: ProposedVideo  # without objects
    open: Callable[[list[Problem]], tuple[Frames, list[PointedObject]]]


def propose_candidates(
    out: Path,
    *,
    clips: Path | None = None,
    narratives: Path | None = None,
    frames: Path | None = None,
    nouns: str = "noun_segments",
    settings: CandidateSettings | None = None,
    options: BuildOptions | None = None,
) -> StepResult:
    """Candidate points for every object of own clips, or for every noun of VidLN narratives with its mouse trace.

    An interrupted run goes on with the next video. A video that cannot be used is a problem; the others go on.

    Args:
        out: the folder of candidates.
        clips: own clips, in which each object has a point, a box or a mask.
        narratives: Video Localized Narratives, in place of `clips`.
        frames: folder of the videos; for clips, that of their file where it is not given.
        nouns: the source of nouns of narratives.
        settings: how candidates are drawn.
        options: segmenter, propagator (a default one where none is named), threads, progress.

    Raises:
        UsageError: neither clips nor narratives, or both.
        DataError: `out` holds candidates of other settings; no video could be used.
    """
    settings, options = settings or CandidateSettings(), options or BuildOptions()
    given = _only_one(clips, narratives, frames)
    options = replace(options, propagator=options.propagator or DEFAULT_PROPAGATOR)
    engines = load_engines(options)
    recorded = {key: value for key, value in options.as_settings(engines).items() if key in ENGINE_SETTINGS}
    inputs = {"annotations": content_hash(given), "nouns": nouns if clips is None else ""}
    folder = ProposalFolder(
        out, {"candidates": asdict(settings), "engines": recorded, "inputs": inputs, "method": METHOD}
    )
    problems: list[Problem] = []
    root = frames if frames is not None else given.parent
    sources = _of_clips(given, root, problems) if clips else _of_narratives(given, root, nouns, problems)
    with limited_threads(options.threads):
        for source in tqdm(sources, desc="propose", unit="video", disable=not options.progress):
            try:
                if not folder.done(source.video.video_id):
                    folder.write(_proposed(source, engines, settings))
                problems += folder.read(source.video.video_id).problems
            except DataErrors as errors:
                problems += errors.problems
            except DataError as error:
                problems.append(error.problem)
    folder.write_problems(problems)
    totals = _totals(folder)
    if not totals["videos"]:
        raise DataError(out / PROBLEMS_FILE, reason="no video could be used", cure="see the reasons there")
    return StepResult(totals=totals, problems=tuple(problems), folder=out)


def _proposed(source: _Source, engines: Engines, settings: CandidateSettings) -> ProposedVideo:
    """A video with its candidates, and the problems met in it."""
    problems: list[Problem] = []
    frames, objects = source.open(problems)
    proposed = propose(frames, objects, engines, settings)
    names = tuple(frames.names)
    return replace(source.video, frame_names=names, objects=proposed, problems=tuple(problems))


def _only_one(clips: Path | None, narratives: Path | None, frames: Path | None) -> Path:
    """The annotations that are given; raises UsageError for none, both, or narratives without frames."""
    given = clips or narratives
    if given is None or (clips is not None and narratives is not None):
        raise UsageError("vng annotate propose: give --clips, or --narratives and --frames")
    if narratives is not None and frames is None:
        raise UsageError("vng annotate propose: --narratives requires --frames")
    return given


def _totals(folder: ProposalFolder) -> dict[str, int]:
    totals = {"videos": 0, "objects": 0, "candidates": 0}
    for video in folder:
        totals["videos"] += 1
        totals["objects"] += len(video.objects)
        totals["candidates"] += sum(len(item.candidates) for item in video.objects)
    return totals


def _of_clips(clips: Path, root: Path, problems: list[Problem]) -> Iterator[_Source]:
    for clip in read_own_clips(clips, problems.append):
        video = ProposedVideo(
            video_id=clip.video_id,
            video=clip.video,
            split=clip.split or "train",
            frame_names=(),
            narratives=clip.narratives,
            expressions=clip.expressions,
        )
        yield _Source(video=video, open=lambda told, clip=clip: _open_clip(clip, root, told))  # type: ignore[misc]


def _open_clip(clip: OwnClip, root: Path, problems: list[Problem]) -> tuple[Frames, list[PointedObject]]:
    frames = open_clip(clip, root)
    located, notes = locate(clip, frames)
    problems += notes
    everywhere = {t: t for t in range(len(frames))}
    objects = [
        pointed_object(item, everywhere) for item, own in zip(located, clip.objects, strict=True) if own.is_prompted
    ]
    if not objects:
        reason = "no object of this clip has a point, a box or a mask to begin with"
        raise DataError(clip.file, record=clip.record, field="objects", reason=reason, cure="put a point on each")
    return frames, objects


def _of_narratives(path: Path, root: Path, nouns: str, problems: list[Problem]) -> Iterator[_Source]:
    source, seen = noun_source(nouns), set[str]()
    for narrated in vidln.read_vidln(path, problems.append):
        if narrated.video_id in seen:
            problems.append(narrated.problem("video_id", "this video repeats: its first line is used"))
            continue
        seen.add(narrated.video_id)
        video = ProposedVideo(
            video_id=narrated.video_id,
            video=narrated.video_id,
            split="train",
            frame_names=(),
            narratives=tuple(Narrative(n.actor_name, n.caption) for n in narrated.narratives),
            expressions=tuple(_expressions(narrated, source)),
        )
        yield _Source(video=video, open=lambda told, v=narrated: _open_narrated(v, root, source, told))  # type: ignore[misc]


def _expressions(narrated: VidLN, source: NounSource) -> list[Expression]:
    return [Expression(n.narrative, n.start, n.end, noun_key(narrated, n)) for n in nouns_of(narrated, source)]


def _open_narrated(
    narrated: VidLN, root: Path, source: NounSource, problems: list[Problem]
) -> tuple[Frames, list[PointedObject]]:
    frames = open_video(narrated.video_id, root)
    objects, _ = trace_objects(narrated, frames, source, problems)
    return frames, on_best_keyframe(objects, frames.size)


def simulate_verdicts(
    candidates: Path, truth: VngDataset, out: Path, annotator: SimulatedAnnotator, match: float = 0.5
) -> dict[str, int]:
    """Answer candidates with a simulated annotator, and write the points as Point-VOS JSON.

    The true object of a proposed one is that of its id, or else the one whose true mask overlaps its rough mask most.

    Args:
        candidates: a folder of candidates.
        truth: a dataset with true masks of the same videos and frames.
        out: the file to write: .json, or .jsonl.
        annotator: error rates and seed.
        match: least overlap (IoU) of a rough mask with a true one; below it, the object is left out.

    Raises:
        DataError: true masks of another size than the candidates' frames.

    Returns:
        Totals: objects, points of each label, objects left out, and objects with a positive in all their frames.
    """
    places = {name: index for index, name in enumerate(truth.video_ids)}
    totals = {"objects": 0, "left_out": 0, "positive": 0, "negative": 0, "ambiguous": 0, "seen_in_all_frames": 0}

    def records() -> Iterator[PointRecord]:
        for video in ProposalFolder(candidates):
            if video.video_id not in places:
                totals["left_out"] += len(video.objects)
                continue
            true = truth[places[video.video_id]]
            _check_size(video, true)
            names = {name: index for index, name in enumerate(true.frame_names)}
            for item in video.objects:
                real = true_object(item, [names.get(name) for name in video.frame_names], true.objects, match)
                if real is None:
                    totals["left_out"] += 1
                    continue
                masks = [
                    None if (t := names.get(name)) is None else real.segmentations[t] for name in video.frame_names
                ]
                points = annotator.verdicts(item.object_id, item.candidates, masks, video.frame_names)
                _count(points, totals)
                name = f"{video.split}/{video.video_id}"
                yield PointRecord(key=item.object_id, object_name=item.name, video_name=name, points=points)

    write_points(records(), out)
    return totals


def _check_size(video: ProposedVideo, true: Video) -> None:
    for item in video.objects:
        if item.rough_mask.size != (true.height, true.width):
            sizes = "{}x{} pixels, its candidates lie in frames of {}x{}".format(
                true.height, true.width, *item.rough_mask.size
            )
            raise DataError(true.dataset, record=true.video_id, field="size", reason=sizes, cure="use the same frames")


def true_object(
    item: ProposedObject, places: Sequence[int | None], objects: Sequence[VideoObject], match: float
) -> VideoObject | None:
    """The true object of a proposed one: that of its id, or else the one that its rough mask overlaps most; or None.

    Args:
        item: the proposed object.
        places: true frame of each frame of its video; None where there is none.
        objects: the true ones.
        match: least overlap (IoU).
    """
    if (same := next((o for o in objects if o.object_id == item.object_id), None)) is not None:
        return same
    place = places[item.rough_frame]
    if place is None:
        return None
    overlaps = [
        0.0 if (rle := o.segmentations[place]) is None else intersection_over_union(item.rough_mask, rle)
        for o in objects
    ]
    best = max(range(len(objects)), key=overlaps.__getitem__, default=None)
    return None if best is None or overlaps[best] < match else objects[best]


def _count(points: Sequence[Any], totals: dict[str, int]) -> None:
    names = {1: "positive", 0: "negative", -1: "ambiguous"}
    totals["objects"] += 1
    for point in points:
        totals[names[point.label]] += 1
    frames = {point.frame_id for point in points}
    seen = {point.frame_id for point in points if point.label == 1}
    totals["seen_in_all_frames"] += bool(frames) and frames == seen
