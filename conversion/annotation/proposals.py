"""Candidate points of whole videos: a rough place -> a mask -> probability maps of all frames -> candidates.

Point-VOS, Sec. 3.2: a mouse trace, points, a box or a mask of some frame is where an object begins; a segmenter makes a
mask of it, a propagator carries it through the video, and candidates are drawn from its soft maps of ten frames.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conversion.annotation.candidates import (
    BACKGROUND,
    FOREGROUND,
    UNCERTAIN,
    Candidate,
    CandidateSettings,
    candidates_of,
)
from conversion.annotation.passes import passes_of
from conversion.options import Engines
from conversion.pseudo_masks import PointedObject, mask_prompts, segment_points
from vng.dataset import read_expressions, read_narratives
from vng.errors import PROBLEMS_FILE, DataError, Problem, as_lines
from vng.frames import Frames, evenly_spaced, inside
from vng.manifest import check_folder, check_same, claim_folder, to_json, versions, write_atomic
from vng.masks import RLE, area, decode, from_json
from vng.narratives import Expression, Narrative
from vng.records import Reader
from vng.text_files import load_json

VIDEOS, MANIFEST = "videos", "manifest.json"
SHOWN_ORDER = (FOREGROUND, BACKGROUND, UNCERTAIN)  # in which a person is asked (App. B)


@dataclass(frozen=True, kw_only=True)
class ProposedObject:
    """One object with its candidates, in the order in which a person is asked."""

    object_id: str
    name: str
    rough_frame: int  # where the object was found
    rough_mask: RLE
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, kw_only=True)
class ProposedVideo:
    """The candidates of one video."""

    video_id: str
    video: str  # its path, as the annotations have it
    split: str
    frame_names: tuple[str, ...]
    narratives: tuple[Narrative, ...] = ()
    expressions: tuple[Expression, ...] = ()
    objects: tuple[ProposedObject, ...] = ()
    problems: tuple[Problem, ...] = ()  # met in it


def propose(
    frames: Frames, objects: Sequence[PointedObject], engines: Engines, settings: CandidateSettings
) -> tuple[ProposedObject, ...]:
    """The candidates of all objects of a video; objects that the segmenter does not find are left out.

    The video is propagated from the frame where an object begins, forwards and backwards; objects that begin there on
    other pixels share the pass (`passes_of`). Of the probability maps, only those of the annotated frames are looked
    at, one frame at a time. An object's candidates are drawn with the seed and its id.

    Raises:
        DataError: there is no propagator, or a point outside its frame.
    """
    if engines.propagator is None:
        raise DataError(frames.source, reason="candidates need a propagator", cure="give one with --propagator")
    rles = segment_points(frames, objects, engines.segmenter)
    starts = {k: t for k, row in enumerate(rles) if (t := _first_seen(row)) is not None}
    found = list(starts)
    if not found:
        return ()
    chosen = set(evenly_spaced(range(len(frames)), settings.frames))
    drawn: dict[int, list[Candidate]] = {k: [] for k in found}
    for own in passes_of(starts, {k: _decoded(rles[k][t]) for k, t in starts.items()}):
        for t, probabilities in engines.propagator(frames, mask_prompts([rles[k] for k in own])):
            for k, probability in zip(own, probabilities, strict=True) if t in chosen else ():
                seed = [settings.seed, zlib.crc32(objects[k].object_id.encode()), t]
                drawn[k] += candidates_of(probability, t, settings, np.random.default_rng(seed))
    proposed = []
    for k in found:
        rough = rles[k][starts[k]]
        assert rough is not None
        order = sorted(drawn[k], key=lambda candidate: (SHOWN_ORDER.index(candidate.kind), candidate.frame))
        proposed.append(
            ProposedObject(
                object_id=objects[k].object_id,
                name=objects[k].name,
                rough_frame=starts[k],
                rough_mask=rough,
                candidates=tuple(order),
            )
        )
    return tuple(proposed)


def _first_seen(row: Sequence[RLE | None]) -> int | None:
    """The first frame with a mask that is not empty."""
    return next((t for t, rle in enumerate(row) if rle is not None and area(rle)), None)


def _decoded(rle: RLE | None) -> np.ndarray:
    assert rle is not None
    return decode(rle).astype(bool)


class ProposalFolder:
    """A folder of candidates: `videos/<id>.json`, and a manifest with engines, thresholds and settings.

    Each video's file is written at once or not at all, so that an interrupted run goes on with the next one.

    Raises:
        DataError: the folder holds candidates of other settings, or another run writes there.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        check_folder(folder)
        if settings is None:
            if not (folder / MANIFEST).is_file():
                raise DataError(folder, reason="no candidates in this folder", cure="run `vng annotate propose`")
            return
        claim_folder(folder)
        check_same(folder / MANIFEST, dict(settings), folder)
        write_atomic(folder / MANIFEST, to_json({"settings": dict(settings), "versions": versions()}))

    def _file(self, video_id: str) -> Path:
        return inside(self.folder / VIDEOS, f"{video_id}.json")

    def done(self, video_id: str) -> bool:
        """Whether the candidates of a video are there."""
        return self._file(video_id).is_file()

    def write(self, video: ProposedVideo) -> None:
        """Write the candidates of a video."""
        path = self._file(video.video_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(_as_json(video), ensure_ascii=False) + "\n")

    def write_problems(self, problems: Sequence[Problem]) -> None:
        """Write what could not be used."""
        write_atomic(self.folder / PROBLEMS_FILE, as_lines(problems))

    def __iter__(self) -> Iterator[ProposedVideo]:
        """The videos, by name; raises DataError for a file that is damaged."""
        for path in sorted((self.folder / VIDEOS).rglob("*.json")):
            yield _from_json(Reader(load_json(path), path, path.stem))

    def read(self, video_id: str) -> ProposedVideo:
        """The candidates of a video; raises DataError for a file that is damaged."""
        path = self._file(video_id)
        return _from_json(Reader(load_json(path), path, video_id))


def _as_json(video: ProposedVideo) -> dict[str, Any]:
    value = asdict(video)
    value["objects"] = [
        {
            "object_id": item.object_id,
            "name": item.name,
            "rough": {"frame": item.rough_frame, "segmentation": item.rough_mask.as_dict()},
            "candidates": [[c.frame, c.x, c.y, c.kind, round(c.probability, 4)] for c in item.candidates],
        }
        for item in video.objects
    ]
    return value


def _from_json(reader: Reader) -> ProposedVideo:
    names = tuple(reader.items("frame_names", str))
    return ProposedVideo(
        video_id=reader.get("video_id", str),
        video=reader.get("video", str),
        split=reader.get("split", str),
        frame_names=names,
        narratives=read_narratives(reader),
        expressions=read_expressions(reader),
        objects=tuple(_object(child, len(names)) for child in reader.children("objects")),
        problems=tuple(_problem(child) for child in reader.children("problems")),
    )


def _problem(reader: Reader) -> Problem:
    texts = {name: reader.get(name, str) for name in ("file", "record", "field", "reason", "cure", "kind")}
    return Problem(**texts)


def _object(reader: Reader, frames: int) -> ProposedObject:
    rough = reader.child("rough")
    try:
        mask = from_json(rough.get("segmentation", dict))
    except ValueError as error:
        raise rough.error("segmentation", str(error)) from error
    assert mask is not None
    if not 0 <= (frame := rough.get("frame", int)) < frames:
        raise rough.error("frame", f"frame {frame} of {frames}")
    rows = enumerate(reader.get("candidates", list))
    return ProposedObject(
        object_id=reader.get("object_id", str),
        name=reader.get("name", str),
        rough_frame=frame,
        rough_mask=mask,
        candidates=tuple(_candidate(reader, i, row, frames, mask.size) for i, row in rows),
    )


def _candidate(reader: Reader, index: int, row: Any, frames: int, size: tuple[int, int]) -> Candidate:
    keys = ("frame", "x", "y", "kind", "probability")
    if not isinstance(row, list) or len(row) != len(keys):
        raise reader.error(f"candidates[{index}]", f"expected [{', '.join(keys)}]")
    child = Reader(dict(zip(keys, row, strict=True)), reader.file, reader.record, f"candidates[{index}]")
    kind, frame = child.get("kind", str), child.get("frame", int)
    if kind not in SHOWN_ORDER or not 0 <= frame < frames:
        raise child.error("", f"expected a frame below {frames} and a kind of {', '.join(SHOWN_ORDER)}, got {row}")
    x, y, probability = (float(child.get(key, float)) for key in ("x", "y", "probability"))
    if not (0 <= x <= size[1] - 1 and 0 <= y <= size[0] - 1):
        raise child.error("x, y", f"({x:g}, {y:g}) is outside the frame of {size[1]}x{size[0]} pixels")
    return Candidate(frame=frame, x=x, y=y, kind=kind, probability=probability)
