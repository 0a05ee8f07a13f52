"""CVAT's XML 1.1, "for video" and "for images", as own clips.

<annotations><meta><task> name, size, start_frame, stop_frame, frame_filter ("step=5"), original_size, source</task></meta>
  <track id label task_id>  <box|polygon|ellipse|points|mask frame outside keyframe ...><attribute name="...">...
  <image id name width height>  the same shapes with a label, without frame

Read is the XML, or the ZIP that CVAT writes. The names of the attributes that are read are in `ATTRIBUTES`. How shapes
become masks, boxes and points is in docs/formats.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from conversion.formats.cvat_shapes import EDGES, Shape, corners_of, frame_of, mask_of, points_of, sides_of, upright
from conversion.formats.drawn import LABELS, MOST_FRAMES, DrawnClip, Notes, finished, labelled, problem_of
from conversion.formats.jsonio import OnProblem
from conversion.formats.xml_events import open_document, parse_xml
from vng.errors import DataError
from vng.frames import as_path
from vng.masks import is_size
from vng.own_clips import WHOLE, OwnClip
from vng.points import POSITIVE

DOCUMENT = "annotations.xml"
OBJECT_ID, POINT, ANNOTATED = "object_id", "point", "annotated"
ATTRIBUTES = (OBJECT_ID, POINT, ANNOTATED)  # of labels; all may be missing
MASKS = ("polygon", "ellipse", "mask")
SHAPES = ("box", "points", *MASKS)
UNREAD = ("polyline", "cuboid", "skeleton", "tag")
SizeOf = Callable[[str], tuple[int, int] | None]
MOST_SHAPES = 1 << 22  # of a file: an archive of a few bytes could hold many more
FIX = "correct or delete this shape in CVAT"


@dataclass
class _Task:
    """A task, as the head of the file describes it."""

    values: dict[str, str] = field(default_factory=dict)

    def number(self, key: str, default: int) -> int:
        text = self.values.get(key, "")
        return int(text) if text.isdecimal() and len(text) < 8 else default

    @property
    def step(self) -> int:
        """Every how many-th frame of the video the task shows."""
        found = re.fullmatch(r"step\s*=\s*(\d{1,6})", self.values.get("frame_filter", "").strip())
        return max(1, int(found[1])) if found else 1

    def frames(self, last: int) -> range:
        """The frames of the task; `last` is the last one of a shape, for a file that does not say it."""
        start = self.number("start_frame", 0)
        stop = self.number("stop_frame", start + (self.number("size", 0) - 1) * self.step)
        size = self.number("size", 0)
        if size:  # some writers give the frame after the last one
            stop = min(stop, start + (size - 1) * self.step)
        return range(start, max(stop, last) + 1, self.step)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of its frames, where the file says it."""
        size = self.number("height", 0), self.number("width", 0)
        return size if is_size(size) else None


def read_cvat(path: Path, on_problem: OnProblem, size_of: SizeOf | None = None) -> Iterator[OwnClip]:
    """The clips of a file: one for each task of tracks, one for each folder of images.

    Args:
        path: the XML, or the ZIP that it is in.
        on_problem: receives shapes with mistakes, which are left out, and one note of each kind of thing not read.
        size_of: height and width of a video's frames, None where it is not there; CVAT says them of films alone.

    Raises:
        DataError: there is no such file, it is broken, has a DOCTYPE, or holds no shape.
    """
    reader = _Reader(path, on_problem, size_of)
    with open_document(path, DOCUMENT) as file:
        parse_xml(file, path, reader.start, reader.end)
    reader.notes.tell()
    yield from finished(reader.clips, path, "export it as `CVAT for video 1.1` or `CVAT for images 1.1`")


class _Reader:
    """Receives the elements of a document, and gathers its clips."""

    def __init__(self, path: Path, on_problem: OnProblem, size_of: SizeOf | None) -> None:
        self.path, self.on_problem, self.notes = path, on_problem, Notes(path, on_problem)
        self._size_of = size_of
        self.clips: dict[str, DrawnClip] = {}
        self._tasks: dict[str, _Task] = {}
        self._task, self._source = _Task(), ""
        self._stack: list[str] = []
        self._owner: Mapping[str, str] = {}  # XML attributes of the open track or image
        self._shapes: list[Shape] = []
        self._attribute = ""
        self._frames = 0  # told of without a shape of their own
        self._count = 0  # of shapes

    def start(self, name: str, given: dict[str, str], line: int) -> None:
        """An element begins."""
        within = self._stack[-1] if self._stack else ""
        self._stack.append(name)
        if name in ("task", "job") and "meta" in self._stack:
            self._task = _Task()
        elif name in ("track", "image"):
            self._owner, self._shapes = given, []
        elif within in ("track", "image") and name in SHAPES:
            self._shapes.append(Shape(name, given, line))
            self._count += 1
            if self._count > MOST_SHAPES:
                reason = f"more than {MOST_SHAPES} shapes"
                raise DataError(self.path, record=f"line {line}", reason=reason, cure="export it in parts")
        elif within in ("track", "image") and name in UNREAD:
            self.notes.add(f"a {name} is not read")
        elif name == "attribute" and within in SHAPES:
            self._attribute = given.get("name", "")

    def end(self, name: str, text: str, line: int) -> None:
        """An element ends."""
        self._stack.pop()
        within = self._stack[-1] if self._stack else ""
        if "meta" in self._stack:
            self._head(name, text, within)
        elif name == "attribute" and within in SHAPES and self._shapes:
            if self._attribute in ATTRIBUTES:
                self._shapes[-1].attributes[self._attribute] = text
            else:
                self.notes.add(f"the attribute {self._attribute[:60]!r} is not read")
        elif name == "track":
            self._track(line)
        elif name == "image":
            self._image(line)

    def _head(self, name: str, text: str, within: str) -> None:
        if name in ("task", "job"):
            self._tasks[self._task.values.get("id", "")] = self._task
        elif within in ("task", "job", "original_size"):
            self._task.values[name] = text.strip()
        elif name == "source" and within == "meta":
            self._source = text.strip()

    def _open(self, video: str, record: str, size: tuple[int, int] | None, video_id: str = "") -> DrawnClip:
        if video not in self.clips:
            self.clips[video] = DrawnClip(self.path, video, video_id or as_path(video).stem, record)
            size = size or (self._size_of(video) if self._size_of is not None else None)
        clip = self.clips[video]
        if size is not None:
            clip.sized(size)
        return clip

    def _task_of(self, task_id: str | None) -> _Task:
        only = next(iter(self._tasks.values())) if len(self._tasks) == 1 else self._task
        return self._tasks.get(task_id or "", only)

    def _report(self, place: str, shape: Shape, error: ValueError | DataError) -> None:
        self.on_problem(problem_of(self.path, f"line {shape.line}: {place}: {shape.kind}", error, FIX))

    def _track(self, line: int) -> None:
        number, label = self._owner.get("id", ""), self._owner.get("label", "")
        task, place = self._task_of(self._owner.get("task_id")), f"track {number}"
        video = task.values.get("source") or self._source or task.values.get("name") or self.path.stem
        shapes = []
        for shape in self._shapes:
            try:
                shape.frame = frame_of(shape)
                shapes.append(shape)
            except ValueError as error:
                self._report(place, shape, error)
        if not shapes:
            return
        shapes.sort(key=lambda shape: shape.frame)
        if any(shape.given.get("keyframe") == "1" for shape in shapes):  # some writers mark none
            for shape in shapes:
                shape.keyframe = shape.given.get("keyframe") == "1"
        name, sign = labelled(label) if shapes[0].kind == "points" else (label, POSITIVE)
        key = next((s.attributes[OBJECT_ID] for s in shapes if s.attributes.get(OBJECT_ID)), number or f"line {line}")
        try:
            clip = self._open(video, f"task {task.values.get('name', '')!r}", task.size)
        except ValueError as error:
            self._report(place, shapes[0], error)
            return
        drawn = _ends_at_once(shapes, task.step)
        for shape in drawn:
            if not shape.outside:
                self._shape(clip, key, name, f"{place}, frame {shape.frame}", shape, shape.frame, sign)
        if shapes[0].kind == "box":
            self._between(clip, key, name, drawn, task.step)
        self._gone(clip, key, name, drawn, task)

    def _between(self, clip: DrawnClip, key: str, name: str, shapes: list[Shape], step: int) -> None:
        """Boxes of frames that the file leaves out between two boxes, on the straight line between them."""
        for first, second in pairwise(shapes):
            if first.outside or second.outside or second.frame - first.frame <= step:
                continue
            try:
                ends = [sides_of(shape, EDGES) for shape in (first, second)]
                if any(shape.given.get("rotation") for shape in (first, second)):
                    raise ValueError("turned boxes are not carried over the frames that the file leaves out")
                for frame in self._counted(range(first.frame + step, second.frame, step), first.line):
                    share = (frame - first.frame) / (second.frame - first.frame)
                    sides = [a + share * (b - a) for a, b in zip(*ends, strict=True)]
                    clip.box(key, name, frame, corners_of(sides, clip.size))
            except ValueError as error:
                self._report(f"object {key!r}, frames {first.frame} to {second.frame}", first, error)

    def _gone(self, clip: DrawnClip, key: str, name: str, shapes: list[Shape], task: _Task) -> None:
        """The frames in which a track is outside: from such a shape up to the next one."""
        frames = task.frames(shapes[-1].frame)
        stops = [shape.frame for shape in shapes[1:]] + [frames.stop]
        for shape, stop in zip(shapes, stops, strict=True):
            # Tracks of masks are single shapes in CVAT, a point may be hidden while its object is there.
            known = shape.attributes.get(ANNOTATED, "").strip().lower() != "false"
            if not shape.outside or shape.kind in ("mask", "points") or not known:
                continue
            clip.absent(key, name, self._counted(range(shape.frame, stop, frames.step), shape.line))

    def _counted(self, frames: range, line: int) -> range:
        self._frames += len(frames)
        if self._frames > MOST_FRAMES:
            reason = f"tracks speak of more than {MOST_FRAMES} frames without a shape"
            raise DataError(self.path, record=f"line {line}", reason=reason, cure="export it in parts")
        return frames

    def _image(self, line: int) -> None:
        path = as_path(self._owner.get("name", ""))
        task = self._task_of(self._owner.get("task_id"))
        video = task.values.get("source") or self._source
        frame: int | str = path.stem
        number = self._owner.get("id", "")
        try:
            sides = [self._owner.get(side, "") for side in ("height", "width")]
            height, width = (int(side) if side.isdecimal() and len(side) < 9 else 0 for side in sides)
            if video:  # a film, whose frames CVAT numbers
                if not number.isdecimal() or len(number) > 7:
                    raise ValueError(f"id: expected the number of a frame, got {number[:40]!r}")
                frame = int(number)
            else:
                video = str(path.parent)
            flat = (task.values.get("name") or self.path.stem) if video == WHOLE else ""
            clip = self._open(video, "images", (height, width), flat)
        except ValueError as error:
            self.on_problem(problem_of(self.path, f"line {line}: image {path}", error, "export it again"))
            return
        for shape in self._shapes:
            label = shape.given.get("label", "")
            name, sign = labelled(label) if shape.kind == "points" else (label, POSITIVE)
            group = shape.given.get("group_id", "0")
            key = shape.attributes.get(OBJECT_ID) or (name if group in ("", "0") else f"{name}-{group}")
            self._shape(clip, key, name, f"image {path}", shape, frame, sign)

    def _shape(
        self, clip: DrawnClip, key: str, name: str, place: str, shape: Shape, frame: int | str, sign: int
    ) -> None:
        """Add a shape that is there."""
        try:
            if shape.kind in MASKS:
                if shape.keyframe:
                    clip.mask(key, name, frame, mask_of(shape, clip.size))
                else:
                    self.notes.add(f"a {shape.kind} that CVAT interpolated is not read: --propagator carries masks")
            elif shape.kind == "box":
                sides = sides_of(shape, EDGES)
                clip.box(key, name, frame, corners_of(upright(sides, shape), clip.size))
            elif shape.keyframe:
                sign = LABELS.get(shape.attributes.get(POINT, "").strip().lower(), sign)
                for x, y in points_of(shape):
                    clip.point(key, name, frame, (x - 0.5, y - 0.5), sign)
        except (ValueError, DataError) as error:
            clip.spoil(key, name, frame)
            self._report(place, shape, error)


def _ends_at_once(shapes: list[Shape], step: int) -> list[Shape]:
    """The shapes of a track; of a single one that CVAT closes in the next frame, this one alone.

    CVAT writes what was drawn in one frame as a track of that frame, with the same shape outside in the next: which says
    nothing of the next.
    """
    if len(shapes) != 2 or shapes[0].outside or not shapes[1].outside:
        return shapes
    same = shapes[0].place == shapes[1].place and shapes[1].frame == shapes[0].frame + step
    return shapes[:1] if same and ANNOTATED not in shapes[1].attributes else shapes
