"""Masks in YouTube-VIS layout (OVIS, UVO, YouTube-VIS) -> videos with true masks, categories as names, no narratives.

FILE.json         {"videos": [{id, height, width, file_names, ytid?}], "categories": [{id, name}],
                   "annotations": [{id, video_id, category_id, segmentations: [RLE | null]}]}
FRAMES/<folder>/  as in `file_names`: OVIS "<folder>/img_0000001.jpg", UVO "<ytid>/0.png"

OVIS-VNG and UVO-VNG add narratives to these masks, in separate files: `official_vng` reads those.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from conversion.build import NARRATIVES, Conversion
from conversion.export_formats import ExportResult, export_folder, write_frames
from conversion.formats.json_stream import iterate_json_sections
from conversion.formats.jsonio import read_rles
from conversion.formats.official_vng import OVIS_LEAK, UNIQUE, check_size, official_id
from conversion.options import BuildOptions
from conversion.simulated_points import SimulationSettings, simulate_points, simulation_settings
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import Video, VideoObject
from vng.errors import DataError, Problem, one_of
from vng.frames import Frames, as_path, find_frames, inside, open_frames
from vng.masks import MOST_PIXELS, RLE, area, bounding_box, empty
from vng.records import Reader, any_id

ANNOTATIONS, CATEGORIES = "annotations", "categories"  # kinds of records in a spool
NULL_MEANS = ("unknown", "absent")
ROW_FRAMES = ("all", "listed")
SOURCE = "orig_masks"
SPLITS = ("train", "val", "valid", "valid_u", "test")
WITHHELD = "masks of validation and test sets are not published: give a file with annotations"


@dataclass(frozen=True)
class VisSet:
    """Properties of one dataset of this layout."""

    name: str
    row_frames: str = "listed"
    note: str = ""  # reported at every conversion


SETS = {
    "ovis": VisSet("OVIS", note=OVIS_LEAK),
    "uvo": VisSet("UVO", row_frames="all"),  # lists only three frames per video
    "youtube-vis": VisSet("YouTube-VIS"),
}


@dataclass(frozen=True)
class VisSettings:
    """Settings for reading a file."""

    # One of ROW_FRAMES: "all" pads the lists with null to all frames of the folder; "" takes the default of the set.
    row_frames: str = ""
    null_means: str = "unknown"  # one of NULL_MEANS: "absent" turns null in a listed frame into an empty mask

    def __post_init__(self) -> None:
        if self.row_frames:
            one_of(self.row_frames, ROW_FRAMES, "value of row_frames")
        one_of(self.null_means, NULL_MEANS, "value of null_means")


@dataclass(frozen=True)
class VisVideo:
    """An entry of "videos"."""

    name: str  # `ytid` (UVO), else the folder of its frames, else the id
    key: str  # its id
    folder: str
    frame_names: tuple[str, ...]
    height: int
    width: int

    @staticmethod
    def of(value: Any, file: Path, place: str) -> VisVideo:
        """The entry at `place` of a file; raises DataError where it is invalid."""
        reader = Reader(value, file, place)
        key = any_id(reader, "id")
        paths = [as_path(name) for name in reader.items("file_names", str)]
        folders = {str(path.parent) for path in paths}
        if not paths:
            raise reader.error("file_names", "no frame of this video")
        if len(folders) > 1:
            raise reader.error(
                "file_names", f"frames of one video in several folders: {', '.join(sorted(folders)[:3])}"
            )
        names = tuple(path.stem for path in paths)
        if len(set(names)) < len(names):
            raise reader.error("file_names", "frame names repeat")
        (folder,) = folders
        name = reader.optional("ytid", str) or (folder if folder != "." else key)
        folder = name if folder == "." else folder
        for part in (name, folder):
            inside(file, part)
        height, width = reader.side("height"), reader.side("width")
        if height * width > MOST_PIXELS:
            raise reader.error("height", f"frames of {height}x{width}, at most {MOST_PIXELS} pixels are read")
        return VisVideo(name, key, folder, names, height, width)


def vis_conversion(
    options: BuildOptions,
    *,
    kind: str,
    masks: Path,
    frames: Path | None = None,
    row_frames: str = "",
    null_means: str = "unknown",
    simulation: SimulationSettings | None = None,
) -> Conversion:
    """A file in YouTube-VIS layout -> a VNG dataset with its true masks, or points simulated from them.

    `kind` is one of SETS.

    Without `frames`, the rows have no images, and only the frames that the file lists.
    """
    file, settings = masks, VisSettings(row_frames, null_means)
    vis_set = SETS[one_of(kind, SETS, "kind of masks")]
    row_frames = settings.row_frames or vis_set.row_frames
    name, split = options.dataset or vis_set.name, options.split or split_of(file)

    def read(spool: SpoolWriter) -> None:
        if vis_set.note:
            spool.problem(Problem(str(file), reason=vis_set.note, kind="note"))
        _spool_file(spool, file, Wanted(options))

    def make(spool: Spool, video: str, problems: list[Problem]) -> list[Video]:
        (item,) = spool.items(NARRATIVES, video)
        entry = VisVideo.of(item.body, file, item.place)
        annotations = spool.items(ANNOTATIONS, entry.key)
        (names,) = (categories.body for categories in spool.items(CATEGORIES, ""))
        object_reader = _ObjectReader(file, entry, names, settings.null_means == "absent", problems.append)
        objects = [video_object for item in annotations if (video_object := object_reader.object(item)) is not None]
        if not objects:
            raise DataError(
                file, record=video, field=ANNOTATIONS, reason="no object of this video can be used", cure=WITHHELD
            )
        made = _video(entry, name, split, objects, frames, row_frames == "all")
        return [made if simulation is None else simulate_points(made, (None,) * len(made.frame_names), simulation)]

    more: dict[str, Any] = {"row_frames": row_frames, "null_means": settings.null_means}
    if simulation is not None:
        more = simulation_settings(simulation, more)
    return Conversion(
        kind=kind,
        title=name,
        inputs={"masks": file},
        options=options,
        read=read,
        make=make,
        with_frames=frames is not None,
        more=more,
    )


def split_of(file: Path) -> str:
    """The split in a file's name, such as "val" in "UVO_sparse_val_video.json"; "train" where there is none."""
    words = re.split(r"[^a-z]+", file.stem.lower())
    return next((word for word in words if word in SPLITS), SPLITS[0])


def _spool_file(spool: SpoolWriter, file: Path, wanted: Wanted) -> None:
    """Spool a file in two passes, since annotations may come before their videos."""
    ids: dict[str, bool] = {}  # video id -> whether it is selected
    entries: list[tuple[str, Any, VisVideo]] = []
    categories: dict[str, str] = {}
    for section, place, value in iterate_json_sections(file, ("videos", CATEGORIES)):
        try:
            if section == CATEGORIES:
                _add_category(categories, Reader(value, file, place))
            else:
                entries.append((place, value, VisVideo.of(value, file, place)))
        except DataError as error:
            spool.problem(error.problem)
    if not entries and next(iterate_json_sections(file, ("images",)), None):
        reason = "this file is COCO on images: it lists images, and no videos"
        raise DataError(file, field="videos", reason=reason, cure="use `vng convert coco --annotations FILE`")
    uses = Counter(key for key, _ in {(entry.key, entry.name) for _, _, entry in entries})
    for place, value, entry in entries:
        use = wanted.video(entry.name) and wanted.listed_video(entry.name)
        if uses[entry.key] > 1:
            reason = f"{entry.name!r} and another video have the id {entry.key}: annotations cannot be told apart"
            spool.problem(Problem(str(file), record=place, field="id", reason=reason, cure=UNIQUE))
            continue
        ids[entry.key] = use
        if use and not spool.add(NARRATIVES, entry.name, Item(entry.name, place, value)):
            reason = f"video {entry.name!r} repeats"
            spool.problem(
                Problem(str(file), record=place, field="file_names", reason=reason, cure="the first one is used")
            )
    spool.add(CATEGORIES, "", Item("all", CATEGORIES, categories))
    count = 0
    for _, place, value in iterate_json_sections(file, (ANNOTATIONS,)):
        count += 1
        try:
            _spool_annotation(spool, Reader(value, file, place), ids)
        except DataError as error:
            spool.problem(error.problem)
    if not count:
        raise DataError(file, field=ANNOTATIONS, reason="no annotations in this file", cure=WITHHELD)
    wanted.report_missing(spool, {NARRATIVES: file})


def _add_category(categories: dict[str, str], reader: Reader) -> None:
    key, name = any_id(reader, "id"), reader.get("name", str)
    if categories.setdefault(key, name) != name:
        reason = f"category id {key} repeats: its objects are named {categories[key]!r}"
        raise reader.error("id", reason, "give each category an id of its own")


def _spool_annotation(spool: SpoolWriter, reader: Reader, ids: dict[str, bool]) -> None:
    key, video = any_id(reader, "id"), any_id(reader, "video_id")
    if video not in ids:
        raise reader.error("video_id", f"no usable video of this file has the id {video}")
    if ids[video] and not spool.add(ANNOTATIONS, video, Item(key, reader.record, reader.value)):
        reason = f"annotation id {key} repeats: the first one is used"
        spool.problem(Problem(str(reader.file), record=reader.record, field="id", reason=reason, kind="note"))


@dataclass(frozen=True)
class _ObjectReader:
    """Makes objects from one video's annotations; invalid ones are reported and left out."""

    file: Path
    video: VisVideo
    names: dict[str, str]  # of categories, by id
    null_is_absent: bool
    on_problem: Callable[[Problem], None]

    def object(self, item: Item) -> VideoObject | None:
        """The object of an annotation; None where it cannot be used."""
        reader = Reader(item.body, self.file, f"{self.video.name}: annotation {item.key}")
        if reader.value.get("iscrowd"):
            reason = "a crowd, not one object: left out"
            self.on_problem(Problem(str(self.file), record=reader.record, field="iscrowd", reason=reason, kind="note"))
            return None
        try:
            masks = self._masks(reader)
        except DataError as error:
            self.on_problem(error.problem)
            return None
        return VideoObject(item.key, self._name(reader), SOURCE, masks)

    def _name(self, reader: Reader) -> str:
        if reader.value.get("category_id") is None:
            return ""
        category = any_id(reader, "category_id")
        if category not in self.names:
            reason = f"category {category} is not among the categories: this object has no name"
            self.on_problem(
                Problem(str(self.file), record=reader.record, field="category_id", reason=reason, kind="note")
            )
        return self.names.get(category, "")

    def _masks(self, reader: Reader) -> tuple[RLE | None, ...]:
        values, size = reader.get("segmentations", list), (self.video.height, self.video.width)
        if len(values) != len(self.video.frame_names):
            reason = f"{len(values)} masks for {len(self.video.frame_names)} file_names of the video"
            raise reader.error("segmentations", reason)
        masks = read_rles(reader, "segmentations", values, size)
        if not any(masks):
            raise reader.error("segmentations", "no mask in any frame")
        absent = empty(*size)
        return tuple(absent if rle is None and self.null_is_absent else rle for rle in masks)


def _video(entry: VisVideo, name: str, split: str, objects: list[VideoObject], root: Path | None, pad: bool) -> Video:
    """The row; with `pad`, over all frames of the video's folder, null in frames that the file does not list."""
    record = Video(
        video_id=entry.name,
        dataset=name,
        split=split,
        height=entry.height,
        width=entry.width,
        fps=0.0,
        frame_names=entry.frame_names,
        narratives=(),
        expressions=(),
        objects=tuple(objects),
    )
    if root is None:
        return record
    frames = open_frames(find_frames(root, entry.folder))
    places = [_place(frames, entry, frame) for frame in entry.frame_names]
    check_size(frames, entry.name, entry.height, entry.width)
    if not pad:
        return replace(record, fps=frames.fps, frames=frames.subset(places))
    padded = []
    for item in objects:
        masks: list[RLE | None] = [None] * len(frames)
        for place, rle in zip(places, item.segmentations, strict=True):
            masks[place] = rle
        padded.append(replace(item, segmentations=tuple(masks)))
    names = tuple(frames.names)
    return replace(record, fps=frames.fps, frame_names=names, objects=tuple(padded), frames=frames)


def _place(frames: Frames, entry: VisVideo, frame: str) -> int:
    place = frames.index_of(frame)
    if place is None:
        raise DataError(
            frames.source,
            record=entry.name,
            field="frames",
            reason=f"no frame {frame!r}",
            cure="extract the frames again",
        )
    return place


NAMELESS = "object"  # the category of objects without a name


def write_youtube_vis(videos: Iterable[Video], out: Path, with_frames: bool = False) -> ExportResult:
    """Write one JSON file per split in YouTube-VIS layout: RLE or null per frame, object names as categories.

    Ids that are integers and not used by an earlier object are kept; others are renumbered and reported. Memory holds
    one video.

    Args:
        videos: the dataset.
        out: an empty folder.
        with_frames: write the frames too, to JPEGImages/, which `file_names` are relative to.
    """
    with export_folder(out) as export, ExitStack() as stack:
        files: dict[str, _VisWriter] = {}
        for video in videos:
            if video.split not in files:
                file = stack.enter_context((out / f"{video.split}.json").open("w", encoding="utf-8"))
                files[video.split] = _VisWriter(file)
            try:
                if with_frames:
                    write_frames(video.opened_frames(), video.frame_names, inside(out / "JPEGImages", video.video_id))
            except DataError as error:
                export.problems.append(error.problem)
                continue
            if renumbered := files[video.split].add(video):
                export.report(
                    video, "objects", f"{renumbered} object ids are renumbered; `object_id` has the original ones"
                )
            export.count(video)
        for writer in files.values():
            writer.finish()
    return export


class _VisWriter:
    """Writer of one file: annotations are written one by one, the short lists at the end."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._videos: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}
        self._ids: set[int] = set()
        self._numbers = count(1)  # for ids that cannot be kept
        self._file.write('{"annotations": [')

    def add(self, video: Video) -> int:
        """Write one video's objects; returns how many of them were renumbered."""
        files = [f"{video.video_id}/{name}.jpg" for name in video.frame_names]
        size = {"height": video.height, "width": video.width, "length": len(files)}
        self._videos.append({"id": len(self._videos) + 1, "file_names": files, **size})
        renumbered = 0
        for item in video.objects:
            key = official_id(item.object_id)
            if not isinstance(key, int) or key in self._ids:
                renumbered += 1
                key = next(number for number in self._numbers if number not in self._ids)
            entry = {
                "id": key,
                "object_id": item.object_id,
                "video_id": len(self._videos),
                "category_id": self._categories.setdefault(item.name or NAMELESS, len(self._categories) + 1),
                "iscrowd": 0,
                "segmentations": [None if rle is None else rle.as_dict() for rle in item.segmentations],
                "areas": [None if rle is None else area(rle) for rle in item.segmentations],
                "bboxes": [None if rle is None else bounding_box(rle) for rle in item.segmentations],
                **size,
            }
            self._file.write(("" if not self._ids else ",") + "\n" + json.dumps(entry, ensure_ascii=False))
            self._ids.add(key)
        return renumbered

    def finish(self) -> None:
        """Write the lists of videos and categories, and close the JSON object."""
        categories = [{"id": number, "name": name} for name, number in self._categories.items()]
        for key, value in (("videos", self._videos), ("categories", categories)):
            self._file.write(f'{"]," if key == "videos" else ","}\n"{key}": {json.dumps(value, ensure_ascii=False)}')
        self._file.write("}\n")
