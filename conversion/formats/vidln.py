"""Video Localized Narratives (VidLN): narratives with mouse traces, one video per JSON line. Read, write, cut traces.

Format: docs/formats.md; publisher: google/video-localized-narratives.
Trace coordinates are normalised to [0, 1] and may lie slightly outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from conversion.formats.jsonio import OnProblem, iterate_json_lines, write_json_lines
from vng.errors import Problem
from vng.narratives import check_span
from vng.records import Reader

# In the publisher's code, the last word's segment has no end; this many milliseconds stand for it.
_FOREVER_MS = 99_999_999
_LAST_SINGLE = 0xFFFF  # characters above it are two units of UTF-16


@dataclass(frozen=True)
class TracePoint:
    """One pointer position: normalised x, y on key frame `kf_idx` at an absolute time in milliseconds."""

    x: float
    y: float
    time_ms: int
    kf_idx: int


@dataclass(frozen=True)
class AlignedWord:
    """When a word of the caption was spoken, in milliseconds after the recording's start."""

    word: str
    start: int  # character span in the caption
    end: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True, kw_only=True)
class ActorNarrative:
    """One annotator's description of one actor, with the mouse trace drawn while speaking."""

    actor_name: str
    caption: str
    keyframe_selection_indices: tuple[int, ...]
    recording_start_ms: int
    traces_start_ms: int
    recording_filename: str
    traces: tuple[tuple[TracePoint, ...], ...]
    noun_segments: tuple[tuple[int, int], ...]
    time_alignment: tuple[AlignedWord, ...]


@dataclass(frozen=True, kw_only=True)
class VidLN:
    """The Video Localized Narrative of one video."""

    vidln_id: int
    dataset_id: str
    video_id: str
    annotator_id: str | int
    keyframe_names: tuple[str, ...]
    narratives: tuple[ActorNarrative, ...]
    file: str = field(default="", compare=False)  # source file, for messages
    line: str = field(default="", compare=False)
    notes: tuple[Problem, ...] = field(default=(), compare=False)  # what a user should know of the record

    def problem(self, where: str, reason: str, kind: str = "error") -> Problem:
        """A problem with this video's record."""
        place = f"{self.line}: {self.video_id}" if self.line else self.video_id
        return Problem(self.file, record=place, field=where, reason=reason, kind=kind)


def read_vidln(path: Path, on_problem: OnProblem | None = None) -> Iterator[VidLN]:
    """Read a VidLN file video by video; bad lines go to `on_problem`, or raise DataError where it is None."""
    for video in iterate_json_lines(path, lambda value, place: from_json(value, path, place), on_problem):
        if on_problem is not None:
            for note in video.notes:
                on_problem(note)
        yield video


def write_vidln(videos: list[VidLN], path: Path) -> None:
    """Write VidLN JSON lines in the publisher's layout."""
    write_json_lines([as_json(video) for video in videos], path)


def from_json(value: Any, path: Path, place: str) -> VidLN:
    """A video from the publisher's JSON object; `path` and `place` locate it in messages."""
    return _parse(Reader(value, path, place))


def _parse(reader: Reader) -> VidLN:
    names = tuple(reader.items("keyframe_names", str))
    narratives = tuple(_parse_narrative(child, len(names)) for child in reader.children("actor_narratives"))
    annotator = reader.value.get("annotator_id", "")
    notes = [_offset_note(child) for child in reader.children("actor_narratives")]
    return VidLN(
        vidln_id=reader.get("vidln_id", int),
        dataset_id=reader.get("dataset_id", str),
        video_id=reader.get("video_id", str),
        annotator_id=annotator,
        keyframe_names=names,
        narratives=narratives,
        file=str(reader.file),
        line=reader.record,
        notes=tuple(note for note in notes if note is not None),
    )


def _parse_narrative(reader: Reader, n_keyframes: int) -> ActorNarrative:
    caption = reader.get("caption", str)
    spans = []
    move = _offsets(reader)
    for index, span in enumerate(reader.get("noun_segments", list, default=[])):
        try:
            start, end = (move(edge) for edge in span)
            check_span(caption, start, end)
        except (TypeError, ValueError) as error:
            raise reader.error(f"noun_segments[{index}]", str(error)) from error
        spans.append((start, end))
    selection = tuple(reader.items("keyframe_selection_indices", int))
    if any(not 0 <= i < n_keyframes for i in selection):
        raise reader.error(
            "keyframe_selection_indices", f"got {list(selection)}, but there are {n_keyframes} key frames"
        )
    return ActorNarrative(
        actor_name=reader.get("actor_name", str),
        caption=caption,
        keyframe_selection_indices=selection,
        recording_start_ms=reader.get("recording_start_time_ms_since_epoch", int),
        traces_start_ms=reader.get("traces_start_time_ms_since_epoch", int, default=0),
        recording_filename=reader.get("recording_filename", str, default=""),
        traces=_parse_traces(reader, n_keyframes),
        noun_segments=tuple(spans),
        time_alignment=tuple(_parse_word(child, caption) for child in reader.children("time_alignment")),
    )


def _offsets(reader: Reader) -> Callable[[Any], int]:
    """Offsets of a narrative's spans -> characters of its caption.

    Offsets count characters. Tools in a browser count UTF-16 units instead, where an emoji is two: such spans are off
    by one after each emoji. They are taken as these units where that, and only that, makes all spans begin and end
    with words.
    """
    caption = reader.get("caption", str)
    if _cut_words(reader, caption, _character) and not _cut_words(reader, caption, _by_unit(caption)):
        return _by_unit(caption)
    return _character


def _character(offset: Any) -> int:
    if isinstance(offset, bool) or not isinstance(offset, int):
        raise ValueError(f"expected two whole numbers, got {offset!r:.40}")
    return offset


def _by_unit(caption: str) -> Callable[[Any], int]:
    """UTF-16 units -> characters of a caption; outside it, offsets stay."""
    units = {0: 0}
    count = 0
    for index, character in enumerate(caption):
        count += 2 if ord(character) > _LAST_SINGLE else 1
        units[count] = index + 1
    return lambda offset: units.get(_character(offset), len(caption) + 1)


def _cut_words(reader: Reader, caption: str, move: Callable[[Any], int]) -> list[str]:
    """The texts of the noun spans that begin or end within a word, or lie outside the caption."""
    cut = []
    for span in reader.get("noun_segments", list, default=[]):
        try:
            start, end = (move(edge) for edge in span)
            check_span(caption, start, end)
        except (TypeError, ValueError):
            cut.append("")
            continue
        if any(0 < edge < len(caption) and caption[edge - 1 : edge + 1].isalnum() for edge in (start, end)):
            cut.append(caption[start:end])
    return cut


def _offset_note(reader: Reader) -> Problem | None:
    """The note on the offsets of a narrative; None for usual ones."""
    move, caption = _offsets(reader), reader.get("caption", str)
    cut = [text for text in _cut_words(reader, caption, move) if text]
    if cut:
        reason = f"noun spans cut a word: {', '.join(repr(text) for text in cut[:3])}"
    elif move is not _character:
        reason = "noun spans count UTF-16 units, not characters: they are moved accordingly"
    else:
        return None
    field_ = f"{reader.path}.noun_segments"
    return Problem(str(reader.file), record=reader.record, field=field_, reason=reason, kind="note")


def _parse_traces(reader: Reader, n_keyframes: int) -> tuple[tuple[TracePoint, ...], ...]:
    parts = []
    for index, part in enumerate(reader.items("traces", list)):
        points = []
        for position, raw in enumerate(part):
            child = Reader(raw, reader.file, reader.record, f"{reader.path}.traces[{index}][{position}]")
            point = TracePoint(
                float(child.get("x", float)),
                float(child.get("y", float)),
                child.get("time_ms_since_epoch", int),
                child.get("kf_idx", int),
            )
            if not 0 <= point.kf_idx < n_keyframes:
                raise child.error("kf_idx", f"there is no key frame {point.kf_idx}: the video has {n_keyframes}")
            points.append(point)
        parts.append(tuple(points))
    return tuple(parts)


def _parse_word(reader: Reader, caption: str) -> AlignedWord:
    start, end = reader.get("referenced_word_start_idx", int), reader.get("referenced_word_end_idx", int)
    word = reader.get("referenced_word", str)
    moved = tuple(_by_unit(caption)(edge) for edge in (start, end))
    if caption[start:end] != word == caption[moved[0] : moved[1]]:  # offsets in UTF-16 units
        start, end = moved
    try:
        check_span(caption, start, end)
    except ValueError as error:
        raise reader.error("referenced_word_start_idx", str(error)) from error
    return AlignedWord(word, start, end, reader.get("start_ms", int), reader.get("end_ms", int))


def as_json(video: VidLN) -> dict[str, Any]:
    """The publisher's JSON object of one video."""
    return {
        "vidln_id": video.vidln_id,
        "dataset_id": video.dataset_id,
        "video_id": video.video_id,
        "annotator_id": video.annotator_id,
        "keyframe_names": list(video.keyframe_names),
        "actor_narratives": [_narrative_json(narrative) for narrative in video.narratives],
    }


def _narrative_json(narrative: ActorNarrative) -> dict[str, Any]:
    return {
        "actor_name": narrative.actor_name,
        "keyframe_selection_indices": list(narrative.keyframe_selection_indices),
        "recording_start_time_ms_since_epoch": narrative.recording_start_ms,
        "traces_start_time_ms_since_epoch": narrative.traces_start_ms,
        "caption": narrative.caption,
        "traces": [
            [{"x": p.x, "y": p.y, "time_ms_since_epoch": p.time_ms, "kf_idx": p.kf_idx} for p in part]
            for part in narrative.traces
        ],
        "noun_segments": [list(span) for span in narrative.noun_segments],
        "time_alignment": [
            {
                "start_ms": word.start_ms,
                "end_ms": word.end_ms,
                "referenced_word": word.word,
                "referenced_word_start_idx": word.start,
                "referenced_word_end_idx": word.end,
            }
            for word in narrative.time_alignment
        ],
        "recording_filename": narrative.recording_filename,
    }


Trace = tuple[tuple[TracePoint, ...], ...]


def trace_segment(narrative: ActorNarrative, start: int, end: int) -> Trace:
    """The part of the mouse trace drawn while caption[start:end] was spoken.

    From the start of the first overlapping word to the start of the word after the last one (both included); a trace
    that leaves the interval and returns is cut into parts.

    Returns:
        Parts of one or more TracePoints in time order; empty where no word of the span is aligned or nothing was drawn.
    """
    words = sorted(narrative.time_alignment, key=lambda word: word.start_ms)
    matching = [i for i, word in enumerate(words) if min(end, word.end) > max(start, word.start)]
    if not matching:
        return ()
    last = matching[-1]
    stop = words[last + 1].start_ms if last + 1 < len(words) else words[last].end_ms + _FOREVER_MS
    begin = narrative.recording_start_ms + words[matching[0]].start_ms
    return _split(narrative.traces, lambda point: begin <= point.time_ms <= narrative.recording_start_ms + stop)


def _split(traces: Trace, keep: Any) -> Trace:
    parts: list[tuple[TracePoint, ...]] = []
    for part in traces:
        current: list[TracePoint] = []
        for point in part:
            if keep(point):
                current.append(point)
            elif current:
                parts.append(tuple(current))
                current = []
        if current:
            parts.append(tuple(current))
    return tuple(parts)


def by_keyframe(segment: Trace) -> dict[int, np.ndarray]:
    """Key frame index -> float64 [P, 2] normalised (x, y) of the segment's points on it, in time order."""
    positions: dict[int, list[tuple[float, float]]] = {}
    for part in segment:
        for point in part:
            positions.setdefault(point.kf_idx, []).append((point.x, point.y))
    return {index: np.asarray(xy) for index, xy in sorted(positions.items())}


def best_keyframe(positions: Mapping[int, np.ndarray]) -> int | None:
    """The frame on which a trace covers the largest area (Point-VOS, Sec. 3.2); None without frames.

    Args:
        positions: frame index -> float [P, 2], as from `by_keyframe`; in any unit that is the same for all frames.

    The area is that of the bounding box of a frame's points; ties go to the earlier frame.
    """
    boxes = {index: np.ptp(xy, axis=0).prod() for index, xy in positions.items()}
    return max(boxes, key=lambda index: (boxes[index], -index)) if boxes else None
