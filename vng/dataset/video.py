"""One row of a VNG dataset: its schema, and the typed record of a video, checked on construction."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vng.errors import DataError
from vng.frames import EncodedFrames, Frames, name_problem, open_frames
from vng.masks import RLE, from_json
from vng.narratives import Expression, Narrative, check_span
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points
from vng.records import MOST, Reader

if TYPE_CHECKING:
    from datasets import Features

# The fields of an object's quality that are shares: in [0, 1], or null.
MEASURES = ("point_agreement", "mask_area", "stability", "conflict")


@lru_cache(maxsize=1)
def features() -> Features:
    """The schema as `datasets.Features`."""
    from datasets import Features, Image, List, Value

    string, int32, float32 = Value("string"), Value("int32"), Value("float32")
    point = {"frame": int32, "x": float32, "y": float32, "label": Value("int8")}
    quality = {
        "point_agreement": float32,  # share of held-out points on the right side; null without held-out points
        "n_points": int32,  # verified points of the object, including held-out ones; 0 for a trace
        "n_held_out": int32,
        "mask_area": float32,  # mean share of the frame; null if all masks are empty
        "stability": float32,  # mean ratio of smaller to larger area of consecutive masks; null for fewer than two
        "conflict": float32,  # mean share of a mask that other objects' masks also cover; null where not measured
        "link": string,  # how nouns were linked to the object: "name", "name+trace"; "" where the source links them
    }
    return Features(
        {
            "video_id": string,
            "dataset": string,
            "split": string,
            "height": int32,
            "width": int32,
            "fps": float32,
            "frame_names": List(string),
            "frames": List(Image()),
            "frames_path": string,
            "narratives": List({"actor_name": string, "description": string}),
            "expressions": List({"narrative": int32, "start": int32, "end": int32, "object_id": string}),
            "objects": List(
                {
                    "object_id": string,
                    "name": string,
                    "source": string,
                    "quality": quality,
                    "segmentations": List({"size": List(int32), "counts": string}),
                    "points": List(point),
                }
            ),
        }
    )


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
    segmentations: tuple[RLE | None, ...]
    points: Points = field(default_factory=Points.none)
    quality: Quality = Quality()

    @property
    def has_pseudo_masks(self) -> bool:
        """Whether the masks were computed from points or a trace."""
        return self.source.startswith(("points/", "trace/"))


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
        for name in self.frame_names:  # prediction files are named by them
            if not name or name in (".", "..") or any(c in name for c in "/\\\0"):
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
            for name, rle in zip(self.frame_names, item.segmentations, strict=True):
                if rle is not None and rle.size != (self.height, self.width):
                    return f"{where}.{name}", f"mask of size {rle.size}, expected {(self.height, self.width)}"
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

    @cached_property
    def object_by_id(self) -> dict[str, VideoObject]:
        """Object id -> object."""
        return {item.object_id: item for item in self.objects}

    def noun(self, expression: Expression) -> str:
        """The marked words of an expression."""
        return expression.noun(self.narratives[expression.narrative].description)

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
    narratives = [
        Narrative(child.get("actor_name", str), child.get("description", str))
        for child in reader.children("narratives")
    ]
    try:
        record = Video(
            video_id=reader.get("video_id", str),
            dataset=reader.get("dataset", str),
            split=reader.get("split", str),
            height=reader.get("height", int),
            width=reader.get("width", int),
            fps=float(reader.get("fps", float)),
            frame_names=tuple(reader.items("frame_names", str)),
            narratives=tuple(narratives),
            expressions=tuple(_read_expression(child) for child in reader.children("expressions")),
            objects=tuple(_read_object(child) for child in reader.children("objects")),
        )
    except DataError as error:  # of the checks of Video, which knows no folder
        fields = {"field": error.problem.field, "reason": error.problem.reason, "cure": error.problem.cure}
        raise DataError(folder, record=reader.record, **fields) from error
    return replace(record, frames=_frames_of(reader, record, folder, frames_root))


def _read_expression(reader: Reader) -> Expression:
    narrative, start, end = (reader.get(key, int) for key in ("narrative", "start", "end"))
    return Expression(narrative, start, end, reader.get("object_id", str))


def _read_object(reader: Reader) -> VideoObject:
    object_id = reader.get("object_id", str)
    reader.path = f"objects.{object_id}"
    masks: list[RLE | None] = []
    for index, value in enumerate(reader.get("segmentations", list)):
        try:
            masks.append(from_json(value))
        except ValueError as error:
            raise reader.error(f"segmentations[{index}]", str(error)) from error
    name, source = reader.get("name", str), reader.get("source", str)
    return VideoObject(object_id, name, source, tuple(masks), _read_points(reader), _read_quality(reader))


def _read_points(reader: Reader) -> Points:
    """The points of an object; for speed, they are checked as arrays."""
    values = reader.get("points", list)
    try:
        frame, label = (np.array([value[key] for value in values], np.int64) for key in ("frame", "label"))
        xy = np.array([(value["x"], value["y"]) for value in values], np.float64).reshape(-1, 2)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise reader.error("points", "expected points {frame, x, y, label} of numbers") from error
    bad = ~(np.abs(xy) < MOST).all(1) | ~np.isin(label, (POSITIVE, NEGATIVE, AMBIGUOUS)) | (frame < 0) | (frame > MOST)
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


def _frames_of(reader: Reader, record: Video, folder: Path, frames_root: Path | None) -> Frames | None:
    """The frames of a row: embedded, linked, or none."""
    if reader.get("frames", list):
        images = [child.get("bytes", bytes) for child in reader.children("frames")]
        if len(images) != len(record.frame_names):
            raise reader.error("frames", f"{len(images)} images for {len(record.frame_names)} frame names")
        return EncodedFrames(images, record.frame_names, f"{folder}: {record.video_id}", record.fps)
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
    frames = open_frames(linked)
    places = {name: frames.index_of(name) for name in record.frame_names}
    if missing := [name for name, place in places.items() if place is None]:
        raise DataError(
            linked,
            record=record.video_id,
            field="frame_names",
            reason=f"no frame {missing[0]!r} ({len(missing)} missing)",
        )
    return frames.subset([place for place in places.values() if place is not None])


def reference_frame(item: VideoObject) -> int | None:
    """The first frame in which an object has a positive point; None if it has none."""
    frames = item.points.frame[np.asarray(item.points.label) == POSITIVE]
    return int(frames.min()) if len(frames) else None
