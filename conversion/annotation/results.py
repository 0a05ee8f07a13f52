"""Results of annotation as files: own clips, or points in the form of Point-VOS.

Verified candidates become points. Where two people read an object, an answer that both gave counts; where they differ, the
point is ambiguous.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from conversion.annotation.candidates import BACKGROUND
from conversion.annotation.database import Database
from conversion.annotation.project import ClipRow, Project
from conversion.formats.jsonio import write_json_lines
from conversion.formats.point_vos import AnnotatedPoint, PointRecord, write_points
from vng.errors import DataError, Problem, one_of
from vng.own_clips import ClipMask, ClipPoint, OwnClip, clip_json
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE

OWN, POINT_VOS = "own", "point-vos"
FORMATS = (OWN, POINT_VOS)


def verified_points(database: Database, clip: int) -> dict[int, list[tuple[ClipPoint, bool]]]:
    """By object: the verified points of a clip, each with whether it was proposed as lying on the object."""
    rows = database.rows(
        "SELECT candidates.*, min(label) AS least, max(label) AS most FROM verdicts JOIN candidates USING (candidate) "
        "JOIN objects ON objects.object = candidates.object WHERE clip = ? GROUP BY candidate "
        "ORDER BY candidates.object, position",
        clip,
    )
    found: dict[int, list[tuple[ClipPoint, bool]]] = {}
    for row in rows:
        label = row["least"] if row["least"] == row["most"] else AMBIGUOUS
        point = ClipPoint(frame=row["frame"], x=row["x"], y=row["y"], label=label)
        found.setdefault(row["object"], []).append((point, row["kind"] != BACKGROUND))
    return found


def export_results(database: Database, out: Path, format: str = OWN) -> tuple[dict[str, int], list[Problem]]:
    """Write all clips that open; returns totals, and the clips that were left out.

    Args:
        database: of the project.
        out: the file to write, completely or not at all: .jsonl of own clips; .json or .jsonl of Point-VOS.
        format: "own" or "point-vos".

    Raises:
        UsageError: an unknown format. DataError: the file has another suffix, or there is nothing to write.
    """
    one_of(format, FORMATS, "format")
    wanted = (".jsonl",) if format == OWN else (".json", ".jsonl")
    if out.suffix not in wanted:
        raise DataError(out, reason=f"this format is written to {' or '.join(wanted)}", cure="name the file so")
    project = Project(database)
    totals = {"clips": 0, "objects": 0, "points": 0, "nouns": 0}
    problems: list[Problem] = []
    clips = [project.clip(row["clip"]) for row in database.rows("SELECT clip FROM clips ORDER BY video_id")]
    opened = [clip for clip in clips if not clip.reason]
    problems += [Problem(str(clip.root / clip.video), reason=clip.reason) for clip in clips if clip.reason]
    if not opened:
        raise DataError(database.path, reason="no clip that can be opened", cure="see the list on the page")
    if format == OWN:
        write_json_lines(_own(project, opened, out, totals), out)
    else:
        write_points(_records(project, opened, totals), out)
    return totals, problems


def frames_root(database: Database) -> Path:
    """The folder that the videos of all clips lie in."""
    roots = sorted({row["root"] for row in database.rows("SELECT root FROM clips")})
    return Path(os.path.commonpath(roots)) if roots else Path()


def _own(project: Project, clips: Iterable[ClipRow], out: Path, totals: dict[str, int]) -> Iterator[object]:
    # Relative to the file where the videos lie below it, so that no --frames is needed.
    root, folder = frames_root(project.database), out.parent.resolve()
    root = folder if root.is_relative_to(folder) else root
    for row in clips:
        points = verified_points(project.database, row.clip)
        clip = project.own_clip(row.clip, {key: [p for p, _ in own] for key, own in points.items()})
        clip = _without_twins(_with_absence(clip, rejected_frames(project.database, row.clip)))
        totals["clips"] += 1
        totals["nouns"] += len(clip.expressions)
        totals["objects"] += len(clip.objects)
        totals["points"] += sum(len(item.points) for item in clip.objects)
        yield clip_json(replace(clip, video=os.path.relpath(row.root / row.video, root)))


def rejected_frames(database: Database, clip: int) -> dict[str, set[int]]:
    """By id of the object: frames in which all candidates were answered, and none lies on the object; one was not unlikely."""
    rows = database.rows(
        "SELECT object_id, frame FROM candidates JOIN objects USING (object) LEFT JOIN verdicts USING (candidate) "
        "WHERE clip = ? GROUP BY object_id, frame HAVING count(label) = count(*) AND max(label != ?) = 0 "
        "AND max(kind != ?) = 1",
        clip,
        NEGATIVE,
        BACKGROUND,
    )
    found: dict[str, set[int]] = {}
    for row in rows:
        found.setdefault(row["object_id"], set()).add(row["frame"])
    return found


def _with_absence(clip: OwnClip, rejected: Mapping[str, set[int]]) -> OwnClip:
    """A clip that says where its objects are absent: in own clips, points off an object alone do not say so."""
    objects = []
    for item in clip.objects:
        there = {mask.frame for mask in item.masks} | {box.frame for box in item.boxes}
        there |= {point.frame for point in item.points if point.label == POSITIVE}
        absent = sorted(rejected.get(item.object_id, set()) - there)
        objects.append(replace(item, masks=item.masks + tuple(ClipMask(frame=t, mask=None) for t in absent)))
    return replace(clip, objects=tuple(objects))


def _without_twins(clip: OwnClip) -> OwnClip:
    """A clip with one point per pixel of an object: what a person clicked stands before what was verified."""
    objects = []
    for item in clip.objects:
        first: dict[tuple[object, int, int], ClipPoint] = {}
        for point in item.points:
            first.setdefault((point.frame, round(point.x), round(point.y)), point)
        objects.append(replace(item, points=tuple(first.values())))
    return replace(clip, objects=tuple(objects))


def _records(project: Project, clips: Iterable[ClipRow], totals: dict[str, int]) -> Iterator[PointRecord]:
    ids: dict[str, str] = {}
    for row in clips:
        verified = verified_points(project.database, row.clip)
        totals["clips"] += 1
        sql = "SELECT object, object_id, name FROM objects WHERE clip = ? ORDER BY object"
        for item in project.database.rows(sql, row.clip):
            clicked = project.database.rows("SELECT * FROM clicks WHERE object = ? ORDER BY click", item["object"])
            points = [AnnotatedPoint(c["x"], c["y"], row.names[c["frame"]], c["label"], True) for c in clicked]
            for point, likely in verified.get(item["object"], ()):
                points.append(AnnotatedPoint(point.x, point.y, row.names[int(point.frame)], point.label, likely))
            if not points:
                continue
            key = item["object_id"] if item["object_id"] not in ids else f"{row.video_id}/{item['object_id']}"
            ids[key] = row.video_id
            totals["objects"] += 1
            totals["points"] += len(points)
            name = f"{row.split or 'train'}/{row.video_id}"
            record = PointRecord(key=key, object_name=item["name"], video_name=name, points=tuple(points))
            yield record
