"""An annotation project: clips put into a database, their frames, and what is known of them as an own clip."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
from tqdm import tqdm

from conversion.annotation.database import Database
from conversion.annotation.proposals import ProposalFolder, ProposedVideo
from conversion.formats.own_clips import open_clip
from vng.errors import DataError, DataErrors, Problem
from vng.frames import Frames, open_frames, visible_files
from vng.frames.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vng.masks import RLE, area, from_json
from vng.narratives import Expression, Narrative, link, parse_linked
from vng.own_clips import (
    ClipBox,
    ClipMask,
    ClipObject,
    ClipPoint,
    LocatedObject,
    OwnClip,
    locate,
    read_own_clips,
)


@dataclass(frozen=True, kw_only=True)
class ClipRow:
    """One clip of a project."""

    clip: int
    video_id: str
    video: str  # relative to `root`
    root: Path
    split: str
    size: tuple[int, int]  # (height, width)
    fps: float
    names: tuple[str, ...]  # of its frames
    reason: str  # why it does not open; "" where it does


class Project:
    """The clips of a database.

    Args:
        database: the open database.
        progress: whether to show a progress bar while clips are opened.
    """

    def __init__(self, database: Database, progress: bool = False) -> None:
        self.database, self.progress = database, progress

    def clip(self, clip: int) -> ClipRow:
        """A clip; raises DataError where there is none."""
        row = self.database.one("SELECT * FROM clips WHERE clip = ?", clip)
        if row is None:
            raise DataError(self.database.path, record=f"clip {clip}", reason="there is no such clip")
        return ClipRow(
            clip=clip,
            video_id=row["video_id"],
            video=row["video"],
            root=Path(row["root"]),
            split=row["split"],
            size=(row["height"], row["width"]),
            fps=row["fps"],
            names=tuple(json.loads(row["names"])),
            reason=row["reason"],
        )

    def frames(self, clip: int) -> Frames:
        """The frames of a clip, newly opened; raises DataError where that is not possible any more."""
        row = self.clip(clip)
        if row.reason:
            raise DataError(row.root / row.video, reason=row.reason)
        frames = open_frames(row.root / row.video)
        if tuple(frames.names) != row.names:
            reason = f"has other frames than when it was added ({len(frames)}, there were {len(row.names)})"
            raise DataError(row.root / row.video, reason=reason, cure="put the old file back, or begin a new database")
        return frames

    def add_clips(self, path: Path, root: Path | None = None) -> list[Problem]:
        """Add own clips; those whose id is in the database already are left as they are there.

        Returns:
            The mistakes. A clip with mistakes or without a video is added with its reason, where it has a name.
        """
        problems: list[Problem] = []
        root = path.parent if root is None else root
        for clip in self._bar(list(read_own_clips(path, problems.append))):
            if not self._known(clip.video_id):
                problems += self._add_clip(clip, root)
        return problems

    def _add_clip(self, clip: OwnClip, root: Path) -> list[Problem]:
        try:
            frames = open_clip(clip, root)
            located, notes = locate(clip, frames)
        except DataErrors as errors:
            self._insert(clip, root, None, (), "; ".join(str(problem) for problem in errors.problems))
            return errors.problems
        except (DataError, OSError) as error:
            self._insert(clip, root, None, (), str(error))
            return [error.problem] if isinstance(error, DataError) else [Problem(clip.video, reason=str(error))]
        path = Path(frames.source)
        clip = replace(clip, video=os.path.relpath(path, root))
        self._insert(clip, root, frames, located, "")
        return notes

    def add_videos(self, path: Path) -> list[Problem]:
        """Add a video, or the videos and folders of frames of a folder; those that are there already are left.

        Raises:
            DataError: there is no video.
        """
        path = path.resolve()
        videos = list(_videos(path)) if path.exists() else []
        if not videos:
            raise DataError(path, reason="no video and no folder of frames here", cure="check the path")
        problems = []
        stems = [video.stem for video in videos]
        for video in self._bar(videos):
            video_id = video.stem if stems.count(video.stem) == 1 else video.name
            clip = OwnClip(video=video.name, video_id=video_id, file=path)
            if not self._known(clip.video_id):
                problems += self._add_clip(clip, video.parent)
        return problems

    def add_candidates(self, folder: Path, root: Path, repeat: float = 0.0, seed: int = 0) -> list[Problem]:
        """Add the candidates of `vng annotate propose` as tasks; objects that have tasks already are left as they are.

        Args:
            folder: of the candidates.
            root: of the videos.
            repeat: share of the objects that two people verify.
            seed: of the choice of these.
        """
        problems: list[Problem] = []
        proposals = ProposalFolder(folder)
        for video in self._bar(proposals):
            problems += self._add_proposed(video, root, repeat, seed)
        return problems

    def _add_proposed(self, video: ProposedVideo, root: Path, repeat: float, seed: int) -> list[Problem]:
        problems: list[Problem] = []
        if not self._known(video.video_id):
            objects = tuple(ClipObject(object_id=item.object_id, name=item.name) for item in video.objects)
            clip = OwnClip(
                video=video.video,
                video_id=video.video_id,
                split=video.split,
                narratives=video.narratives,
                expressions=video.expressions,
                objects=objects,
                record=video.video_id,
                file=root,
            )
            problems += self._add_clip(clip, root)
        row = self.database.one("SELECT clip FROM clips WHERE video_id = ?", video.video_id)
        assert row is not None
        clip_row = self.clip(row["clip"])
        if not clip_row.reason and clip_row.names != video.frame_names:
            reason = f"has {len(clip_row.names)} frames, its candidates are of {len(video.frame_names)}: left out"
            problems.append(Problem(str(root / video.video), reason=reason, cure="propose again with these frames"))
        elif not clip_row.reason:
            with self.database.writing() as connection:
                _insert_narratives(connection, clip_row.clip, video.narratives, video.expressions)
                for item in video.objects:
                    _insert_task(connection, clip_row, item, repeat, seed)
        return problems

    def _known(self, video_id: str) -> bool:
        return self.database.one("SELECT 1 FROM clips WHERE video_id = ?", video_id) is not None

    def _bar(self, items: Any) -> Any:
        return tqdm(items, desc="open", unit="video", disable=not self.progress)

    def _insert(
        self, clip: OwnClip, root: Path, frames: Frames | None, located: Sequence[LocatedObject], reason: str
    ) -> None:
        height, width = (0, 0) if frames is None else frames.size
        names = [] if frames is None else list(frames.names)
        fps = 0.0 if frames is None else frames.fps
        values = (clip.video_id, clip.video, str(root.resolve()), clip.split, len(names), height, width, fps)
        with self.database.writing() as connection:
            sql = (
                "INSERT INTO clips (video_id, video, root, split, frames, height, width, fps, names, reason) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            )
            key = connection.execute(sql, (*values, json.dumps(names), reason)).lastrowid
            _insert_narratives(connection, key, clip.narratives, clip.expressions)
            places = {item.object_id: item for item in located}
            for item in clip.objects:
                _insert_object(connection, key, item, places.get(item.object_id))

    def own_clip(self, clip: int, points: Mapping[int, Iterable[ClipPoint]] | None = None) -> OwnClip:
        """A clip of the database as an own clip; frames are indices.

        Args:
            clip: which.
            points: more points by object, such as the verified ones.
        """
        row = self.clip(clip)
        narratives, expressions = self.narratives(clip)
        objects = []
        sql = "SELECT * FROM objects WHERE clip = ? ORDER BY object"
        for item in self.database.rows(sql, clip):
            more = tuple((points or {}).get(item["object"], ()))
            objects.append(self._object(item, more))
        return OwnClip(
            video=row.video,
            video_id=row.video_id,
            split=row.split,
            narratives=narratives,
            expressions=expressions,
            objects=tuple(objects),
            file=row.root / "clips.jsonl",
            record=row.video_id,
        )

    def narratives(self, clip: int) -> tuple[tuple[Narrative, ...], tuple[Expression, ...]]:
        """The narratives of a clip, and their nouns."""
        narratives, expressions = [], []
        sql = "SELECT actor, text FROM narratives WHERE clip = ? ORDER BY position"
        for position, row in enumerate(self.database.rows(sql, clip)):
            description, nouns = parse_linked(row["text"])
            narratives.append(Narrative(row["actor"], description))
            expressions += [Expression(position, start, end, own) for start, end, own in nouns]
        return tuple(narratives), tuple(expressions)

    def _object(self, item: Any, more: tuple[ClipPoint, ...]) -> ClipObject:
        key, given = item["object"], json.loads(item["given"])
        clicks = self.database.rows("SELECT * FROM clicks WHERE object = ? ORDER BY click", key)
        points = tuple(ClipPoint(frame=c["frame"], x=c["x"], y=c["y"], label=c["label"]) for c in clicks)
        absent = self.database.rows("SELECT frame FROM absent WHERE object = ? ORDER BY frame", key)
        masks = [ClipMask(frame=int(t), mask=from_json(value)) for t, value in given["masks"].items()]
        masks += [ClipMask(frame=row["frame"], mask=None) for row in absent]
        boxes = tuple(ClipBox(frame=int(t), corners=tuple(box)) for t, box in given["boxes"].items())
        return ClipObject(
            object_id=item["object_id"], name=item["name"], points=points + more, boxes=boxes, masks=tuple(masks)
        )


def _linked(description: str, nouns: list[tuple[int, int, str]]) -> str:
    """A description in mark-up; of spans that overlap, the first is kept."""
    kept: list[tuple[int, int, str]] = []
    for start, end, own in sorted(nouns):
        if not kept or start >= kept[-1][1] or (start, end) == kept[-1][:2]:
            kept.append((start, end, own))
    return link(description, kept)


def _insert_narratives(
    connection: Any, clip: int | None, narratives: Sequence[Narrative], expressions: Sequence[Expression]
) -> None:
    """The narratives of a clip that has none yet."""
    if connection.execute("SELECT 1 FROM narratives WHERE clip = ?", (clip,)).fetchone():
        return
    for position, narrative in enumerate(narratives):
        nouns = [(e.start, e.end, e.object_id) for e in expressions if e.narrative == position]
        row = (clip, position, narrative.actor_name, _linked(narrative.description, nouns))
        connection.execute("INSERT INTO narratives VALUES (?, ?, ?, ?)", row)


def _insert_object(connection: Any, clip: int | None, item: ClipObject, located: LocatedObject | None) -> None:
    masks: dict[int, RLE] = {} if located is None else dict(located.masks)
    given = {
        "boxes": {} if located is None else {str(t): [float(v) for v in box] for t, box in located.boxes.items()},
        "masks": {str(t): rle.as_dict() for t, rle in masks.items() if area(rle)},
    }
    sql = "INSERT INTO objects (clip, object_id, name, given) VALUES (?, ?, ?, ?)"
    key = connection.execute(sql, (clip, item.object_id, item.name, json.dumps(given))).lastrowid
    absent = [(key, t) for t, rle in masks.items() if not area(rle)]
    connection.executemany("INSERT INTO absent VALUES (?, ?)", absent)
    if located is not None:
        points = located.points
        rows = [
            (key, int(t), float(x), float(y), int(label), "", 0.0)
            for t, (x, y), label in zip(points.frame, points.xy, points.label, strict=True)
        ]
        sql = "INSERT INTO clicks (object, frame, x, y, label, annotator, time) VALUES (?, ?, ?, ?, ?, ?, ?)"
        connection.executemany(sql, rows)


def _insert_task(connection: Any, clip: ClipRow, item: Any, repeat: float, seed: int) -> None:
    """The candidates of a proposed object, with its readings."""
    find = "SELECT object FROM objects WHERE clip = ? AND object_id = ?"
    row = connection.execute(find, (clip.clip, item.object_id)).fetchone()
    if row is None:
        sql = "INSERT INTO objects (clip, object_id, name, given) VALUES (?, ?, ?, ?)"
        empty = json.dumps({"boxes": {}, "masks": {}})
        key = connection.execute(sql, (clip.clip, item.object_id, item.name, empty)).lastrowid
    else:
        key = row[0]
    if connection.execute("SELECT 1 FROM tasks WHERE object = ?", (key,)).fetchone() or not item.candidates:
        return
    rough = json.dumps(item.rough_mask.as_dict())
    sql = "UPDATE objects SET rough_frame = ?, rough_mask = ? WHERE object = ?"
    connection.execute(sql, (item.rough_frame, rough, key))
    sql = "INSERT INTO candidates (object, position, frame, x, y, kind) VALUES (?, ?, ?, ?, ?, ?)"
    rows = [(key, i, c.frame, c.x, c.y, c.kind) for i, c in enumerate(item.candidates)]
    connection.executemany(sql, rows)
    draw = np.random.default_rng([seed, zlib.crc32(f"{clip.video_id}/{item.object_id}".encode())]).random()
    for reading in range(1 + (draw < repeat)):
        sql = "INSERT INTO tasks (object, reading, annotator, questions) VALUES (?, ?, '', ?)"
        connection.execute(sql, (key, reading, len(item.candidates)))


def _videos(path: Path) -> Iterator[Path]:
    """The videos of a folder: files, and folders of frames; or the one that it is."""
    if not path.is_dir() or visible_files(path, IMAGE_SUFFIXES):
        yield path
        return
    folders = (entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    frames = [folder for folder in folders if visible_files(folder, IMAGE_SUFFIXES)]
    yield from sorted([*visible_files(path, VIDEO_SUFFIXES), *frames])


def free_id(number: int, taken: Iterable[str]) -> str:
    """A short id for the number-th object made in a clip, that is not taken: "a" to "z", "aa", ..."""
    used = set(taken)
    while True:
        name, rest = "", number
        while True:
            rest, digit = divmod(rest, len(ascii_lowercase))
            name = ascii_lowercase[digit] + name
            if not rest:
                break
            rest -= 1
        if name not in used:
            return name
        number += 1
