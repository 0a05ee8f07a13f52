"""The official Video Narrative Grounding trio: meta_expressions.json, extra_masks.json, masks of the original dataset.

OVIS-VNG and UVO-VNG become `Video` records, and back without loss of narratives, expressions or masks.
UVO is sparse (about three annotated frames per video) and recognised by `ytid`; its lists are padded with null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conversion.build import NARRATIVES, Conversion
from conversion.export_formats import ExportResult, export_folder
from conversion.formats.jsonio import OnProblem, write_json
from conversion.options import BuildOptions
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import Video, VideoObject, video_from_row
from vng.errors import DataError, Problem
from vng.frames import Frames, as_path, find_frames, frame_number, open_frames
from vng.masks import RLE, from_json
from vng.narratives import Expression, Narrative, check_span
from vng.records import Reader, any_id
from vng.text_files import load_json

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

    Args:
        files: the trio.
        dataset, split: dataset and split of the rows.
        on_problem: receives every bad video, which is skipped; None raises DataError at the first. One bad expression
            skips its whole video: the numbers of the other expressions, by which predictions are stored, would shift.
    """
    masks = _MaskFiles(files)
    videos = Reader(load_json(files.meta), files.meta, "").child("videos")
    for name in sorted(videos.value):
        try:
            yield _read_video(Reader(videos.value[name], files.meta, name), masks, dataset, split)
        except DataError as error:
            if on_problem is None:
                raise
            on_problem(error.problem)
    for problem in masks.problems:
        if on_problem is not None:
            on_problem(problem)


class _MaskFiles:
    """Annotations by id over both mask files; the first of duplicate ids wins, ids of the two files are disjoint."""

    def __init__(self, files: TrioFiles) -> None:
        self.problems: list[Problem] = []
        self.annotations: dict[str, tuple[str, Reader]] = {}  # by id, as text: ids exceed 2^32
        self.of_video: dict[str, list[str]] = {}  # video name -> ids, where the annotations have the name
        self.infos: dict[tuple[str, str], Reader] = {}  # by file and id
        self.repeated: set[tuple[str, str]] = set()  # ids that several videos of a file have
        for source, path in (("orig_masks", files.orig_masks), ("extra_masks", files.extra_masks)):
            top = Reader(load_json(path), path, "")
            for info in self._usable(top, "videos", path):
                place = (source, any_id(info, "id"))
                if self.infos.setdefault(place, info).value != info.value:
                    self.repeated.add(place)
            ids = set()
            for annotation in self._usable(top, "annotations", path):
                key = any_id(annotation, "id")
                if key in ids:
                    reason = "this annotation id repeats: the first one is used"
                    self.problems.append(
                        Problem(str(path), record=f"annotation {key}", field="id", reason=reason, kind="note")
                    )
                    continue
                ids.add(key)
                if key in self.annotations:
                    raise DataError(
                        path,
                        record=f"annotation {key}",
                        field="id",
                        reason="this id is in both mask files; they must be disjoint",
                    )
                self.annotations[key] = (source, annotation)
                self.of_video.setdefault(str(annotation.value.get("video_name", "")), []).append(key)
        extra_infos = [info for (source, _), info in self.infos.items() if source == "extra_masks"]
        self.sparse = bool(extra_infos) and "ytid" in extra_infos[0].value

    def _usable(self, top: Reader, section: str, path: Path) -> list[Reader]:
        """The records of a section that have an id; the others are problems."""
        usable = []
        for index, value in enumerate(top.get(section, list)):
            try:
                reader = Reader(value, path, f"{section}[{index}]")
                any_id(reader, "id")
                usable.append(reader)
            except DataError as error:
                self.problems.append(error.problem)
        return usable

    def info_of(self, source: str, annotation: Reader) -> Reader | None:
        """The video entry of an annotation, from its own file or else from the other.

        Raises DataError where several videos have its id.
        """
        if annotation.value.get("video_id") is None:
            return None
        video = any_id(annotation, "video_id")
        other = "extra_masks" if source == "orig_masks" else "orig_masks"
        for key in ((source, video), (other, video)):
            if key in self.repeated:
                raise annotation.error("video_id", f"several videos of this file have the id {video}", UNIQUE)
            if key in self.infos:
                return self.infos[key]
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
    source, annotation = masks.annotations[key]
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
        info = masks.info_of(item.source, masks.annotations[item.object_id][1])
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


def export_trio(videos: Iterable[Video], out: Path) -> ExportResult:
    """Write the official trio into an empty folder; raises DataError where `out` holds other files."""
    with export_folder(out) as export:
        files = write_trio(_counted(videos, export), out)
        export.files += [files.meta, files.extra_masks, files.orig_masks]
    return export


def _counted(videos: Iterable[Video], export: ExportResult) -> Iterator[Video]:
    for video in videos:
        export.count(video, holds=("narratives",))
        yield video


def write_trio(videos: Iterable[Video], folder: Path) -> TrioFiles:
    """Write records as the official trio into a folder.

    Objects whose source is "orig_masks" go to orig_masks.json, all others to extra_masks.json.
    """
    meta: dict[str, Any] = {}
    files: dict[str, dict[str, Any]] = {
        source: {"videos": [], "annotations": [], "categories": []} for source in ("orig_masks", "extra_masks")
    }
    ids: dict[str, str] = {}
    for number, video in enumerate(videos, 1):
        meta[video.video_id] = _meta_json(video)
        info = {
            "id": number,
            "width": video.width,
            "height": video.height,
            "length": len(video.frame_names),
            "file_names": [f"{video.video_id}/{name}.jpg" for name in video.frame_names],
        }
        for content in files.values():
            content["videos"].append(info)
        for item in video.objects:
            if item.object_id in ids:
                reason = f"object id is already used in video {ids[item.object_id]!r}; the trio requires unique ids"
                raise DataError(video.dataset, record=video.video_id, field=f"objects.{item.object_id}", reason=reason)
            ids[item.object_id] = video.video_id
            source = "orig_masks" if item.source == "orig_masks" else "extra_masks"
            files[source]["annotations"].append(_annotation_json(video, item, number))
    files["extra_masks"]["info"] = {"description": "Extra masks of a Video Narrative Grounding set, written by vng"}
    trio = TrioFiles.of(folder)
    write_json({"videos": meta}, trio.meta)
    write_json(files["extra_masks"], trio.extra_masks)
    write_json(files["orig_masks"], trio.orig_masks)
    return trio


def _meta_json(video: Video) -> dict[str, Any]:
    return {
        "frames": list(video.frame_names),
        "actor_narratives": [
            {"actor_idx": index, "actor_name": narrative.actor_name, "description": narrative.description}
            for index, narrative in enumerate(video.narratives)
        ],
        "expressions": {
            str(index): {
                "narrative_actor_idx": expression.narrative,
                "noun_phrase_start_idx": expression.start,
                "noun_phrase_end_idx": expression.end,
                "obj_id": official_id(expression.object_id),
            }
            for index, expression in enumerate(video.expressions)
        },
    }


def _annotation_json(video: Video, item: VideoObject, number: int) -> dict[str, Any]:
    return {
        "id": official_id(item.object_id),
        "name": item.name,
        "video_id": number,
        "video_name": video.video_id,
        "height": video.height,
        "width": video.width,
        "category_id": 1,
        "segmentations": [None if rle is None else rle.as_dict() for rle in item.segmentations],
    }


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
