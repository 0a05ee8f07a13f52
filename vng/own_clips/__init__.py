"""Own clips: what a person knows about some videos, written by hand; one JSON line a video, or one file for one video.

    {"video": "clips/parrots.mp4", "narrative": "A green [parrot](a) plays with the other [parrot](b).",
     "objects": {"a": {"points": [[0, 120, 80, "positive"], ...]}, "b": {"mask": "masks/b/00000.png"}}}

Everything but `video` may be left out. An object has any of: `name`; `points`, [frame, x, y, label] or {frame, x, y, label};
`boxes`, [frame, x0, y0, x1, y1]; `mask`, a PNG; `masks`, {frame: PNG or RLE}; `absent`, frames in which it is not there.
A list in place of an object is its points. A frame is a 0-based index or a name. A pixel's centre has whole numbers, x to
the right and y down. Labels: positive (the default), negative, ambiguous. `id` names the video in datasets [its file name],
`split` its split. `narrative` may be a list, each item a text or {"actor": name, "text": text}. `unit` of points and boxes
may be "percent"; `size` and `frames` are those that were annotated, and checked. `masks` may be a list of [frame, mask].

One video's points may also stand in a .json file without `video` (`points.json` of `vng propagate`), or in a CSV file:

    {"objects": {"parrot": [{"frame": 0, "x": 120, "y": 80, "label": "positive"}, ...], ...}}
    object,frame,x,y,label

Point files of SAM-PT's demo (.txt) are read as well: `sam_pt_points`.

docs/own-clips.md explains the format by examples. All mistakes of a file are told at once.
"""

from vng.own_clips.locate import LocatedObject, corners_of_edges, locate
from vng.own_clips.reader import clip_of_json, read_clip, read_own_clips
from vng.own_clips.records import (
    PERCENT,
    PIXELS,
    WHOLE,
    ClipBox,
    ClipMask,
    ClipObject,
    ClipPoint,
    Frame,
    FrameText,
    OwnClip,
    clip_json,
)

__all__ = [
    "PERCENT",
    "PIXELS",
    "WHOLE",
    "ClipBox",
    "ClipMask",
    "ClipObject",
    "ClipPoint",
    "Frame",
    "FrameText",
    "LocatedObject",
    "OwnClip",
    "clip_json",
    "clip_of_json",
    "corners_of_edges",
    "locate",
    "read_clip",
    "read_own_clips",
]
