"""VidLN's location questions (Oops-QA): the mouse traces that Point-VOS's annotators of Oops were shown.

A record of Point-VOS and a question share `question_hash` (Point-VOS, Sec. 3.3 and App. B). The question has the trace
and its frame. The trace is a piece of a narrative's trace, drawn while a noun was spoken: the noun whose segment it
covers is the object's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from conversion.formats.points import read_points
from conversion.formats.vidln import VidLN, by_keyframe, trace_segment
from conversion.linking import Link, Noun, NounSource, nouns_of
from vng.errors import DataError, Problem
from vng.evaluation.traces import read_questions
from vng.frames import frame_number
from vng.masks import RLE, decode, from_json

LINK = "question"  # how a record was linked, in a dataset's quality
LEAST_OVERLAP = 0.5  # share of a noun's trace that a question's trace must cover
REACH = 0.01  # of the frame's diagonal: a question's trace is drawn as a thin line


@dataclass(frozen=True)
class Question:
    """One location question."""

    video: str
    frame: str  # name of the frame with the trace
    trace: RLE | None


@dataclass(frozen=True)
class Questions:
    """The questions of a published file, by hash."""

    path: Path

    @cached_property
    def by_hash(self) -> Mapping[str, Question]:
        """Hash -> question; raises DataError for another kind of file, and for a hash that repeats."""
        table: dict[str, Question] = {}
        for video, item in read_questions(self.path):
            key = str(item["question_hash"])
            try:
                trace = from_json(item["trace"])
            except ValueError as error:
                raise DataError(self.path, record=f"{video}: {key}", field="trace", reason=str(error)) from error
            question = Question(video, str(item["trace_frame"]).removesuffix(".png"), trace)
            if table.setdefault(key, question) != question:
                reason = "two questions have this hash"
                raise DataError(self.path, record=f"{video}: {key}", field="question_hash", reason=reason)
        return table

    def trace_frames(self, points: Path) -> dict[str, str]:
        """Key of each record of a Point-VOS file -> the frame of its question's trace; records without are left out."""
        hashes = ((record.key, record.question_hash) for record in read_points(points, lambda problem: None))
        return {key: self.by_hash[name].frame for key, name in hashes if name is not None and name in self.by_hash}

    def links(
        self, video: VidLN, hashes: Sequence[str | None], source: NounSource
    ) -> tuple[list[Link], dict[int, Problem]]:
        """Link records of one video, given by their hashes, to the nouns of its narratives.

        Returns:
            the links, and for each other record (by index) the reason.
        """
        nouns, links, problems = nouns_of(video, source), list[Link](), dict[int, Problem]()
        for index, name in enumerate(hashes):
            question = None if name is None else self.by_hash.get(name)
            if question is None:
                problems[index] = video.problem("question_hash", f"no question {name!r} in {self.path}")
                continue
            noun = _noun_of(video, nouns, question)
            if noun is None:
                problems[index] = video.problem("trace", f"the trace of question {name!r} lies on no noun's trace")
            else:
                links.append(Link(index, noun, LINK))
        return links, problems


def _noun_of(video: VidLN, nouns: Sequence[Noun], question: Question) -> Noun | None:
    """The noun whose trace segment a question's trace covers; None where it covers none by half.

    The overlap is the smaller of two shares: of the segment's points on the trace, and of the trace's pixels near the
    segment.
    """
    if question.trace is None:
        return None
    pixels = decode(question.trace)
    height, width = pixels.shape
    reach = max(2, round(REACH * float(np.hypot(height, width))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near = cv2.dilate(pixels.astype(np.uint8), disc) > 0
    overlaps = []
    for noun in nouns:
        segment = trace_segment(video.narratives[noun.narrative], noun.start, noun.end)
        own = [xy for key, xy in by_keyframe(segment).items() if _same(video.keyframe_names[key], question.frame)]
        if not own:
            overlaps.append(0.0)
            continue
        xy = np.concatenate(own) * (width, height) - 0.5
        columns, rows = np.clip(np.round(xy).astype(int), 0, (width - 1, height - 1)).T
        line = np.zeros(pixels.shape, np.uint8)
        cv2.polylines(line, [np.stack([columns, rows], 1).astype(np.int32)], False, 1, 2 * reach + 1)
        covered = (line.astype(bool) & pixels).sum() / max(1, pixels.sum())
        overlaps.append(min(float(near[rows, columns].mean()), float(covered)))
    best = int(np.argmax(overlaps)) if overlaps else 0
    return nouns[best] if overlaps and overlaps[best] >= LEAST_OVERLAP else None


def _same(first: str, second: str) -> bool:
    """Whether two names are of one frame: equal, or of one number."""
    numbers = frame_number(first), frame_number(second)
    return first == second or (numbers[0] is not None and numbers[0] == numbers[1])
