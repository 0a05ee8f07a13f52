"""ViCaS (Athar et al., CVPR 2025): masks of videos of Oops, and captions whose phrases mean them -> a VNG dataset.

<annotations>/<id>.json    {"video_id", "image_size": [H, W], "all_track_ids": [int], captions with marks,
                            "segmentations": [{"filename", "is_gt", "track_ids": [int], "mask_rles": [RLE]}],
                            "object_referrals": [{"prompt", "track_ids": [int]}]}
<frames>/<id>/00000.jpg    30 frames a second, ids with six digits: the publisher's `video_to_frames.sh`
<split>.json               [id, ...]

Masks of `is_gt` frames were drawn by people, one a second; SAM 2 made the others. In a listed frame, a track without a
mask is absent; a frame that is not listed is not annotated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conversion.build import NARRATIVES, Conversion
from conversion.formats.jsonio import OnProblem, read_rles
from conversion.formats.official_vng import check_size
from conversion.formats.referring import JOIN, WITHHELD, Referring, with_expressions
from conversion.formats.vicas_captions import HEAD, PHRASE, HeadFinder, Phrase, head_finder, parse_caption
from conversion.formats.youtube_vis import ROW_FRAMES
from conversion.options import BuildOptions
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import Video, VideoObject
from vng.errors import DataError, Problem, UsageError, one_of
from vng.frames import Frames, as_path, find_frames, open_frames, visible_files
from vng.masks import MOST_PIXELS, RLE, empty, is_size, union
from vng.narratives import Expression, Narrative
from vng.options import split_name
from vng.records import Reader
from vng.text_files import load_json

NAME = "ViCaS"
# Texts -> their field; REFERRALS are expressions of their own.
CAPTIONS = {"caption": "caption_raw_en_gpt", "original": "caption_raw_en", "chinese": "caption_raw_cn"}
REFERRALS = "referrals"
TEXTS = (*CAPTIONS, REFERRALS)
PLURALS = ("joined", "each", "none")
# Which masks -> the source of their objects: all that SAM 2 had a part in are pseudo-masks ("mask/").
SOURCES = {"human": "vicas", "automatic": "mask/sam2", "all": "mask/vicas+sam2"}
MOST_TRACKS = 1000  # of a video
_ID = re.compile(r"[0-9]{1,9}")

FrameMasks = dict[str, dict[int, RLE]]  # frame -> track -> mask


@dataclass(frozen=True)
class VicasSettings:
    """Choices of the conversion; raises UsageError for an unknown one, or two that exclude each other."""

    text: str = "caption"  # one of TEXTS
    spans: str = PHRASE  # PHRASE, HEAD, or a spaCy pipeline by name or path
    plurals: str = "joined"  # one of PLURALS: phrases of several tracks as one object, as one noun each, or left out
    masks: str = "human"  # one of SOURCES
    row_frames: str = "listed"  # one of ROW_FRAMES

    def __post_init__(self) -> None:
        for value, choices, what in (
            (self.text, TEXTS, "text"),
            (self.plurals, PLURALS, "value of plurals"),
            (self.masks, SOURCES, "kind of masks"),
            (self.row_frames, ROW_FRAMES, "value of row_frames"),
        ):
            one_of(value, choices, what)
        if self.text == REFERRALS and (self.spans != PHRASE or self.plurals != "joined"):
            raise UsageError("--text referrals: the whole text is the span, and several tracks are always joined")
        if self.text == "chinese" and self.spans == HEAD:
            raise UsageError(f"--spans {HEAD} is a rule for English; name a spaCy pipeline, or use --spans {PHRASE}")


def vicas_conversion(
    options: BuildOptions,
    *,
    annotations: Path,
    frames: Path | None = None,
    split_lists: Sequence[Path] = (),
    text: str = "caption",
    spans: str = PHRASE,
    plurals: str = "joined",
    masks: str = "human",
    row_frames: str = "listed",
) -> Conversion:
    """ViCaS's annotations -> a VNG dataset with its masks; without `frames`, the rows have no images.

    Args:
        options: settings common to all conversions.
        annotations: the folder of <id>.json.
        frames: the folder of <id>/ folders of frames.
        split_lists: <split>.json; videos of none are left out. Without lists, all videos are of "train".
        text, spans, plurals, masks, row_frames: see `VicasSettings`.
    """
    settings = VicasSettings(text, spans, plurals, masks, row_frames)
    if frames is None and row_frames == "all":
        raise UsageError("--row-frames all requires --frames")
    find_head = head_finder(spans)
    if not annotations.is_dir():
        raise DataError(annotations, reason="no such folder", cure="check --annotations")

    def read(spool: SpoolWriter) -> None:
        _spool_names(spool, annotations, split_lists, Wanted(options))

    def make(spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        (item,) = spool.items(NARRATIVES, name)
        file = annotations / item.body["file"]
        reader = Reader(load_json(file), file, name)
        if reader.get("video_id", int) != int(name):
            raise reader.error("video_id", f"this file is named {file.name}", "rename the file, or fetch it again")
        split = options.split or item.body["split"] or "train"
        record = replace(_video(reader, frames, settings, split), dataset=options.dataset or NAME)
        if text == REFERRALS:
            return [_with_referrals(record, reader, problems.append)]
        return [_with_caption(record, reader, settings, find_head, problems.append)]

    inputs = {"annotations": annotations} | {f"split list {i}": file for i, file in enumerate(split_lists)}
    more: dict[str, Any] = {"text": text, "spans": spans, "plurals": plurals, "masks": masks, "row_frames": row_frames}
    return Conversion(
        kind="vicas",
        title=options.dataset or NAME,
        inputs=inputs,
        options=options,
        read=read,
        make=make,
        with_frames=frames is not None,
        more=more,
    )


def read_split_lists(files: Sequence[Path]) -> dict[int, str]:
    """Video id -> its split, the name of its list; raises DataError for a video of two splits."""
    splits: dict[int, str] = {}
    for file in files:
        try:
            name = split_name(file.stem)
        except UsageError as error:
            raise DataError(file, reason=str(error), cure="name the list by its split, such as val.json") from error
        reader = Reader({"": load_json(file)}, file, "")
        for video in reader.items("", int):
            if splits.setdefault(video, name) != name:
                reason = f"video {video} is of {splits[video]!r}, too"
                raise DataError(file, record=str(video)[:20], reason=reason, cure="give each video one split")
    return splits


def _spool_names(spool: SpoolWriter, annotations: Path, split_lists: Sequence[Path], wanted: Wanted) -> None:
    """Spool the names of the files to convert; `make` reads the files, one by one."""
    splits = read_split_lists(split_lists)
    found, unlisted = set(), 0
    for file in visible_files(annotations, (".json",)):
        if not _ID.fullmatch(file.stem):
            reason, cure = "this file is not named by a video's number", "rename it, or take it out of this folder"
            spool.problem(Problem(str(file), reason=reason, cure=cure))
            continue
        number = int(file.stem)
        found.add(number)
        if split_lists and number not in splits:
            unlisted += 1
            continue
        name = f"{number:06d}"
        if not (wanted.video(name) and wanted.listed_video(name)):
            continue
        item = Item(name, file.name, {"file": file.name, "split": splits.get(number, "")})
        if not spool.add(NARRATIVES, name, item):
            spool.problem(Problem(str(file), record=name, reason="another file is of this video", cure="remove one"))
    if unlisted:
        reason = f"{unlisted} videos are in no split list: they are left out"
        spool.problem(Problem(str(annotations), reason=reason, kind="note"))
    if missing := sorted(splits.keys() - found):
        shown = ", ".join(str(number)[:20] for number in missing[:3]) + ", ..." * (len(missing) > 3)
        reason = f"no annotations of {len(missing)} of the {len(splits)} videos of the split lists: {shown}"
        spool.problem(Problem(str(annotations), reason=reason, cure="fetch them, or the lists of this version"))
    wanted.report_missing(spool, {NARRATIVES: annotations})


def _video(reader: Reader, root: Path | None, settings: VicasSettings, split: str) -> Video:
    """The video with all its tracks, without narratives."""
    size = _size(reader)
    masks = _frame_masks(reader, size, settings.masks)
    frames, names = None, tuple(sorted(masks, key=lambda name: (len(name), name)))
    if root is not None:
        frames = open_frames(find_frames(root, reader.record))
        check_size(frames, reader.record, *size)
        masks, places = _placed(masks, names, frames, reader.record)
        frames = frames if settings.row_frames == "all" else frames.subset(places)
        names = tuple(frames.names)
    return Video(
        video_id=reader.record,
        dataset=NAME,
        split=split,
        height=size[0],
        width=size[1],
        fps=0.0 if frames is None else frames.fps,
        frame_names=names,
        narratives=(),
        expressions=(),
        objects=tuple(_tracks(reader, masks, names, size, SOURCES[settings.masks])),
        frames=frames,
    )


def _size(reader: Reader) -> tuple[int, int]:
    size = reader.items("image_size", int)
    if len(size) != 2 or not is_size(size):
        raise reader.error("image_size", f"expected [height, width] in pixels, got {str(size)[:40]}")
    height, width = size
    if height * width > MOST_PIXELS:
        raise reader.error("image_size", f"frames of {height}x{width}, at most {MOST_PIXELS} pixels are read")
    return height, width


def _frame_masks(reader: Reader, size: tuple[int, int], kind: str) -> FrameMasks:
    """The masks of the frames of a kind (of SOURCES); raises DataError where there is no such frame."""
    masks: FrameMasks = {}
    for child in reader.children("segmentations"):
        by_hand = child.get("is_gt", bool)
        if kind != "all" and by_hand != (kind == "human"):
            continue
        name = as_path(child.get("filename", str)).stem
        if not name:
            raise child.error("filename", "this frame has no name")
        if name in masks:
            raise child.error("filename", f"frame {name!r} repeats")
        tracks = child.items("track_ids", int)
        if len(set(tracks)) < len(tracks):
            raise child.error("track_ids", "a track repeats in this frame")
        rles = read_rles(child, "mask_rles", child.get("mask_rles", list), size)
        if len(rles) != len(tracks):
            raise child.error("mask_rles", f"{len(rles)} masks for {len(tracks)} track_ids")
        masks[name] = {track: rle for track, rle in zip(tracks, rles, strict=True) if rle is not None}
    if not masks:
        raise reader.error("segmentations", f"no frame with masks ({kind})", "choose other --masks")
    return masks


def _placed(masks: FrameMasks, names: Sequence[str], frames: Frames, video: str) -> tuple[FrameMasks, list[int]]:
    """The masks under the frames' own names, and the places of their frames, in order."""
    placed: dict[int, dict[int, RLE]] = {}
    for name in names:
        place = frames.index_of(name)
        if place is None or place in placed:
            reason = f"no frame {name!r}" if place is None else f"{name!r} and another name mean one frame"
            cure = "extract the frames at 30 a second, counted from 0"
            raise DataError(frames.source, record=video, field="frames", reason=reason, cure=cure)
        placed[place] = masks[name]
    return {frames.names[place]: found for place, found in placed.items()}, sorted(placed)


def _tracks(
    reader: Reader, masks: FrameMasks, names: Sequence[str], size: tuple[int, int], source: str
) -> Iterator[VideoObject]:
    """All tracks by number: null in frames that are not listed, empty in listed frames without a mask."""
    tracks = {*reader.items("all_track_ids", int), *(track for found in masks.values() for track in found)}
    if len(tracks) > MOST_TRACKS:
        raise reader.error("all_track_ids", f"{len(tracks)} tracks, at most {MOST_TRACKS} are read")
    absent = empty(*size)
    for track in sorted(tracks):
        found = [masks[name].get(track, absent) if name in masks else None for name in names]
        yield VideoObject(_key([track], reader), "", source, tuple(found))


def _key(tracks: Sequence[int], reader: Reader) -> str:
    """The object id of tracks: "3", or "3+7" of their union."""
    if not all(0 <= track < 10**9 for track in tracks):
        raise reader.error("track_ids", f"expected ids in [0, 1e9), got {str(tracks)[:40]}")
    return JOIN.join(map(str, sorted(set(tracks))))


def _joined(objects: Mapping[str, VideoObject], key: str) -> VideoObject | None:
    """The union of the tracks that a key means; None where one of them has no masks."""
    parts = [objects.get(part) for part in key.split(JOIN)]
    known = [part for part in parts if part is not None and part.source != WITHHELD]
    if len(known) < len(parts):
        return None
    frames = zip(*(part.segmentations for part in known), strict=True)
    rles = [[rle for rle in of_frame if rle is not None] for of_frame in frames]
    return VideoObject(key, "", known[0].source, tuple(union(found) if found else None for found in rles))


def _with_referrals(record: Video, reader: Reader, on_problem: OnProblem) -> Video:
    """The record with a narrative for each referral, in the publisher's order."""
    said = []
    for child in reader.children("object_referrals"):
        prompt = child.get("prompt", str)
        if not prompt.strip():
            raise child.error("prompt", "this prompt is blank")
        key = _key(child.items("track_ids", int), child)
        said.append(Referring(prompt, tuple(key.split(JOIN)) if key else ()))
    if not said:
        raise reader.error("object_referrals", "no prompt of this video")
    objects = {item.object_id: item for item in record.objects}
    for one in said:
        if one.object_ids and one.object_id not in objects and (made := _joined(objects, one.object_id)):
            objects[one.object_id] = made
    return with_expressions(replace(record, objects=tuple(objects.values())), said, Path(reader.file), on_problem)


def _with_caption(
    record: Video, reader: Reader, settings: VicasSettings, find_head: HeadFinder, on_problem: OnProblem
) -> Video:
    """The record with its caption as narrative, and a noun for each phrase."""
    field = CAPTIONS[settings.text]
    try:
        caption = parse_caption(reader.get(field, str))
    except ValueError as error:
        raise reader.error(field, str(error)) from error
    objects = {item.object_id: item for item in record.objects}
    expressions, missing = [], []
    for phrase in caption.phrases:
        for key in _keys(phrase, settings.plurals):
            start, end = find_head(caption.text, phrase.start, phrase.end)
            if key not in objects:
                made = _joined(objects, key)
                missing += [] if made else [key]
                nulls = (None,) * len(record.frame_names)
                objects[key] = made or VideoObject(key, "", WITHHELD, nulls)
            expressions.append(Expression(0, start, end, key))
            if not objects[key].name:
                objects[key] = replace(objects[key], name=caption.text[start:end])
    for reason in _reasons(caption.phrases, settings.plurals, missing):
        on_problem(Problem(str(reader.file), record=reader.record, field=field, reason=reason, kind="note"))
    return replace(
        record,
        narratives=(Narrative("", caption.text),),
        expressions=tuple(expressions),
        objects=tuple(objects.values()),
    )


def _keys(phrase: Phrase, plurals: str) -> list[str]:
    """The object ids of a phrase; none for a crowd, which has no mask."""
    if phrase.crowd or (len(phrase.track_ids) > 1 and plurals == "none"):
        return []
    names = [str(track) for track in sorted(phrase.track_ids)]
    return names if plurals == "each" else [JOIN.join(names)]


def _reasons(phrases: Sequence[Phrase], plurals: str, missing: Sequence[str]) -> Iterator[str]:
    if crowds := sum(phrase.crowd for phrase in phrases):
        yield f"{crowds} phrases of crowds are left out: crowds have no masks"
    if several := sum(len(phrase.track_ids) > 1 and not phrase.crowd for phrase in phrases) * (plurals == "none"):
        yield f"{several} phrases of several tracks are left out"
    if missing:
        shown = ", ".join(missing[:5]) + ", ..." * (len(missing) > 5)
        yield f"tracks without any mask: {shown}; their phrases are kept, their masks are null"
