"""One row of a VNG dataset as the typed record of a video, checked on construction (columns: `schema`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vng.dataset.linked_frames import FRAME_INDEX, LinkedFrames
from vng.dataset.masklet import MASK_BYTES, Masklet, read_masklet
from vng.dataset.packed import PackedPoints
from vng.errors import DataError, surrogate_problem
from vng.frames import EncodedFrames, Frames, name_problem
from vng.masks import RLE
from vng.narratives import Expression, Narrative, check_span
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points
from vng.records import MOST, Reader

POINT_BYTES = 13  # of a point in memory: frame, x, y, label
# The fields of an object's quality that are shares: in [0, 1], or null.
MEASURES = ("point_agreement", "mask_area", "stability", "conflict")


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Measures of how reliable an object's masks are; see `features` for the fields."""

    point_agreement: float | None = None
    n_points: int = 0
    n_held_out: int = 0
    mask_area: float | None = None
    stability: float | None = None
    conflict: float | None = None
    link: str = ""


@dataclass(frozen=True)
class VideoObject:
    """One object of a video: its masks over `frame_names` (None where unannotated) and its points."""

    object_id: str
    name: str
    source: str  # origin of the masks: "orig_masks", "extra_masks", "points/<segmenter>", "trace/<segmenter>"
    segmentations: Sequence[RLE | None]
    points: Points = field(default_factory=Points.none)
    quality: Quality = Quality()

    @property
    def annotated(self) -> np.ndarray:
        """The frames that have a mask, which may be empty; bool [T]."""
        masks = self.segmentations
        return masks.annotated if isinstance(masks, Masklet) else np.array([rle is not None for rle in masks], bool)

    @property
    def has_pseudo_masks(self) -> bool:
        """Whether the masks were computed from points, a trace or a mask of another frame."""
        return self.source.startswith(("points/", "trace/", "mask/"))


@dataclass(frozen=True, kw_only=True)
class Video:
    """One row of a VNG dataset, validated on construction."""

    video_id: str
    dataset: str
    split: str
    height: int
    width: int
    fps: float
    frame_names: tuple[str, ...]
    narratives: tuple[Narrative, ...]
    expressions: tuple[Expression, ...]
    objects: tuple[VideoObject, ...]
    frames: Frames | None = None  # None: a record without pixels

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            field, reason = problem
            raise DataError(self.dataset, record=self.video_id, field=field, reason=reason)

    def _problem(self) -> tuple[str, str] | None:
        for place, texts in self._texts().items():
            if reason := surrogate_problem("\n".join(texts)):  # neither Parquet nor a console can hold it
                return place, reason
        for name in _no_file_names(self.frame_names):  # prediction files are named by them
            return "frame_names", f"frame name {name!r} is not a file name"
        if len(set(self.frame_names)) != len(self.frame_names):
            return "frame_names", "frame names repeat"
        if problem := name_problem(self.video_id):  # predictions lie in a folder of this name
            return "video_id", problem
        if not re.fullmatch(r"\w+", self.split):
            return "split", f"{self.split!r} is not a split name: use letters, digits and _ only"
        ids = [item.object_id for item in self.objects]
        if len(set(ids)) != len(ids):
            return "objects", f"object ids repeat: {sorted({i for i in ids if ids.count(i) > 1})}"
        for item in self.objects:
            where = f"objects.{item.object_id}"
            if len(item.segmentations) != len(self.frame_names):
                return where, f"{len(item.segmentations)} segmentations for {len(self.frame_names)} frames"
            for index, size in _sizes(item.segmentations):
                if size != (self.height, self.width):
                    place = f"{where}.{self.frame_names[index]}"
                    return place, f"mask of size {size}, expected {(self.height, self.width)}"
            if len(item.points) and not 0 <= item.points.frame.min() <= item.points.frame.max() < len(self.frame_names):
                return f"{where}.points", f"a point in frame {item.points.frame.max()} of {len(self.frame_names)}"
        for index, expression in enumerate(self.expressions):
            where = f"expressions.{index}"
            if not 0 <= expression.narrative < len(self.narratives):
                return where, f"narrative {expression.narrative} of {len(self.narratives)}"
            try:
                check_span(self.narratives[expression.narrative].description, expression.start, expression.end)
            except ValueError as error:
                return where, str(error)
            if expression.object_id not in ids:
                return where, f"object {expression.object_id!r} is not among the video's objects"
        return None

    def _texts(self) -> dict[str, Iterable[str]]:
        """All texts of the row, by field."""
        return {
            "dataset": [self.dataset],
            "frame_names": self.frame_names,
            "narratives": [text for n in self.narratives for text in (n.actor_name, n.description)],
            "objects": [text for o in self.objects for text in (o.object_id, o.name, o.source, o.quality.link)],
            "expressions": [e.object_id for e in self.expressions],
        }

    @cached_property
    def object_by_id(self) -> dict[str, VideoObject]:
        """Object id -> object."""
        return {item.object_id: item for item in self.objects}

    def noun(self, expression: Expression) -> str:
        """The marked words of an expression."""
        return expression.noun(self.narratives[expression.narrative].description)

    @property
    def nbytes(self) -> int:
        """Bytes of images, masks and points that this record holds in memory, roughly."""
        masks = sum(_bytes(item.segmentations) + POINT_BYTES * len(item.points) for item in self.objects)
        return masks + (0 if self.frames is None else self.frames.nbytes)

    def opened_frames(self) -> Frames:
        """The frames; raises DataError for a record without pixels."""
        if self.frames is None:
            raise DataError(
                self.dataset,
                record=self.video_id,
                field="frames",
                reason="this video carries no frames",
                cure="convert it with --frames",
            )
        return self.frames

    def as_row(self, embed: bool = True, frames_path: str = "") -> dict[str, Any]:
        """The row as plain values of the schema; with `embed` it holds the images, otherwise `frames_path`."""
        images = []
        if embed and self.frames is not None:
            images = [{"bytes": self.frames.encoded(i), "path": None} for i in range(len(self.frames))]
        return {
            "video_id": self.video_id,
            "dataset": self.dataset,
            "split": self.split,
            "height": self.height,
            "width": self.width,
            "fps": self.fps,
            "frame_names": list(self.frame_names),
            "frames": images,
            "frames_path": "" if images else frames_path,
            "narratives": [vars(narrative) for narrative in self.narratives],
            "expressions": [vars(expression) for expression in self.expressions],
            "objects": [_object_row(item) for item in self.objects],
        }


def _no_file_names(names: Sequence[str]) -> list[str]:
    """The names that no file can have."""
    if not set("/\\\0").isdisjoint("".join(names)) or not {"", ".", ".."}.isdisjoint(names):
        return [name for name in names if name in ("", ".", "..") or not set("/\\\0").isdisjoint(name)]
    return []


def _bytes(masks: Sequence[RLE | None]) -> int:
    """Bytes of masks in memory, without checking them."""
    if isinstance(masks, Masklet):
        return masks.nbytes
    return sum(MASK_BYTES + len(rle.counts) for rle in masks if rle is not None)


def _sizes(masks: Sequence[RLE | None]) -> list[tuple[int, tuple[int, int]]]:
    """Frames with a mask, and its size; of a masklet, all of whose masks have one size, the first one alone."""
    if isinstance(masks, Masklet):
        return [(int(masks.annotated.argmax()), masks.size)]
    return [(index, rle.size) for index, rle in enumerate(masks) if rle is not None]


def _object_row(item: VideoObject) -> dict[str, Any]:
    points = item.points
    return {
        "object_id": item.object_id,
        "name": item.name,
        "source": item.source,
        "quality": vars(item.quality),
        "segmentations": [None if rle is None else rle.as_dict() for rle in item.segmentations],
        "points": [
            {"frame": int(f), "x": float(x), "y": float(y), "label": int(label)}
            for f, (x, y), label in zip(points.frame, points.xy, points.label, strict=True)
        ],
    }


def video_from_row(row: dict[str, Any], folder: Path, frames_root: Path | None = None) -> Video:
    """The typed record of a row.

    Args:
        row: plain values of the schema; files come from outside, so each is checked.
        folder: the dataset's folder.
        frames_root: the folder of linked frames, if they moved.

    Raises:
        DataError: naming dataset, video and field.
    """
    name = row.get("video_id")
    reader = Reader(row, folder, name if isinstance(name, str) else "a row")
    narratives = read_narratives(reader)
    names, fps = tuple(reader.items("frame_names", str)), float(reader.get("fps", float))
    fields = {
        "video_id": reader.get("video_id", str),
        "dataset": reader.get("dataset", str),
        "split": reader.get("split", str),
        "height": reader.get("height", int),
        "width": reader.get("width", int),
        "expressions": read_expressions(reader),
        "objects": tuple(_read_object(child) for child in reader.children("objects")),
        "frames": _frames_of(reader, names, fps, folder, frames_root),
    }
    try:
        return Video(fps=fps, frame_names=names, narratives=narratives, **fields)
    except DataError as error:  # of the checks of Video, which knows no folder
        problem = error.problem
        raise DataError(
            folder, record=reader.record, field=problem.field, reason=problem.reason, cure=problem.cure
        ) from error


def read_narratives(reader: Reader) -> tuple[Narrative, ...]:
    """The narratives of a row."""
    children = reader.children("narratives")
    return tuple(Narrative(child.get("actor_name", str), child.get("description", str)) for child in children)


def read_expressions(reader: Reader) -> tuple[Expression, ...]:
    """The expressions of a row; their spans are not checked."""
    return tuple(
        Expression(
            child.get("narrative", int), child.get("start", int), child.get("end", int), child.get("object_id", str)
        )
        for child in reader.children("expressions")
    )


def _read_object(reader: Reader) -> VideoObject:
    object_id = reader.get("object_id", str)
    reader.path = f"objects.{object_id}"
    masks = read_masklet(reader.get("segmentations", list), reader)
    name, source = reader.get("name", str), reader.get("source", str)
    return VideoObject(object_id, name, source, masks, _read_points(reader), _read_quality(reader))


def _read_points(reader: Reader) -> Points:
    """The points of an object; for speed, they are checked as arrays."""
    values = reader.get("points", list)
    try:
        if isinstance(values, PackedPoints):
            frame, label, xy = values.frame, values.label, np.stack([values.x, values.y], 1)
        else:
            frame, label = (np.array([value[key] for value in values], np.int64) for key in ("frame", "label"))
            xy = np.array([(value["x"], value["y"]) for value in values], np.float64).reshape(-1, 2)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise reader.error("points", "expected points {frame, x, y, label} of numbers") from error
    bad = ~(np.abs(xy) < MOST).all(1) | (frame < 0) | (frame > MOST)
    bad |= (label != POSITIVE) & (label != NEGATIVE) & (label != AMBIGUOUS)
    if bad.any():
        index = int(bad.argmax())
        reason = f"not a point: frame {frame[index]}, x, y {xy[index].tolist()}, label {label[index]}"
        raise reader.error(f"points[{index}]", reason, "a point has finite x and y, and a label 1, 0 or -1")
    return Points(frame, xy, label)


def _read_quality(reader: Reader) -> Quality:
    child = reader.child("quality")
    shares = {name: child.optional(name, float) for name in MEASURES}
    counts = {name: child.get(name, int, default=0) for name in ("n_points", "n_held_out")}
    return Quality(**shares, **counts, link=child.get("link", str, default=""))


def _frames_of(
    reader: Reader, names: Sequence[str], fps: float, folder: Path, frames_root: Path | None
) -> Frames | None:
    """The frames of a row: embedded, linked, or none."""
    if reader.get("frames", list):
        images = [child.get("bytes", bytes) for child in reader.children("frames")]
        if len(images) != len(names):
            raise reader.error("frames", f"{len(images)} images for {len(names)} frame names")
        return EncodedFrames(images, names, f"{folder}: {reader.record}", fps)
    path = reader.get("frames_path", str)
    if not path:
        return None
    try:
        linked = (folder / path).resolve() if frames_root is None else frames_root / Path(path).name
        exists = linked.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise reader.error("frames_path", f"not a path ({type(error).__name__})") from error
    if not exists:
        reason, cure = f"linked frames are not at {linked}", "move them back, or convert again without --link-frames"
        raise reader.error("frames_path", reason, cure)
    index_folder = folder / FRAME_INDEX if folder.is_dir() else None
    return LinkedFrames(linked, names, reader.record, fps, index_folder)


def reference_frame(item: VideoObject) -> int | None:
    """The first frame in which an object has a positive point; None if it has none."""
    frames = item.points.frame[np.asarray(item.points.label) == POSITIVE]
    return int(frames.min()) if len(frames) else None
