"""Referring expressions over videos (Ref-YouTube-VOS, MeViS; Ref-DAVIS17: `ref_davis`) -> a VNG dataset.

META    {"videos": {<video>: {"frames": [...], "expressions": {"0": {"exp", "obj_id" and, in MeViS, "anno_id"}}}}}
MASKS   Ref-YouTube-VOS: <folder>/<video>/<frame>.png of object ids; MeViS: one JSON object {<anno_id>: [RLE | null]}

Each expression is a narrative of its own without an actor, and its whole text is the noun span. `expressions[i]` is the
publisher's i-th, so that predictions are stored under the published numbers. An object without masks (all of a test
set's; one that an expression means and the masks lack) is kept with null masks: its expressions can be predicted, but
are neither used in training nor scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conversion.build import NARRATIVES, Conversion
from conversion.formats.json_stream import iterate_json_object
from conversion.formats.jsonio import OnProblem, read_rles
from conversion.formats.label_images import object_ids, object_masks, read_labels
from conversion.formats.official_vng import listed_frames
from conversion.formats.youtube_vis import NULL_MEANS, SPLITS
from conversion.formats.youtube_vos import meta_categories
from conversion.options import BuildOptions
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import Video, VideoObject
from vng.errors import DataError, Problem, one_of
from vng.frames import Frames, inside
from vng.masks import RLE, empty, union
from vng.narratives import Expression, Narrative
from vng.records import Reader, any_id
from vng.text_files import load_json

MASKS, CATEGORIES = "masks", "categories"  # kinds of records in a spool
WITHHELD = "withheld"  # source of an object without masks
NOTHING = "nothing"  # the object of expressions that mean none: absent from every frame
JOIN = "+"  # between the ids of an expression's several objects


@dataclass(frozen=True)
class Referring:
    """One published expression."""

    text: str
    # Ids of the objects it means, in order: () for no object, None where they are not published.
    object_ids: tuple[str, ...] | None

    @property
    def object_id(self) -> str:
        """The id of the object that they form together, "3+7" in MeViS; "" where it is not published."""
        return "" if self.object_ids is None else JOIN.join(self.object_ids) or NOTHING


@dataclass(frozen=True)
class ReferringVideo:
    """Frames and expressions of one video."""

    frame_names: tuple[str, ...]  # sorted
    in_order: bool  # whether the file lists them sorted
    expressions: tuple[Referring, ...]  # in the publisher's order


@dataclass(frozen=True)
class ReferringFiles:
    """Files and folders of a set."""

    meta: Path  # meta_expressions.json
    frames: Path  # folder of VIDEO/ folders
    masks: Path | None = None  # Annotations/ (Ref-YouTube-VOS) or mask_dict.json (MeViS); None for a test set
    without: Path | None = None  # another META, whose videos are left out
    categories: Path | None = None  # YouTube-VOS's meta.json, for the names of objects

    def inputs(self) -> dict[str, Path]:
        """Files that the result depends on, besides the frames."""
        paths = {"meta": self.meta, "masks": self.masks, "without": self.without, "categories": self.categories}
        return {name: path for name, path in paths.items() if path is not None}


def referring_video(name: str, value: Any, file: Path, ids: str) -> ReferringVideo:
    """The entry of one video in META; `ids` is the field with the object ids.

    Raises DataError, also for a single bad expression: the numbers of the others, by which predictions are stored,
    would shift.
    """
    inside(file, name)
    reader = Reader(value, file, name)
    frames = reader.items("frames", str)
    if not frames:
        raise reader.error("frames", "no frame of this video")
    if len(set(frames)) < len(frames):
        raise reader.error("frames", "frame names repeat")
    in_order = sorted(frames)
    return ReferringVideo(tuple(in_order), in_order == frames, read_expressions(reader.child("expressions"), ids))


def read_expressions(table: Reader, ids: str) -> tuple[Referring, ...]:
    """The expressions {"0": {"exp", ids}, "1": ...}, by number; raises DataError."""
    expressions = []
    for number in range(len(table.value)):
        if str(number) not in table.value:
            raise table.error(str(number), f"expected keys 0..{len(table.value) - 1}, this one is missing")
        child = table.child(str(number))
        text = child.get("exp", str)
        if not text.strip():
            raise child.error("exp", "this expression is blank")
        value = child.value.get(ids)
        if value is None:
            expressions.append(Referring(text, None))
            continue
        listed = value if isinstance(value, list) else [value]
        names = {any_id(Reader({ids: one}, child.file, child.record, child.path), ids) for one in listed}
        expressions.append(Referring(text, tuple(sorted(names, key=lambda name: (len(name), name)))))
    if not expressions:
        raise table.error("", "no expression of this video")
    return tuple(expressions)


def with_expressions(record: Video, expressions: Sequence[Referring], file: Path, on_problem: OnProblem) -> Video:
    """The record with narratives and expressions, and with null masks for objects that it has no masks of.

    Narrative i and expression i belong to `expressions[i]`. Spaces around an expression are not part of its span.
    """
    objects = {item.object_id: item for item in record.objects}
    if any(expression.object_ids == () for expression in expressions):
        absent = (empty(record.height, record.width),) * len(record.frame_names)
        objects[NOTHING] = VideoObject(NOTHING, "", "expressions", absent)
    without_ids, missing = 0, []
    linked = []
    for number, expression in enumerate(expressions):
        key = expression.object_id or f"expression {number}"
        if key not in objects:
            objects[key] = VideoObject(key, "", WITHHELD, (None,) * len(record.frame_names))
            without_ids += not expression.object_id
            missing += [key] if expression.object_id else []
        text = expression.text
        linked.append(Expression(number, len(text) - len(text.lstrip()), len(text.rstrip()), key))
    if missing:
        reason = f"objects without any mask: {', '.join(missing[:5])}{', ...' * (len(missing) > 5)}"
        _note(on_problem, file, record, f"{reason}; their expressions are kept, their masks are null")
    if without_ids:
        _note(on_problem, file, record, f"{without_ids} expressions without object ids are kept, their masks are null")
    narratives = tuple(Narrative("", expression.text) for expression in expressions)
    return replace(record, narratives=narratives, expressions=tuple(linked), objects=tuple(objects.values()))


def _note(on_problem: OnProblem, file: Path, record: Video, reason: str) -> None:
    on_problem(Problem(str(file), record=record.video_id, field="expressions", reason=reason, kind="note"))


ReadObjects = Callable[[Spool, str, ReferringVideo, Frames, OnProblem], Iterable[VideoObject]]


def ref_youtube_vos_conversion(
    options: BuildOptions,
    *,
    meta: Path,
    frames: Path,
    annotations: Path | None = None,
    categories: Path | None = None,
    without: Path | None = None,
) -> Conversion:
    """Ref-YouTube-VOS -> a VNG dataset; a frame without a label image has null masks."""
    files = ReferringFiles(meta, frames, annotations, without, categories)

    def fill(spool: SpoolWriter, owners: Mapping[str, str]) -> None:
        if files.categories is not None:
            for video, names in meta_categories(files.categories, spool.problem):
                spool.add(CATEGORIES, video, Item(video, "", names))

    def objects(
        spool: Spool, name: str, video: ReferringVideo, frames: Frames, on_problem: OnProblem
    ) -> Iterable[VideoObject]:
        if files.masks is None:
            return []
        names: dict[str, str] = {key: text for item in spool.items(CATEGORIES, name) for key, text in item.body.items()}
        return _labelled_objects(inside(files.masks, name), frames, names)

    return _conversion("ref-youtube-vos", "Ref-YouTube-VOS", "obj_id", files, options, fill, objects)


def _labelled_objects(annotations: Path, frames: Frames, names: Mapping[str, str]) -> list[VideoObject]:
    paths = [annotations / f"{name}.png" for name in frames.names]
    labels = [read_labels(path, frames.size) if path.exists() else None for path in paths]
    if all(label is None for label in labels):
        raise DataError(annotations, reason="no label image of this video's frames", cure="fetch its annotations")
    objects = []
    for value in object_ids(labels):
        key = str(value)
        objects.append(VideoObject(key, names.get(key, ""), "youtube-vos", object_masks(labels, value, False)))
    return objects


def mevis_conversion(
    options: BuildOptions,
    *,
    meta: Path,
    frames: Path,
    masks: Path | None = None,
    without: Path | None = None,
    null_means: str = "unknown",
) -> Conversion:
    """MeViS -> a VNG dataset; the objects of an expression become one, with the union of their masks.

    The union is null where all its masks are. With `null_means` "absent", null is an empty mask, as in the publisher's
    scoring.
    """
    one_of(null_means, NULL_MEANS, "value of null_means")
    files = ReferringFiles(meta, frames, masks, without)

    def fill(spool: SpoolWriter, owners: Mapping[str, str]) -> None:
        if files.masks is not None:
            for key, value in iterate_json_object(files.masks, lambda key, value: (key, value), spool.problem):
                if key in owners and not spool.add(MASKS, owners[key], Item(key, "", value)):
                    reason = "this key repeats: the first one is used"
                    spool.problem(Problem(str(files.masks), record=key, reason=reason, kind="note"))

    def objects(
        spool: Spool, name: str, video: ReferringVideo, frames: Frames, on_problem: OnProblem
    ) -> Iterable[VideoObject]:
        if files.masks is None:
            return []
        if not video.in_order:
            reason = "frame names are not sorted, but masks are matched to frames by order"
            raise DataError(
                files.meta, record=name, field="frames", reason=reason, cure="sort them in the order of the masks"
            )
        masks_by_id = {}
        for item in spool.items(MASKS, name):
            try:
                masks_by_id[item.key] = _mevis_masks(item, files.masks, len(video.frame_names), frames.size)
            except DataError as error:
                on_problem(error.problem)
        return _unions(masks_by_id, video.expressions, empty(*frames.size) if null_means == "absent" else None)

    return _conversion("mevis", "MeViS", "anno_id", files, options, fill, objects, null_means=null_means)


def _mevis_masks(item: Item, file: Path, length: int, size: tuple[int, int]) -> list[RLE | None]:
    reader = Reader({item.key: item.body}, file, "")
    values = reader.get(item.key, list)
    if len(values) != length:
        raise reader.error(item.key, f"{len(values)} masks for {length} frames of the video")
    return read_rles(reader, item.key, values, size)


def _unions(
    masks: Mapping[str, Sequence[RLE | None]], expressions: Sequence[Referring], null: RLE | None
) -> Iterator[VideoObject]:
    """One object for each set of objects that an expression means and that all have masks."""
    for key, parts in {expression.object_id: expression.object_ids for expression in expressions}.items():
        if parts and all(part in masks for part in parts):
            frame_masks = [
                [rle for rle in of_frame if rle] for of_frame in zip(*(masks[part] for part in parts), strict=True)
            ]
            yield VideoObject(key, "", "mevis", tuple(union(rles) if rles else null for rles in frame_masks))


def _conversion(
    kind: str,
    title: str,
    ids: str,
    files: ReferringFiles,
    options: BuildOptions,
    fill: Callable[[SpoolWriter, Mapping[str, str]], None],
    objects: ReadObjects,
    **more: Any,
) -> Conversion:
    """A conversion of META and masks: `fill` spools masks, given each object id's video; `objects` makes objects."""
    folder = files.meta.resolve().parent.name
    name, split = options.dataset or title, options.split or (folder if folder in SPLITS else SPLITS[0])

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        owners: dict[str, str] = {}
        left_out = set() if files.without is None else set(_videos(files.without).value)
        table = _videos(files.meta)
        for video, value in table.value.items():
            if video in left_out or not (wanted.video(video) and wanted.listed_video(video)):
                continue
            try:
                entry = referring_video(video, value, files.meta, ids)
            except DataError as error:
                spool.problem(error.problem)
                continue
            spool.add(NARRATIVES, video, Item(video, "", value))
            owners |= {key: video for expression in entry.expressions for key in expression.object_ids or ()}
        wanted.report_missing(spool, {NARRATIVES: files.meta})
        fill(spool, owners)

    def make(spool: Spool, video: str, problems: list[Problem]) -> list[Video]:
        (item,) = spool.items(NARRATIVES, video)
        entry = referring_video(video, item.body, files.meta, ids)
        frames = listed_frames(files.frames, video, entry.frame_names)
        video_objects = tuple(objects(spool, video, entry, frames, problems.append))
        height, width = frames.size
        record = Video(
            video_id=video,
            dataset=name,
            split=split,
            height=height,
            width=width,
            fps=frames.fps,
            frame_names=entry.frame_names,
            narratives=(),
            expressions=(),
            objects=video_objects,
            frames=frames,
        )
        return [with_expressions(record, entry.expressions, files.meta, problems.append)]

    return Conversion(kind=kind, title=name, inputs=files.inputs(), options=options, read=read, make=make, more=more)


def _videos(file: Path) -> Reader:
    return Reader(load_json(file), file, "").child("videos")
