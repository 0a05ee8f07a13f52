"""Prompts of points and masks that people wrote: files of own clips, JSON, CSV (`vng.own_clips`), or Python values.

All errors of a file are reported at once. Folders of masks: `mask_prompts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vng.errors import DataError, DataErrors, Problem
from vng.frames import Frames
from vng.label_maps import MAX_NUMBER, numbers_of
from vng.masks import decode
from vng.own_clips import ClipObject, ClipPoint, LocatedObject, OwnClip, locate, read_clip
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, PointPrompts, Points
from vng.propagators import FramePrompts

SUFFIXES = (".json", ".jsonl", ".csv", ".txt")
SEE_HELP = "`vng propagate --help` shows the layout"


@dataclass(frozen=True)
class Prompts:
    """Prompts of K objects of a video."""

    names: tuple[str, ...]  # length K
    frames: Mapping[int, FramePrompts]  # by frame index, each of K objects; masks are read from disk on access
    points: tuple[Points, ...]  # length K, as given; empty for mask prompts
    notes: tuple[Problem, ...] = ()  # prompts that were ignored or changed, with reasons

    @property
    def numbers(self) -> tuple[int, ...]:
        """The pixel value of each object in label maps, 1 to 254."""
        return tuple(numbers_of(self.names).values())


def read_points(path: Path, frames: Frames) -> Prompts:
    """Points and masks of a .json, .jsonl, .csv or SAM-PT .txt file; for the layout see `vng.own_clips`.

    Raises:
        DataError: there is no such file, or it has another layout. DataErrors: all invalid points, by object and frame.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".png":
        raise DataError(path, reason="expected a file of points, got masks", cure="give them with --masks")
    if suffix not in SUFFIXES:
        kinds = "a .json, .jsonl, .csv or SAM-PT .txt file"
        raise DataError(path, reason=f"expected {kinds}, got {suffix or 'no suffix'!r}", cure=SEE_HELP)
    problems: list[Problem] = []
    return prompts_of_clip(read_clip(path, problems), frames, problems)


def prompts_of_points(objects: Mapping[str, Points], frames: Frames) -> Prompts:
    """Prompts from points by object name; raises DataErrors as `read_points` does."""
    clip_objects = []
    for name, points in objects.items():
        rows = zip(points.frame, points.xy, points.label, strict=True)
        own = tuple(
            ClipPoint(frame=int(t), x=float(x), y=float(y), label=int(label), place=f"object {name!r}, point {i}")
            for i, (t, (x, y), label) in enumerate(rows)
        )
        clip_objects.append(ClipObject(object_id=name, name=name, points=own))
    return prompts_of_clip(OwnClip(objects=tuple(clip_objects), file=Path("points")), frames)


def prompts_of_clip(clip: OwnClip, frames: Frames, problems: Sequence[Problem] = ()) -> Prompts:
    """Prompts from an own clip.

    Args:
        clip: the clip.
        frames: of its video.
        problems: mistakes that were found while it was read.

    Raises:
        DataErrors: all mistakes; an object without a positive point or a mask is one.
    """
    source, problems = str(clip.file), list(problems)
    try:
        objects, notes = locate(clip, frames)
    except DataErrors as errors:
        objects, notes = (), []
        problems += errors.problems
    places = [f"{problem.record}," for problem in problems]
    for item in clip.objects:
        # Of an object with a wrong point, that may have been its positive one.
        wrong = any(f"object {item.object_id[:60]!r}," in place for place in places)
        if not wrong and (problem := _without_start(source, item)) is not None:
            problems.append(problem)
    _check_number(source, len(clip.objects), problems)
    if problems:
        raise DataErrors(problems)
    prompted = sorted({t for item in objects for t in (*item.points.frame.tolist(), *item.masks)})
    by_frame = {t: _frame_prompts(objects, t) for t in prompted}
    notes += [note for item in objects for note in _lone_negatives(source, item, frames)]
    hinted = {t: p for t, p in by_frame.items() if any(hint is not None for hint in (*p.points, *p.masks))}
    names = tuple(item.object_id for item in clip.objects)
    return Prompts(names, hinted, tuple(item.points for item in objects), tuple(notes))


def _frame_prompts(objects: tuple[LocatedObject, ...], t: int) -> FramePrompts:
    points = tuple(_in_frame(item.points, t) for item in objects)
    if not any(t in item.masks for item in objects):
        return FramePrompts(points=points)
    masks = tuple(decode(item.masks[t]).astype(bool) if t in item.masks else None for item in objects)
    return FramePrompts(masks=masks, points=tuple(p if m is None else None for p, m in zip(points, masks, strict=True)))


def _without_start(source: str, item: ClipObject) -> Problem | None:
    """The problem of an object that nothing says where to begin with."""
    labels = [point.label for point in item.points]
    if POSITIVE in labels or any(mask.mask is not None for mask in item.masks):
        return None
    record = f"object {item.object_id!r}"
    if item.boxes:
        reason = "a box alone, which propagators do not take"
        return Problem(source, record=record, field="boxes", reason=reason, cure="put a positive point on the object")
    text = f"{labels.count(NEGATIVE)} negative and {labels.count(AMBIGUOUS)} ambiguous points, no positive one"
    return Problem(source, record=record, field="label", reason=text, cure="put a positive point on it")


def _check_number(source: str, count: int, problems: list[Problem]) -> None:
    if not count and not problems:
        problems.append(Problem(source, field="objects", reason="no object has a point", cure=SEE_HELP))
    if count > MAX_NUMBER:
        reason = f"{count} objects, a label map holds {MAX_NUMBER}"
        problems.append(Problem(source, field="objects", reason=reason, cure="propagate them in two runs"))


def _lone_negatives(source: str, item: LocatedObject, frames: Frames) -> list[Problem]:
    """Notes on frames in which an object has negatives and nothing else."""
    negative, positive = (set(item.points.of(label).frame.tolist()) for label in (NEGATIVE, POSITIVE))
    reason = "negative points without a positive one in this frame are ignored"
    return [
        Problem(
            source,
            record=f"object {item.object_id!r}, frame {frames.names[t]}",
            reason=reason,
            cure="add a positive point there",
            kind="note",
        )
        for t in sorted(negative - positive - set(item.masks))
    ]


def _in_frame(points: Points, t: int) -> PointPrompts | None:
    here = points.in_frame(t)
    positive, negative = here.of(POSITIVE).xy, here.of(NEGATIVE).xy
    return PointPrompts(positive, negative) if len(positive) else None
