"""Nouns of a caption, and links from annotated objects to the nouns that mean them.

Nouns come from a spaCy pipeline where one is named or installed, from VidLN's own `noun_segments` otherwise. A
Point-VOS record has only the name of its object; where several nouns have that name, the mouse trace over each noun is
compared with the record's points. Ambiguous cases are reported, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from conversion.formats.point_vos import PointRecord
from conversion.formats.vidln import ActorNarrative, VidLN, by_keyframe, trace_segment
from vng.errors import Problem, UsageError
from vng.frames import frame_number
from vng.narratives import DEFAULT_PIPELINE, load_pipeline, spacy_nouns
from vng.points import NEGATIVE, POSITIVE

NounFinder = Callable[[ActorNarrative], list[tuple[int, int]]]

# A trace links a noun to a record only when at least half of the trace supports the record, and clearly more of it than
# supports any other record of the same name.
LEAST_SUPPORT, LEAST_MARGIN = 0.5, 0.2


@dataclass(frozen=True)
class NounSource:
    """A source of nouns: `find` returns the spans of a narrative, `name` goes into the manifest."""

    name: str
    find: NounFinder


def noun_source(choice: str = "auto") -> NounSource:
    """Returns the source of nouns for "auto", "noun_segments", or the name or path of a spaCy pipeline.

    "auto" takes spaCy's small English pipeline where it is installed and `noun_segments` otherwise. Raises UsageError
    for a pipeline that is not installed.
    """
    if choice == "noun_segments":
        return NounSource(choice, lambda narrative: list(narrative.noun_segments))
    try:
        pipeline = load_pipeline(DEFAULT_PIPELINE if choice == "auto" else choice)
    except OSError as error:
        if choice == "auto":
            return noun_source("noun_segments")
        cure = f"python -m spacy download {choice}, give a path, or use --nouns noun_segments"
        raise UsageError(f"spaCy pipeline {choice!r} is not installed; {cure}") from error
    meta = pipeline.meta
    name = f"spacy:{meta.get('lang', '')}_{meta.get('name', '')}-{meta.get('version', '')}"
    return NounSource(name, lambda narrative: spacy_nouns(pipeline(narrative.caption)))


@dataclass(frozen=True)
class Noun:
    """One noun of a video's narratives."""

    narrative: int
    start: int
    end: int


@dataclass(frozen=True)
class Link:
    """A record linked to a noun; `how` is "name", "name+trace" or "question"."""

    record: int
    noun: Noun
    how: str


def nouns_of(video: VidLN, source: NounSource) -> list[Noun]:
    """All nouns of a video's narratives, in order."""
    return [
        Noun(index, start, end)
        for index, narrative in enumerate(video.narratives)
        for start, end in dict.fromkeys(source.find(narrative))
    ]


def name_fits(name: str, caption: str, noun: Noun) -> int:
    """How well a name fits a noun: 2 when the caption has the whole name there ("baby girl"), 1 when the head noun is
    the same ("girl"), 0 otherwise. Plural and singular do not match."""
    words, before = _words(name), _words(caption[: noun.end])
    if before[-len(words) :] == words:
        return 2
    return 1 if words[-1] == _words(caption[noun.start : noun.end])[-1:][0] else 0


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower()) or [""]


def link_records(
    video: VidLN,
    records: Sequence[PointRecord],
    source: NounSource,
    size: tuple[int, int],
    n_frames: int,
    use_trace: bool = True,
) -> tuple[list[Link], dict[int, Problem]]:
    """Link the records of one video to its nouns.

    A record whose name fits one noun, which no other record claims, is linked by name. Where several nouns or records
    have the name, each noun goes to the record that its trace supports; a record may get several nouns, since an object
    can be mentioned several times. Records without a noun are reported.

    Args:
        video: the narratives. records: its Point-VOS records. source: the source of nouns.
        size: (height, width) of the frames the points are in.
        n_frames: length of the video, which sets how close key frames and annotated frames must be.
        use_trace: False links by name alone.

    Returns:
        the links, and for each other record (by index) the reason.
    """
    nouns = nouns_of(video, source)
    fits = np.array(
        [[name_fits(r.object_name, video.narratives[n.narrative].caption, n) for n in nouns] for r in records]
    ).reshape(len(records), len(nouns))
    best = fits.max(1, initial=0)
    candidates = (fits > 0) & (fits == best[:, None])  # [records, nouns]
    links: list[Link] = []
    reasons: dict[int, Problem] = {}
    for index, record in enumerate(records):
        own = np.flatnonzero(candidates[index])
        if not len(own):
            reasons[index] = _problem(record, f"no noun of the narratives is called {record.object_name!r}")
        elif len(own) == 1 and candidates[:, own[0]].sum() == 1:
            links.append(Link(index, nouns[own[0]], "name"))
        elif use_trace:
            won = [j for j in own if _winner(video, records, nouns[j], candidates[:, j], size, n_frames) == index]
            links += [Link(index, nouns[j], "name+trace") for j in won]
            if not won:
                reasons[index] = _several(record, records, candidates, own, "and no mouse trace decides between them")
        else:
            reasons[index] = _several(record, records, candidates, own, "and mouse traces are not used")
    return links, reasons


def _several(
    record: PointRecord, records: Sequence[PointRecord], candidates: np.ndarray, own: np.ndarray, why: str
) -> Problem:
    rivals = int(candidates[:, own].any(1).sum())
    reason = f"{len(own)} nouns and {rivals} records are called {record.object_name!r}, {why}"
    return _problem(record, reason, "use distinct names in object_name, or leave this record out")


def _problem(record: PointRecord, reason: str, cure: str = "check object_name against the narratives") -> Problem:
    return record.problem("object_name", reason, cure)


def _winner(
    video: VidLN,
    records: Sequence[PointRecord],
    noun: Noun,
    claims: np.ndarray,
    size: tuple[int, int],
    n_frames: int,
) -> int | None:
    """The record that a noun's trace supports, or None."""
    support = {
        i: _support(video, records, int(i), np.flatnonzero(claims), noun, size, n_frames)
        for i in np.flatnonzero(claims)
    }
    shares = {i: value for i, value in support.items() if value is not None}
    if not shares:
        return None
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    rival = ranked[1][1] if len(ranked) > 1 else 0.0
    winner, share = ranked[0]
    return int(winner) if share >= LEAST_SUPPORT and share - rival >= LEAST_MARGIN else None


def _support(
    video: VidLN,
    records: Sequence[PointRecord],
    index: int,
    claimants: np.ndarray,
    noun: Noun,
    size: tuple[int, int],
    n_frames: int,
) -> float | None:
    """Share of a noun's trace points that are nearer to a positive of record `index` than to any point off its object.

    Points off its object are the record's negatives and the positives of the other claimants. Only key frames near an
    annotated frame count; None where there is none, or no trace.
    """
    segment = trace_segment(video.narratives[noun.narrative], noun.start, noun.end)
    near, total = 0, 0
    for key, xy in by_keyframe(segment).items():
        frame = frame_number(video.keyframe_names[key])
        own = _points_near(records[index], frame, n_frames)
        if frame is None or own is None:
            continue
        others = [_points_near(records[i], frame, n_frames) for i in claimants if i != index]
        wrong = [own[NEGATIVE]] + [other[POSITIVE] for other in others if other is not None]
        trace = xy * np.array([size[1], size[0]]) - 0.5
        to_own, to_wrong = _distance(trace, own[POSITIVE]), _distance(trace, np.concatenate(wrong))
        near += int((to_own < to_wrong).sum())
        total += len(trace)
    return near / total if total else None


def _points_near(record: PointRecord, frame: int | None, n_frames: int) -> dict[int, np.ndarray] | None:
    """The record's points by label in its annotated frame nearest to `frame`; None where that is too far in time."""
    numbers = {p.frame_id: frame_number(p.frame_id) for p in record.points if p.frame_id is not None}
    frame_numbers = {name: number for name, number in numbers.items() if number is not None}
    if frame is None or not frame_numbers:
        return None
    nearest = min(frame_numbers, key=lambda name: abs(frame_numbers[name] - frame))
    if abs(frame_numbers[nearest] - frame) > max(1, n_frames // 20):
        return None
    return {
        label: np.array([(p.x, p.y) for p in record.points if p.frame_id == nearest and p.label == label]).reshape(
            -1, 2
        )
        for label in (POSITIVE, NEGATIVE)
    }


def _distance(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if not len(targets):
        return np.full(len(points), np.inf)
    return np.linalg.norm(points[:, None] - targets[None], axis=-1).min(1)
