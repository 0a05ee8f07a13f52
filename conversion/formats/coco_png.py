"""COCO Panoptic Narrative Grounding (ICCV 2021) -> a VNG dataset: an image is a video of one frame.

png_coco_train2017.json    [{caption, image_id, segments: [{utterance, noun, plural, segment_ids}]}], one narrative each
panoptic_train2017.json    COCO's panoptic annotations: images, annotations (segments_info), categories (isthing)
panoptic_train2017/        <image id in 12 digits>.png, a pixel's segment is R + 256 G + 65536 B

The utterances of a narrative are its caption cut into pieces, with different spaces and without positions;
`utterance_spans` locates them in the caption. VNG has only singular, concrete nouns, so plurals and stuff are left out
by default.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from conversion.build import NARRATIVES, Conversion
from conversion.formats.json_stream import iterate_json_list, iterate_json_sections
from conversion.formats.jsonio import OnProblem
from conversion.formats.official_vng import check_size
from conversion.formats.youtube_vis import split_of
from conversion.options import BuildOptions
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import Video, VideoObject
from vng.errors import DataError, Problem
from vng.frames import Frames, inside, open_frames
from vng.masks import encode
from vng.narratives import Expression, Narrative
from vng.records import Reader, any_id

NAME, SOURCE, JOIN = "COCO-PNG", "coco-panoptic", "+"
LEFT_OUT = "its nouns are left out"
IMAGES, SEGMENTS, CATEGORIES = "images", "segments", "categories"  # kinds of records in a spool
Span = tuple[int, int]


@dataclass(frozen=True)
class PngFiles:
    """Files and folders of the set."""

    narratives: Path
    panoptic: Path
    panoptic_masks: Path  # folder of PNGs
    images: Path  # folder of JPEGs


@dataclass(frozen=True)
class PngSettings:
    """Kinds of nouns that are kept besides singular things."""

    keep_plurals: bool = False  # nouns of several segments, as one object, and of crowds
    keep_stuff: bool = False


@dataclass(frozen=True)
class Noun:
    """A noun of a narrative and the segments it means."""

    piece: Reader  # its place in the file
    span: Span | None  # [start, end) in the caption; None where it is uncertain
    segments: tuple[str, ...]  # panoptic ids
    plural: bool


def utterance_spans(caption: str, utterances: Sequence[str]) -> list[Span | None]:
    """Spans [start, end) of the pieces of a caption; None where the span is uncertain.

    Pieces and caption are compared letter by letter without spaces, case and accents, so that "is", "n't" match
    "isn't". Where they differ, pieces before the first and after the last difference are located. Pieces between are
    not, nor are those with two possible places, as when one of two "a dog" is missing.
    """
    letters = [(index, letter) for index, character in enumerate(caption) for letter in _letters(character)]
    piece_letters: list[str] = []
    ends = []  # ends of the pieces, counted in letters
    for utterance in utterances:
        piece_letters += [letter for character in utterance for letter in _letters(character)]
        ends.append(len(piece_letters))
    caption_letters = [letter for _, letter in letters]
    shift = len(caption_letters) - len(piece_letters)
    prefix, suffix = _common(caption_letters, piece_letters), _common(caption_letters[::-1], piece_letters[::-1])
    spans: list[Span | None] = []
    for start, end in zip([0, *ends], ends, strict=False):
        from_start, from_end = end <= prefix, start >= len(piece_letters) - suffix
        if start == end or not (from_start or from_end) or (from_start and from_end and shift):
            spans.append(None)
            continue
        by = 0 if from_start else shift
        spans.append((letters[start + by][0], letters[end + by - 1][0] + 1))
    return spans


def _letters(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character)
    return "".join(c for c in plain if not unicodedata.combining(c) and not c.isspace()).lower()


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the common prefix of two sequences."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def narrative_nouns(reader: Reader) -> list[Noun]:
    """The nouns of one narrative that mean segments; raises DataError for an invalid narrative."""
    pieces = reader.children("segments")
    spans = utterance_spans(reader.get("caption", str), [piece.get("utterance", str) for piece in pieces])
    nouns = []
    for piece, span in zip(pieces, spans, strict=True):
        listed = piece.get("segment_ids", list, [])
        ids = {segment_id(Reader({"segment_ids": one}, piece.file, piece.record, piece.path)) for one in listed}
        if ids and piece.get("noun", bool, True):
            plural = piece.get("plural", bool, False)
            nouns.append(Noun(piece, span, tuple(map(str, sorted(ids))), plural))
    return nouns


def coco_png_conversion(
    options: BuildOptions,
    *,
    narratives: Path,
    panoptic: Path,
    panoptic_masks: Path,
    images: Path,
    keep_plurals: bool = False,
    keep_stuff: bool = False,
) -> Conversion:
    """COCO-PNG -> a VNG dataset of one-frame videos; all narratives of an image share one row."""
    files = PngFiles(narratives, panoptic, panoptic_masks, images)
    settings = PngSettings(keep_plurals, keep_stuff)
    name, split = options.dataset or NAME, options.split or split_of(files.panoptic)

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        _spool_panoptic(spool, files, _spool_narratives(spool, files.narratives, wanted))
        wanted.report_missing(spool, {NARRATIVES: files.narratives})

    def make(spool: Spool, video: str, problems: list[Problem]) -> list[Video]:
        image = _ImageReader(files, settings, _Panoptic.of(spool, video, files.panoptic), problems.append)
        row = image.video(video, spool.items(NARRATIVES, video), name, split)
        return [] if row is None else [row]

    inputs = {key: path for key, path in asdict(files).items() if key != "images"}
    return Conversion(
        kind="coco-png", title=name, inputs=inputs, options=options, read=read, make=make, more=asdict(settings)
    )


def _spool_narratives(spool: SpoolWriter, file: Path, wanted: Wanted) -> set[str]:
    """Spool the selected narratives; returns the names of their images."""

    def parse(value: Any, place: str) -> tuple[str, Item]:
        return image_name(Reader(value, file, place), "image_id"), Item(place, place, value)

    names = set()
    for name, item in iterate_json_list(file, parse, spool.problem):
        if wanted.video(name) and wanted.listed_video(name):
            spool.add(NARRATIVES, name, item)
            names.add(name)
    return names


def image_name(reader: Reader, field: str) -> str:
    """The name of an image: its id in 12 digits, as COCO's files have it."""
    return f"{_number(reader, field):012d}"


def segment_id(reader: Reader, field: str = "segment_ids") -> int:
    """A panoptic id, below 2^24."""
    number = _number(reader, field)
    if not 0 < number < 1 << 24:
        raise reader.error(field, f"expected a segment id in 1..{(1 << 24) - 1}, got {number}")
    return number


def _number(reader: Reader, field: str) -> int:
    """A numeric id, which the files write as a number or a string."""
    text = any_id(reader, field)
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise reader.error(field, f"expected a numeric id, got {text!r}")
    return int(text)


def _spool_panoptic(spool: SpoolWriter, files: PngFiles, names: set[str]) -> None:
    """Spool image entries and segments of the images that have narratives, and all categories."""
    n_annotations = 0
    categories: dict[str, Any] = {}
    for section, place, value in iterate_json_sections(files.panoptic, ("images", "annotations", "categories")):
        try:
            reader = Reader(value, files.panoptic, place)
            if section == "categories":
                key = any_id(reader, "id")
                if categories.setdefault(key, value) != value:
                    raise reader.error("id", f"category id {key} repeats", "give each category an id of its own")
                continue
            name = image_name(reader, "id" if section == "images" else "image_id")
            if name in names:
                spool.add(IMAGES if section == "images" else SEGMENTS, name, Item(name, place, value))
                n_annotations += section == "annotations"
        except DataError as error:
            spool.problem(error.problem)
    spool.add(CATEGORIES, "", Item("all", CATEGORIES, categories))
    if not n_annotations and names:
        cure = "give the panoptic file of the same split as the narratives"
        raise DataError(
            files.panoptic,
            field="annotations",
            reason=f"no annotation belongs to an image of {files.narratives}",
            cure=cure,
        )


@dataclass(frozen=True)
class _Panoptic:
    """COCO's panoptic annotation of one image."""

    image_file: str
    mask_file: str
    segments: Mapping[str, Reader]  # by id
    categories: Mapping[str, Reader]

    def category(self, segment: Reader) -> Reader:
        """The category of a segment; raises DataError where it does not exist."""
        key = any_id(segment, "category_id")
        if key not in self.categories:
            raise segment.error("category_id", f"category {key} is not among the categories", LEFT_OUT)
        return self.categories[key]

    @staticmethod
    def of(spool: Spool, name: str, file: Path) -> _Panoptic:
        (stored,) = spool.items(CATEGORIES, "")
        categories = {key: Reader(value, file, f"category {key}") for key, value in stored.body.items()}
        annotations = spool.items(SEGMENTS, name)
        if not annotations:
            raise DataError(
                file,
                record=name,
                field="annotations",
                reason="no panoptic annotation of this image",
                cure="check --panoptic",
            )
        annotation = Reader(annotations[0].body, file, name)
        segments = {str(segment_id(child, "id")): child for child in annotation.children("segments_info")}
        image = [Reader(item.body, file, item.place) for item in spool.items(IMAGES, name)]
        image_file = image[0].get("file_name", str) if image else f"{name}.jpg"
        return _Panoptic(image_file, annotation.get("file_name", str, f"{name}.png"), segments, categories)


@dataclass(frozen=True)
class _ImageReader:
    """Makes the row of one image; nouns that cannot be used are reported and left out."""

    files: PngFiles
    settings: PngSettings
    panoptic: _Panoptic
    on_problem: OnProblem

    def video(self, name: str, narratives: Sequence[Item], dataset: str, split: str) -> Video | None:
        """The row; None where no noun is left."""
        kept_narratives: list[Narrative] = []
        expressions: list[Expression] = []
        for item in narratives:
            reader = Reader(item.body, self.files.narratives, f"{item.place}: image {name}")
            try:
                expressions += self._expressions(reader, len(kept_narratives))
            except DataError as error:
                self.on_problem(error.problem)
            else:
                kept_narratives.append(Narrative("", reader.value["caption"]))
        if expressions:
            frames = open_frames(inside(self.files.images, self.panoptic.image_file))
            objects = self._objects(dict.fromkeys(e.object_id for e in expressions), frames)
            object_ids = {item.object_id for item in objects}
            expressions = [expression for expression in expressions if expression.object_id in object_ids]
        if not expressions:
            reason = "no noun of this image is kept: the image is left out"
            self.on_problem(
                Problem(str(self.files.narratives), record=name, field="segments", reason=reason, kind="note")
            )
            return None
        height, width = frames.size
        return Video(
            video_id=name,
            dataset=dataset,
            split=split,
            height=height,
            width=width,
            fps=0.0,
            frame_names=tuple(frames.names),
            narratives=tuple(kept_narratives),
            expressions=tuple(expressions),
            objects=objects,
            frames=frames,
        )

    def _expressions(self, reader: Reader, number: int) -> list[Expression]:
        """The expressions of one narrative, the `number`-th of its image."""
        expressions = []
        for noun in narrative_nouns(reader):
            try:
                if not self._kept(noun):
                    continue
                if noun.span is None:
                    reason = f"{noun.piece.value['utterance']!r} cannot be located with certainty in the caption"
                    raise noun.piece.error("utterance", reason, LEFT_OUT)
            except DataError as error:
                self.on_problem(error.problem)
                continue
            expressions.append(Expression(number, *noun.span, JOIN.join(noun.segments)))
        return expressions

    def _kept(self, noun: Noun) -> bool:
        """Whether the settings keep a noun; raises DataError for an inconsistent one."""
        if not self.settings.keep_plurals:
            if noun.plural:
                return False
            if len(noun.segments) > 1:
                reason = f"{len(noun.segments)} segments of a noun that is marked as singular"
                raise noun.piece.error("segment_ids", reason, LEFT_OUT)
        for key in noun.segments:
            segment = self.panoptic.segments.get(key)
            if segment is None:
                reason = f"segment {key} is not among the image's segments_info"
                raise noun.piece.error("segment_ids", reason, f"{LEFT_OUT}; check --panoptic")
            if segment.value.get("iscrowd") and not self.settings.keep_plurals:
                return False
            if not self.settings.keep_stuff and not _is_thing(self.panoptic.category(segment)):
                return False
        return True

    def _objects(self, keys: Mapping[str, None], frames: Frames) -> tuple[VideoObject, ...]:
        path = inside(self.files.panoptic_masks, self.panoptic.mask_file)
        ids = read_panoptic(path)
        check_size(frames, frames.names[0], *ids.shape)
        objects = []
        for key in keys:
            parts = key.split(JOIN)
            mask = np.isin(ids, [int(part) for part in parts])
            if not mask.any():
                self.on_problem(
                    Problem(str(path), field=f"segment {key}", reason="no pixel has this id", cure=LEFT_OUT)
                )
                continue
            segment = self.panoptic.segments[parts[0]]
            name = self.panoptic.category(segment).get("name", str)
            objects.append(VideoObject(key, name, SOURCE, (encode(mask),)))
        return tuple(objects)


def _is_thing(category: Reader) -> bool:
    """Whether a category's segments are objects; raises DataError where the file does not say."""
    value = category.value.get("isthing")
    if value not in (0, 1):  # true and false among them
        cure = "write 1 for things and 0 for stuff, or keep both with --keep-stuff"
        raise category.error(
            "isthing", "this key is missing" if value is None else f"expected 0 or 1, got {value!r:.20}", cure
        )
    return bool(value)


def read_panoptic(path: Path) -> np.ndarray:
    """Segment ids int32 [H, W] of a panoptic PNG; raises DataError for an image that is missing, broken or not RGB."""
    try:
        with Image.open(path) as image:
            pixels = np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            path, reason="missing or unreadable panoptic PNG", cure="fetch it, or check --panoptic-masks"
        ) from error
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        reason = f"expected RGB of 8 bits, got {pixels.dtype} {list(pixels.shape)}"
        raise DataError(path, reason=reason, cure="give the panoptic PNGs as published")
    red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
    return red + 256 * green + 65536 * blue
