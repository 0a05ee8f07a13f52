"""Ref-DAVIS17 (Khoreva et al., ACCV 2018): DAVIS folders and sentences -> a VNG dataset, one narrative per sentence.

Sentences come as the published text files, one object per line, in four files (two annotators, each shown the first
frame and then the whole video), in UTF-8 and in Latin-1:

    dogs-jump 1 "a white dog with black patches"

or as JSON: {"videos": {<clip>: {"objects": {<id>: [<sentence>, ...]}, "categories": {<id>: <name>}}}}, or the form of
Ref-YouTube-VOS, into which ReferFormer turns the four files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from conversion.build import NARRATIVES, Conversion
from conversion.formats.davis import (
    ANNOTATIONS,
    DavisSettings,
    davis_clips,
    image_set_file,
    listed_clips,
    read_davis_clip,
)
from conversion.formats.jsonio import OnProblem
from conversion.formats.referring import Referring, read_expressions, with_expressions
from conversion.options import BuildOptions
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import Video
from vng.errors import DataError, Problem
from vng.frames import inside
from vng.records import Reader
from vng.text_files import load_json

NAME = "Ref-DAVIS17"
# Misspelt clip names in some lines of the text files -> names of the clips.
MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
_LINE = re.compile(r"(\S+)\s+(\d{1,9})\s+(\S.*?)\s*")
_QUOTES = '"“”'


@dataclass(frozen=True)
class ClipSentences:
    """Sentences about one clip, and the names of its objects."""

    expressions: tuple[Referring, ...]
    categories: dict[str, str]  # object id -> name, where the file has one


def read_davis_expressions(files: Sequence[Path], on_problem: OnProblem) -> dict[str, ClipSentences]:
    """Clip -> its sentences: from a JSON file in its order, from text files by object and then in order of the files.

    With the four files in the order annot1, annot1_full_video, annot2, annot2_full_video, the expressions have the same
    numbers as in ReferFormer. Invalid lines and clips go to `on_problem`; raises DataError for a missing file.
    """
    if len(files) == 1 and files[0].suffix.lower() == ".json":
        return _from_json(files[0], on_problem)
    lines: dict[str, list[tuple[int, int, str]]] = {}  # clip -> (object, file, sentence)
    for place, file in enumerate(files):
        for number, line in enumerate(_text(file).split("\n"), 1):
            match = _LINE.fullmatch(line)
            if match is not None and (text := _unquoted(match[3])):
                clip = MISSPELT.get(match[1], match[1])
                lines.setdefault(clip, []).append((int(match[2]), place, text))
            elif line.strip():
                reason = f'expected: clip, object number, "sentence", got {line.strip()[:40]!r}'
                on_problem(Problem(str(file), record=f"line {number}", reason=reason, cure="fix or remove this line"))
    ordered = {
        clip: sorted(sentences, key=lambda sentence: sentence[:2]) for clip, sentences in lines.items()
    }  # stable
    return {
        clip: ClipSentences(tuple(Referring(text, (str(key),)) for key, _, text in sentences), {})
        for clip, sentences in ordered.items()
    }


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES
    return (text[1:-1] if quoted else text).strip()


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(file, reason="no such file", cure="check --expressions") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # the second annotator's files


def _from_json(file: Path, on_problem: OnProblem) -> dict[str, ClipSentences]:
    clips = {}
    for clip, value in Reader(load_json(file), file, "").child("videos").value.items():
        try:
            clips[clip] = _clip_sentences(Reader(value, file, clip))
        except DataError as error:
            on_problem(error.problem)
    return clips


def _clip_sentences(reader: Reader) -> ClipSentences:
    if "expressions" in reader.value:
        return ClipSentences(read_expressions(reader.child("expressions"), "obj_id"), {})
    objects = reader.child("objects")
    sentences = []
    for key in objects.value:
        for index, text in enumerate(objects.items(key, str)):
            if not text.strip():
                raise objects.error(f"{key}[{index}]", "this sentence is blank")
            sentences.append(Referring(text, (key,)))
    if not sentences:
        raise objects.error("", "no sentence about this clip")
    categories = reader.child("categories") if "categories" in reader.value else Reader({}, reader.file, reader.record)
    return ClipSentences(tuple(sentences), {key: categories.get(key, str) for key in categories.value})


def ref_davis_conversion(
    options: BuildOptions,
    *,
    root: Path,
    expressions: Sequence[Path],
    image_set: str = "",
    annotations: str = ANNOTATIONS,
) -> Conversion:
    """DAVIS folders and Ref-DAVIS17's sentences -> a VNG dataset with true masks.

    Args:
        options: settings common to all conversions.
        root: folder with JPEGImages/, the annotations and ImageSets/.
        expressions: see `read_davis_expressions`.
        image_set: below ImageSets/, such as "2017/val"; "" takes every clip with sentences.
        annotations: the folder of label images; ReferFormer reads "Annotations_unsupervised".
    """
    davis = DavisSettings(image_set)
    name, split = options.dataset or NAME, options.split or davis.split
    clips = davis_clips(root)
    if not inside(root, annotations).is_dir():
        available = ", ".join(sorted(path.name for path in root.glob("Annotations*")))
        raise DataError(
            root / annotations, reason="no such folder of label images", cure=f"available: {available or 'none'}"
        )
    listed = image_set_file(root, image_set) if image_set else None

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        sentences = read_davis_expressions(expressions, spool.problem)
        for clip in clips if listed is None else listed_clips(listed, clips, spool.problem):
            if not (wanted.video(clip) and wanted.listed_video(clip)):
                continue
            if clip in sentences:
                spool.add(NARRATIVES, clip, Item(clip, "", _as_json(sentences[clip])))
            else:
                reason = "no expression about this clip: it is left out"
                spool.problem(Problem(str(expressions[0]), record=clip, reason=reason, kind="note"))
        for clip in () if listed is not None else sentences.keys() - clips.keys():
            if wanted.video(clip) and wanted.listed_video(clip):
                reason = f"clip {clip!r} is not below JPEGImages/"
                spool.problem(
                    Problem(str(expressions[0]), record=clip, reason=reason, cure="fetch it, or name an --image-set")
                )
        wanted.report_missing(spool, {NARRATIVES: root})

    def make(spool: Spool, clip: str, problems: list[Problem]) -> list[Video]:
        (item,) = spool.items(NARRATIVES, clip)
        record, _ = read_davis_clip(root, clips[clip], name, split, davis, annotations)
        names = item.body["categories"]
        objects = tuple(replace(entry, name=names.get(entry.object_id, "")) for entry in record.objects)
        sentences = [Referring(text, None if ids is None else tuple(ids)) for text, ids in item.body["expressions"]]
        return [with_expressions(replace(record, objects=objects), sentences, expressions[0], problems.append)]

    inputs = {"root": root} | {f"expressions {i}": file for i, file in enumerate(expressions)}
    more: dict[str, Any] = asdict(davis) | {"annotations": annotations}
    return Conversion(kind="ref-davis", title=name, inputs=inputs, options=options, read=read, make=make, more=more)


def _as_json(sentences: ClipSentences) -> dict[str, Any]:
    expressions = [(expression.text, expression.object_ids) for expression in sentences.expressions]
    return {"expressions": expressions, "categories": sentences.categories}
