"""A video narrative with two nouns, its traces, and point records of it."""

from __future__ import annotations

from conversion.formats.point_vos import AnnotatedPoint, PointRecord
from conversion.formats.vidln import (
    ActorNarrative,
    AlignedWord,
    TracePoint,
    VidLN,
)

QUICK = ("--segmenter", "classical")  # where masks do not matter
CAPTION = "A red ball passes the other ball."
NOUNS = ((6, 10), (28, 32))


def narrative(traces: tuple = (), nouns: tuple = NOUNS) -> ActorNarrative:
    """Words of 100 ms each, 200 ms apart."""
    words, position = [], 0
    for index, word in enumerate(CAPTION.rstrip(".").split()):
        start = CAPTION.index(word, position)
        words.append(AlignedWord(word, start, start + len(word), 200 * index, 200 * index + 100))
        position = start + len(word)
    return ActorNarrative(
        actor_name="Ball",
        caption=CAPTION,
        keyframe_selection_indices=(0,),
        recording_start_ms=5000,
        traces_start_ms=5010,
        recording_filename="x.webm",
        traces=traces,
        noun_segments=nouns,
        time_alignment=tuple(words),
    )


def video(*narratives: ActorNarrative, name: str = "v") -> VidLN:
    return VidLN(
        vidln_id=3,
        dataset_id="toy",
        video_id=name,
        annotator_id=7,
        keyframe_names=("000000", "000002"),
        narratives=narratives,
        file="n.jsonl",
        line="line 1",
    )


def trace(word: int, x: float, y: float, key: int = 0, count: int = 4) -> tuple[TracePoint, ...]:
    return tuple(TracePoint(x + 0.01 * i, y, 5000 + 200 * word + 10 * i, key) for i in range(count))


def record(key: str, name: str, inside: tuple[float, float], outside: tuple[float, float] = (29, 19)) -> PointRecord:
    marks = tuple(
        AnnotatedPoint(x, y, frame, label)
        for frame in ("000000", "000002")
        for (x, y), label in ((inside, 1), (outside, 0))
    )
    return PointRecord(key=key, object_name=name, video_name="train/v", points=marks, file="p.json", place=key)
