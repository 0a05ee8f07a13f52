"""The official Video Narrative Grounding trio: meta_expressions.json, extra_masks.json, masks of the original dataset.

OVIS-VNG and UVO-VNG become `Video` records, and back without loss of narratives, expressions or masks.
UVO is sparse (about three annotated frames per video) and recognised by `ytid`; its lists are padded with null.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conversion.build import NARRATIVES, Conversion
from conversion.formats.json_stream import locate_json_entries, read_located
from conversion.formats.jsonio import OnProblem
from conversion.options import BuildOptions
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import Video, VideoObject, video_from_row
from vng.errors import DataError, Problem
from vng.frames import Frames, as_path, find_frames, frame_number, open_frames
from vng.masks import RLE, from_json
from vng.narratives import Expression, Narrative, check_span
from vng.records import Reader, any_id

UNIQUE = "give each video an id of its own"
META, EXTRA, ORIG = "meta_expressions.json", "extra_masks.json", "orig_masks.json"
OVIS_LEAK = (
    "OVIS-VNG train and test are both parts of OVIS train: a model trained on OVIS train has seen the test masks"
)


@dataclass(frozen=True)
class TrioFiles:
    """The three files of a VNG set."""

    meta: Path
    extra_masks: Path
    orig_masks: Path

    @staticmethod
    def of(folder: Path) -> TrioFiles:
        """The trio in a folder written by `write_trio`."""
        return TrioFiles(folder / META, folder / EXTRA, folder / ORIG)

    @property
    def path(self) -> Path:
        """The file that names the set."""
        return self.meta

    def __iter__(self) -> Iterator[Video]:
        """The videos of the trio, without pixels, read again each time; raises DataError at the first bad one."""
        return read_trio(self)


def read_trio(
    files: TrioFiles, dataset: str = "VNG", split: str = "test", on_problem: OnProblem | None = None
) -> Iterator[Video]:
    """Read a VNG set video by video, without pixels, sorted by name as in the official reader.

    The files are read once to find the places of their entries, which are then read one by one.

    Args:
        files: the trio.
        dataset, split: dataset and split of the rows.
        on_problem: receives every bad video, which is skipped; None raises DataError at the first. One bad expression
            skips its whole video: the numbers of the other expressions, by which predictions are stored, would shift.
    """
    masks = _MaskFiles(files)
    places: dict[str, tuple[int, int]] = {}
    for entry in locate_json_entries(files.meta, {"videos": dict}):
        if entry.name in places:
            reason = "this key repeats: the first value would be lost"
            raise DataError(files.meta, field=f"videos.{entry.name}", reason=reason, cure="rename one of the two")
        places[entry.name] = (entry.start, entry.end)
    for name in sorted(places):
        try:
            yield _read_video(Reader(read_located(files.meta, *places[name]), files.meta, name), masks, dataset, split)
        except DataError as error:
            if on_problem is None:
                raise
            on_problem(error.problem)
    for problem in masks.problems:
        if on_problem is not None:
            on_problem(problem)


@dataclass(frozen=True)
class _Place:
    """Where a record of a mask file lies."""

    source: str  # "orig_masks" or "extra_masks"
    path: Path
    record: str  # "annotations[7]"
    start: int
    end: int

    def read(self) -> Reader:
        return Reader(read_located(self.path, self.start, self.end), self.path, self.record)


class _MaskFiles:
    """Places of the records of both mask files; the first of duplicate ids wins, ids of the two files are disjoint."""

    def __init__(self, files: TrioFiles) -> None:
        self.problems: list[Problem] = []
        self.annotations: dict[str, _Place] = {}  # by id, as text: ids exceed 2^32
        self.of_video: dict[str, list[str]] = {}  # video name -> ids, where the annotations have the name
        self._infos: dict[tuple[str, str], tuple[_Place, bytes]] = {}  # by file and id: place, and hash of the content
        self._repeated: set[tuple[str, str]] = set()  # ids that several videos of a file have
        self.sparse = False
        for source, path in (("orig_masks", files.orig_masks), ("extra_masks", files.extra_masks)):
            for entry in locate_json_entries(path, {"videos": list, "annotations": list}):
                place = _Place(source, path, entry.name, entry.start, entry.end)
                try:
                    reader = Reader(entry.value, path, entry.name)
                    key = any_id(reader, "id")
                except DataError as error:
                    self.problems.append(error.problem)
                    continue
                (self._add_info if entry.section == "videos" else self._add_annotation)(key, place, reader)

    def _add_info(self, key: str, place: _Place, reader: Reader) -> None:
        content = hashlib.sha256(json.dumps(reader.value, sort_keys=True).encode()).digest()
        if self._infos.setdefault((place.source, key), (place, content))[1] != content:
            self._repeated.add((place.source, key))
        if place.source == "extra_masks" and place.record == "videos[0]":
            self.sparse = "ytid" in reader.value

    def _add_annotation(self, key: str, place: _Place, reader: Reader) -> None:
        earlier = self.annotations.setdefault(key, place)
        if earlier.source != place.source:
            reason = "this id is in both mask files; they must be disjoint"
            raise DataError(place.path, record=f"annotation {key}", field="id", reason=reason)
        if earlier is not place:
            reason = "this annotation id repeats: the first one is used"
            self.problems.append(
                Problem(str(place.path), record=f"annotation {key}", field="id", reason=reason, kind="note")
            )
            return
        self.of_video.setdefault(str(reader.value.get("video_name", "")), []).append(key)

    def info_of(self, source: str, annotation: Reader) -> Reader | None:
        """The video entry of an annotation, from its own file or else from the other.

        Raises DataError where several videos have its id.
        """
        if annotation.value.get("video_id") is None:
            return None
        video = any_id(annotation, "video_id")
        other = "extra_masks" if source == "orig_masks" else "orig_masks"
        for key in ((source, video), (other, video)):
            if key in self._repeated:
                raise annotation.error("video_id", f"several videos of this file have the id {video}", UNIQUE)
            if key in self._infos:
                return self._infos[key][0].read()
        return None


def _read_video(reader: Reader, masks: _MaskFiles, dataset: str, split: str) -> Video:
    names = tuple(
        any_id(Reader({"": name}, reader.file, reader.record, f"frames[{i}]"), "")
        for i, name in enumerate(reader.get("frames", list))
    )
    narratives = tuple(
        Narrative(child.get("actor_name", str), child.get("description", str))
        for child in reader.children("actor_narratives")
    )
    objects: dict[str, VideoObject] = {}
    expressions: list[Expression] = []
    for index in range(len(table := reader.child("expressions").value)):
        if str(index) not in table:
            raise reader.error(f"expressions.{index}", f"expected keys 0..{len(table) - 1}, this one is missing")
        child = Reader(table[str(index)], reader.file, reader.record, f"expressions.{index}")
        expressions.append(_read_expression(child, narratives, names, masks, objects))
    # Objects that no expression means.
    for key in masks.of_video.get(reader.record, ()):
        if key not in objects:
            objects[key] = _read_object(key, "", names, masks)
    height, width = _size_of(objects.values(), masks)
    every = tuple(objects.values())
    return Video(
        video_id=reader.record,
        dataset=dataset,
        split=split,
        height=height,
        width=width,
        fps=0.0,
        frame_names=names,
        narratives=narratives,
        expressions=tuple(expressions),
        objects=every,
    )


def _read_object(key: str, noun: str, names: tuple[str, ...], masks: _MaskFiles) -> VideoObject:
    place = masks.annotations[key]
    source, annotation = place.source, place.read()
    # Our own export has names; the official files do not.
    name = annotation.get("name", str, default=noun)
    return VideoObject(key, name, source, _segmentations(source, annotation, names, masks))


def _read_expression(
    reader: Reader,
    narratives: tuple[Narrative, ...],
    names: tuple[str, ...],
    masks: _MaskFiles,
    objects: dict[str, VideoObject],
) -> Expression:
    actor = reader.get("narrative_actor_idx", int)
    if not 0 <= actor < len(narratives):
        raise reader.error("narrative_actor_idx", f"there is no narrative {actor}: the video has {len(narratives)}")
    start, end = reader.get("noun_phrase_start_idx", int), reader.get("noun_phrase_end_idx", int)
    description = narratives[actor].description
    try:
        check_span(description, start, end)
    except ValueError as error:
        raise reader.error("noun_phrase_start_idx", str(error)) from error
    key = any_id(reader, "obj_id")
    if key not in masks.annotations:
        raise reader.error("obj_id", f"object {key} is in neither mask file", "check --orig-masks and --extra-masks")
    if key not in objects:
        objects[key] = _read_object(key, description[start:end], names, masks)
    return Expression(actor, start, end, key)


def _segmentations(
    source: str, annotation: Reader, names: tuple[str, ...], masks: _MaskFiles
) -> tuple[RLE | None, ...]:
    raw = annotation.get("segmentations", list)
    rles: list[RLE | None] = []
    for index, value in enumerate(raw):
        try:
            rles.append(from_json(value))
        except ValueError as error:
            raise annotation.error(f"{annotation.value.get('id')}.segmentations[{index}]", str(error)) from error
    info = masks.info_of(source, annotation)
    if masks.sparse and info is not None:
        files = info.get("file_names", list)
        if len(files) != len(rles):
            raise annotation.error("segmentations", f"{len(rles)} masks for {len(files)} file_names")
        dense: list[RLE | None] = [None] * len(names)
        place = {frame_number(name): index for index, name in enumerate(names)}
        for file, rle in zip(files, rles, strict=True):
            number = frame_number(as_path(str(file)).stem)
            if number not in place:
                raise annotation.error("file_names", f"frame {file!r} is not among the video's frames")
            dense[place[number]] = rle
        return tuple(dense)
    if len(rles) != len(names):
        raise annotation.error(
            f"{annotation.value.get('id')}.segmentations", f"{len(rles)} masks for {len(names)} frames of the video"
        )
    return tuple(rles)


def _size_of(objects: Iterable[VideoObject], masks: _MaskFiles) -> tuple[int, int]:
    for item in objects:
        for rle in item.segmentations:
            if rle is not None:
                return rle.size
        place = masks.annotations[item.object_id]
        info = masks.info_of(place.source, place.read())
        if info is not None:
            return info.side("height"), info.side("width")
    return 0, 0


def with_frames(record: Video, frames_root: Path) -> Video:
    """The record with its frames from `frames_root`.

    Raises:
        DataError: a missing frame, or frames of another size than the masks.
    """
    frames = listed_frames(frames_root, record.video_id, record.frame_names)
    if record.height:
        check_size(frames, record.video_id, record.height, record.width)
    height, width = frames.size
    return replace(record, height=height, width=width, fps=frames.fps, frames=frames)


def listed_frames(frames_root: Path, video: str, names: Sequence[str]) -> Frames:
    """The frames that an annotation file lists for a video, from `frames_root`; raises DataError for a missing one."""
    frames = open_frames(find_frames(frames_root, video))
    places = []
    for name in names:
        place = frames.index_of(name)
        if place is None:
            raise DataError(
                frames.source,
                record=video,
                field="frames",
                reason=f"no frame {name!r}",
                cure="extract all frames again",
            )
        places.append(place)
    return frames.subset(places)


def check_size(frames: Frames, video: str, height: int, width: int) -> None:
    """Raises DataError unless the frames have the size of the masks."""
    if frames.size != (height, width):
        reason = f"frames of {frames.size[0]}x{frames.size[1]}, masks of {height}x{width}"
        raise DataError(
            frames.source, record=video, field="size", reason=reason, cure="extract the frames at the masks' size"
        )


def official_id(object_id: str) -> int | str:
    """An id as in the official files: an integer where that is lossless (ids exceed 2^32)."""
    return (
        int(object_id)
        if len(object_id) <= 30 and object_id.isdecimal() and str(int(object_id)) == object_id
        else object_id
    )


def vng_conversion(
    options: BuildOptions, *, meta: Path, extra_masks: Path, orig_masks: Path, frames: Path | None = None
) -> Conversion:
    """The official VNG trio -> a VNG dataset with its true masks; without `frames`, the rows have no images."""
    files = TrioFiles(meta, extra_masks, orig_masks)
    name, split = options.dataset or "VNG", options.split or "test"

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        if "ovis" in str(files.orig_masks).lower() or "ovis" in name.lower():
            spool.problem(Problem(str(files.orig_masks), reason=OVIS_LEAK, kind="note"))
        for video in read_trio(files, name, split, spool.problem):
            if wanted.video(video.video_id) and wanted.listed_video(video.video_id):
                spool.add(NARRATIVES, video.video_id, Item(video.video_id, "", video.as_row(embed=False)))
        wanted.report_missing(spool, {NARRATIVES: files.meta})

    def make(spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        (item,) = spool.items(NARRATIVES, name)
        video = video_from_row(item.body, files.meta)
        return [video if frames is None else with_frames(video, frames)]

    inputs = {"meta": files.meta, "extra_masks": files.extra_masks, "orig_masks": files.orig_masks}
    return Conversion(
        kind="vng", title=name, inputs=inputs, options=options, read=read, make=make, with_frames=frames is not None
    )
