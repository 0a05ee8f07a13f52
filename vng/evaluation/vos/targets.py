"""Targets of the protocols of video object segmentation: which objects of a video are scored, on which frames.

Null (unannotated) frames of an object are never scored; an empty mask is a true mask like any other. docs/protocols.md
has all decisions, and the behaviour of the official programs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from vng.dataset import Video, VideoObject, reference_frame
from vng.errors import DataError, UsageError, one_of
from vng.label_maps import object_numbers
from vng.masks import RLE, area, empty, union

MERGED = "all"  # the one object of DAVIS 2016
Truth = Literal["auto", "dense", "sparse", "youtube-vos"]
Masks = tuple[RLE | None, ...]
OFFICIAL = ("davis", "davis-unsupervised", "davis-2016")  # protocols whose official program can be reproduced


@dataclass(frozen=True)
class Target:
    """One thing to score: its true masks over the video's frames, and the frames (indices) that count."""

    object_id: str
    category: str
    masks: Masks
    frames: tuple[int, ...]
    number: int | None = None  # a number that no object of the dataset has (--official)
    merged: bool = False  # compared with all foreground pixels


@dataclass(frozen=True)
class LeftOut:
    """An object (or with object_id "" a whole video) that a protocol does not score, and why."""

    video: str
    object_id: str
    reason: str


@dataclass(frozen=True)
class Targets:
    """Targets of one video; `highest` is the highest number that the official program accepts."""

    scored: tuple[Target, ...]
    left_out: tuple[LeftOut, ...] = ()
    highest: int | None = None


@dataclass(frozen=True)
class Protocol:
    """A protocol by name with its settings; raises UsageError for settings that cannot be combined.

    `official` reproduces the official program's faults (davis...); `truth` is how point-vos reads the ground truth;
    `void` is a folder of annotations whose pixels of value 255 are excluded (davis-unsupervised).
    """

    name: str = "davis"
    official: bool = False
    truth: Truth = "auto"
    void: Path | None = None

    def __post_init__(self) -> None:
        one_of(self.name, PROTOCOLS, "protocol")
        one_of(self.truth, get_args(Truth), "kind of truth")
        if self.official and self.name not in OFFICIAL:
            raise UsageError(
                f"protocol {self.name} has no official program; --official requires one of: {', '.join(OFFICIAL)}"
            )
        if self.truth != "auto" and self.name != "point-vos":
            raise UsageError(f"--truth requires protocol point-vos, got {self.name}")
        if self.void is not None and self.name != "davis-unsupervised":
            raise UsageError(f"--void requires protocol davis-unsupervised, got {self.name}")

    def targets(self, video: Video) -> Targets:
        """The targets of a video."""
        return PROTOCOLS[self.name](video, self)


def annotated_frames(objects: Sequence[VideoObject], count: int) -> list[int]:
    """Frames on which at least one object is annotated (its mask may be empty)."""
    annotated = np.any([item.annotated for item in objects], axis=0) if objects else np.zeros(count, bool)
    return [int(t) for t in np.flatnonzero(annotated)]


def _target(item: VideoObject, frames: Sequence[int]) -> Target:
    """An object, scored on those of the frames on which it is annotated."""
    annotated = item.annotated
    return Target(item.object_id, item.name, tuple(item.segmentations), tuple(t for t in frames if annotated[t]))


def _visible(masks: Sequence[RLE | None], t: int) -> bool:
    rle = masks[t]
    return rle is not None and area(rle) > 0


def _to_targets(video: Video, items: Sequence[Target | LeftOut]) -> Targets:
    """The result as Targets; targets without a frame are skipped too."""
    scored = [item for item in items if isinstance(item, Target) and item.frames]
    left_out = [
        item if isinstance(item, LeftOut) else LeftOut(video.video_id, item.object_id, "no annotated frame to score")
        for item in items
        if isinstance(item, LeftOut) or not item.frames
    ]
    return Targets(tuple(scored), tuple(left_out))


def _too_short(video: Video, count: int, official: bool) -> Targets:
    reason = f"{count} annotated frames: none is left without the first and the last"
    if official:
        raise DataError(
            video.dataset,
            record=video.video_id,
            reason=f"{reason}; the official program fails here",
            cure="leave the video out, or leave out --official",
        )
    return Targets((), (LeftOut(video.video_id, "", reason),))


def _davis(video: Video, protocol: Protocol) -> Targets:
    """DAVIS 2017, semi-supervised: the objects of the first frame, on all frames but the first and the last."""
    frames = annotated_frames(video.objects, len(video.frame_names))
    if len(frames) < 3:
        return _too_short(video, len(frames), protocol.official)
    return _of_first_frame(video, frames[0], frames[1:-1], protocol.official)


def _davis_unsupervised(video: Video, protocol: Protocol) -> Targets:
    """DAVIS 2017, unsupervised: the objects of the first frame, on all frames."""
    frames = annotated_frames(video.objects, len(video.frame_names))
    if not frames:
        return Targets((), (LeftOut(video.video_id, "", "no annotated frame"),))
    return _of_first_frame(video, frames[0], frames, protocol.official)


def _of_first_frame(video: Video, first: int, frames: Sequence[int], official: bool) -> Targets:
    """The objects with a pixel on frame `first`, scored on `frames`."""
    if official:
        return _davis_official(video, first, frames)
    items: list[Target | LeftOut] = []
    for item in video.objects:
        if _visible(item.segmentations, first):
            items.append(_target(item, frames))
        else:
            items.append(LeftOut(video.video_id, item.object_id, "not in the first frame"))
    return _to_targets(video, items)


def _davis_official(video: Video, first: int, frames: Sequence[int]) -> Targets:
    """One object for each number up to the highest of the first frame; a number without an object is always absent."""
    by_number = {number: video.object_by_id[i] for i, number in object_numbers(video).items()}
    highest = max((n for n, item in by_number.items() if _visible(item.segmentations, first)), default=0)
    absent: Masks = (empty(video.height, video.width),) * len(video.frame_names)
    items: list[Target | LeftOut] = []
    for number in range(1, highest + 1):
        item = by_number.get(number)
        if item is None:
            items.append(Target(str(number), "", absent, tuple(frames), number))
        else:
            items.append(_target(item, frames))
    items += [
        LeftOut(video.video_id, item.object_id, "its number is above those of the first frame")
        for number, item in by_number.items()
        if number > highest
    ]
    targets = _to_targets(video, items)
    return Targets(targets.scored, targets.left_out, highest)


def _davis_2016(video: Video, protocol: Protocol) -> Targets:
    """DAVIS 2016: all objects as one, on the frames on which all are annotated but the first and the last of them."""
    masks: list[RLE | None] = []
    for t in range(len(video.frame_names)):
        rles = [item.segmentations[t] for item in video.objects]
        annotated = [rle for rle in rles if rle is not None]
        masks.append(union(annotated) if annotated and len(annotated) == len(rles) else None)
    frames = [t for t, rle in enumerate(masks) if rle is not None]
    if len(frames) < 3:
        return _too_short(video, len(frames), protocol.official)
    return Targets((Target(MERGED, "", tuple(masks), tuple(frames[1:-1]), merged=True),))


def _youtube_vos(video: Video, _protocol: Protocol) -> Targets:
    """YouTube-VOS: every object, on the annotated frames after the one it first appears in."""
    return _since_first(video, 1)


def _click(video: Video, _protocol: Protocol) -> Targets:
    """ClickVOS: every object, from the frame it first appears in, which is predicted too; the last one counts."""
    return _since_first(video, 0)


def _since_first(video: Video, later: int) -> Targets:
    """Every object, on the annotated frames from `later` frames after its first appearance on."""
    items: list[Target | LeftOut] = []
    for item in video.objects:
        first = next((t for t in range(len(item.segmentations)) if _visible(item.segmentations, t)), None)
        if first is None:
            items.append(LeftOut(video.video_id, item.object_id, "never annotated with a mask that has a pixel"))
            continue
        items.append(_target(item, range(first + later, len(video.frame_names))))
    return _to_targets(video, items)


def _point_vos(video: Video, protocol: Protocol) -> Targets:
    """Point-VOS: frames after the reference frame, the first one on which an object has a positive point.

    Sparse truth: all annotated ones of them; dense truth: without the first and the last annotated frame of the video.
    A video without points is scored as DAVIS (dense), as YouTube-VOS, or on all annotated frames (sparse).
    """
    frames = annotated_frames(video.objects, len(video.frame_names))
    dense = protocol.truth == "dense" or (protocol.truth == "auto" and len(frames) == len(video.frame_names))
    references = {item.object_id: reference_frame(item) for item in video.objects}
    pointed = any(t is not None for t in references.values())
    if not pointed and (dense or protocol.truth == "youtube-vos"):
        return (_davis if dense else _youtube_vos)(video, protocol)
    if dense and len(frames) < 3:
        return _too_short(video, len(frames), False)
    items: list[Target | LeftOut] = []
    for item in video.objects:
        reference = references[item.object_id]
        if pointed and reference is None:
            items.append(LeftOut(video.video_id, item.object_id, "no positive point to start from"))
            continue
        after = [t for t in (frames[1:-1] if dense else frames) if reference is None or t > reference]
        items.append(_target(item, after))
    return _to_targets(video, items)


PROTOCOLS: dict[str, Callable[[Video, Protocol], Targets]] = {
    "davis": _davis,
    "davis-unsupervised": _davis_unsupervised,
    "davis-2016": _davis_2016,
    "youtube-vos": _youtube_vos,
    "point-vos": _point_vos,
    "click": _click,
}
