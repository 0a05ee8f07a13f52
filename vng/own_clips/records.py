"""Own clips as records, and as the JSON values that stand for them in a file (the format: `vng.own_clips`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vng.frames import as_path
from vng.masks import RLE
from vng.narratives import Expression, Narrative, link
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE

NAMES = {POSITIVE: "positive", NEGATIVE: "negative", AMBIGUOUS: "ambiguous"}


class FrameText(str):
    """A frame as text that may be an index or a name, as in CSV files and keys of JSON."""


Frame = int | str  # an index, a name, or a FrameText
PIXELS, PERCENT = "pixels", "percent"
UNITS = (PIXELS, PERCENT)  # of points and boxes; percent of the frame's sides, from edge to edge
WHOLE = "."  # a video that is the folder itself, in which others would lie


@dataclass(frozen=True, kw_only=True)
class ClipPoint:
    """A labelled point."""

    frame: Frame
    x: float
    y: float
    label: int
    place: str = ""  # for messages


@dataclass(frozen=True, kw_only=True)
class ClipBox:
    """A box around the object: centres of its first and last pixels."""

    frame: Frame
    corners: tuple[float, float, float, float]  # x0, y0, x1, y1
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class ClipMask:
    """The mask of a frame; an empty one where the object is absent."""

    frame: Frame | None  # None: that of the file's name, else the first
    mask: str | RLE | None  # a PNG, relative to the file's folder; None: the object is absent
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class ClipObject:
    """One object of a clip, with all that says where it is."""

    object_id: str
    name: str = ""
    points: tuple[ClipPoint, ...] = ()
    boxes: tuple[ClipBox, ...] = ()
    masks: tuple[ClipMask, ...] = ()

    @property
    def is_prompted(self) -> bool:
        """Whether anything says where the object is."""
        return bool(self.points or self.boxes or any(mask.mask is not None for mask in self.masks))


@dataclass(frozen=True, kw_only=True)
class OwnClip:
    """One video, with its narratives and objects."""

    video: str = ""  # its path; "" in a file of points
    video_id: str = ""
    split: str = ""
    narratives: tuple[Narrative, ...] = ()
    expressions: tuple[Expression, ...] = ()
    objects: tuple[ClipObject, ...] = ()
    unit: str = PIXELS
    size: tuple[int, int] | None = None  # height and width that it was annotated in; None: unknown
    count: int | None = None  # frames that the annotation tool counted; None: unknown
    file: Path = Path()
    record: str = ""  # its place in the file


def clip_json(clip: OwnClip) -> dict[str, Any]:
    """A clip as the JSON value that `read_own_clips` reads; raises ValueError for nouns whose spans overlap."""
    value: dict[str, Any] = {"video": clip.video} if clip.video else {}
    if clip.video_id and clip.video_id != PurePosixPath(as_path(clip.video)).stem:
        value["id"] = clip.video_id
    if clip.split:
        value["split"] = clip.split
    if clip.unit != PIXELS:
        value["unit"] = clip.unit
    if clip.size is not None:
        value["size"] = list(clip.size)
    if clip.count is not None:
        value["frames"] = clip.count
    texts = []
    for index, narrative in enumerate(clip.narratives):
        nouns = [(e.start, e.end, e.object_id) for e in clip.expressions if e.narrative == index]
        text = link(narrative.description, nouns)
        texts.append({"actor": narrative.actor_name, "text": text} if narrative.actor_name else text)
    if texts:
        value["narrative"] = texts[0] if len(texts) == 1 and isinstance(texts[0], str) else texts
    nouns_of = {e.object_id: e.noun(clip.narratives[e.narrative].description) for e in reversed(clip.expressions)}
    objects = {
        item.object_id: _object_json(item, nouns_of.get(item.object_id, item.object_id)) for item in clip.objects
    }
    return value | ({"objects": objects} if objects else {})


def _object_json(item: ClipObject, usual_name: str) -> dict[str, Any]:
    value: dict[str, Any] = {} if item.name in ("", usual_name) else {"name": item.name}
    if item.points:
        value["points"] = [[p.frame, p.x, p.y, NAMES[p.label]] for p in item.points]
    if item.boxes:
        value["boxes"] = [[box.frame, *box.corners] for box in item.boxes]
    given = [mask for mask in item.masks if mask.mask is not None]
    if given and given[0].frame is None:
        value["mask"] = given.pop(0).mask
    if given:
        pairs = [(mask.frame, mask.mask.as_dict() if isinstance(mask.mask, RLE) else mask.mask) for mask in given]
        by_index = any(isinstance(frame, int) for frame, _ in pairs)  # as a key, it could be the name of another frame
        value["masks"] = [list(pair) for pair in pairs] if by_index else dict(pairs)
    if absent := [mask.frame for mask in item.masks if mask.mask is None]:
        value["absent"] = absent
    return value
