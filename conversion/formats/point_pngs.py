"""Point-VOS points as PNGs, in the publisher's layout; read and write.

    ROOT/Annotations/<object key>/<frame>.png   8 bits: 0 unlabelled, 1 negative, 2 positive, 255 ambiguous
    ROOT/objects.jsonl                          added by vng, one line per object:
                                                {key: {object_name, video_name, question, question_hash}}

`Annotations` has the layout of the publisher's extraction (idilesenzulfikar/PointVOS,
dataset_scripts/extract_frames.py), which omits ambiguous points by default; here they are always written.
`objects.jsonl` has what pixels cannot hold, and its presence means that an export is complete; without it, objects have
neither names nor videos.

Lost in PNGs: positions between pixels (rounded), `is_fg_candidate`, the order of points, points without a frame.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from conversion.export_formats import ExportResult, export_folder
from conversion.formats.jsonio import OnProblem, iterate_json_lines
from conversion.formats.point_vos import AnnotatedPoint, PointRecord
from vng.dataset import Video, VideoObject
from vng.errors import DataError, Problem
from vng.label_maps import read_label_map
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points
from vng.records import Reader

ANNOTATIONS, OBJECTS = "Annotations", "objects.jsonl"
LABEL_TO_VALUE = {NEGATIVE: 1, POSITIVE: 2, AMBIGUOUS: 255}
_VALUE_TO_LABEL = {value: label for label, value in LABEL_TO_VALUE.items()}
_COLOURS = {0: (0, 0, 0), 1: (255, 60, 60), 2: (60, 255, 90), 255: (255, 255, 255)}  # as in the overlays
_PALETTE = [channel for value in range(256) for channel in _COLOURS.get(value, (128, 128, 128))]


def write_point_pngs(videos: Iterable[Video], out: Path) -> ExportResult:
    """Write the verified points of a dataset's objects (mouse traces are not verified) into an empty folder.

    Points outside their frame, conflicting points on one pixel and ids that are not valid file names are left out and
    reported, also in `problems.jsonl` in `out`; equal points on one pixel and positions between pixels are notes.

    Raises DataError where `out` holds other files; an interrupted export starts again.
    """
    written_ids: set[str] = set()
    temporary = out / f"{OBJECTS}.tmp"
    with export_folder(out) as export, temporary.open("w", encoding="utf-8") as lines:
        export.totals = Counter(objects=0, frames=0, points=0)
        (out / ANNOTATIONS).mkdir(exist_ok=True)
        for video in videos:
            for item in video.objects:
                if len(item.points) and not item.source.startswith("trace/"):
                    fault = _key_fault(item.object_id, written_ids)
                    if fault:
                        export.problems.append(_problem(video, item, fault))
                        continue
                    written_ids.add(item.object_id)
                    _write_object(video, item, out / ANNOTATIONS / item.object_id, export)
                    entry = {"object_name": item.name, "video_name": f"{video.split}/{video.video_id}"}
                    lines.write(json.dumps({item.object_id: entry}, ensure_ascii=False) + "\n")
        lines.close()
        temporary.replace(out / OBJECTS)
    return export


def _key_fault(key: str, used_keys: set[str]) -> str:
    if key in used_keys:
        return "another object already has this id: the first one is written"
    if key in ("", ".", "..") or any(c in key for c in "/\\\0") or len(key.encode()) > 255:
        return f"id {key!r} is not a valid folder name"
    return ""


def _problem(video: Video, item: VideoObject, reason: str, kind: str = "error") -> Problem:
    return Problem(
        video.dataset, record=video.video_id, field=f"objects.{item.object_id}.points", reason=reason, kind=kind
    )


def _write_object(video: Video, item: VideoObject, folder: Path, export: ExportResult) -> None:
    folder.mkdir(exist_ok=True)
    export.totals["objects"] += 1
    moved = int((item.points.xy != np.rint(item.points.xy)).any(1).sum())
    if moved:
        export.problems.append(_problem(video, item, f"{moved} positions between pixels are rounded", "note"))
    for frame in np.unique(item.points.frame).tolist():
        name = video.frame_names[frame]
        values = np.zeros((video.height, video.width), np.uint8)
        for reason, kind in _paint(values, item.points.in_frame(frame), name):
            export.problems.append(_problem(video, item, reason, kind))
        image = Image.fromarray(values)
        # Makes it a palette image without changing its values.
        image.putpalette(_PALETTE)
        image.save(folder / f"{name}.png", optimize=False)
        export.totals["frames"] += 1
        export.totals["points"] += int(np.count_nonzero(values))


def _paint(values: np.ndarray, points: Points, frame: str) -> Iterator[tuple[str, str]]:
    """Paint the points of one frame into a map uint8 [H, W]; yields problems as (reason, kind)."""
    height, width = values.shape
    verdicts: dict[tuple[int, int], list[int]] = {}
    for (x, y), label in zip(np.rint(points.xy).astype(int).tolist(), points.label.tolist(), strict=True):
        if 0 <= x < width and 0 <= y < height:
            verdicts.setdefault((x, y), []).append(label)
        else:
            yield (
                f"a point outside its frame is left out (frame {frame}, pixel ({x}, {y}) of {width}x{height})",
                "error",
            )
    for (x, y), labels in verdicts.items():
        if len(set(labels)) > 1:
            yield f"conflicting points on one pixel are left out (frame {frame}, pixel ({x}, {y}))", "error"
            continue
        values[y, x] = LABEL_TO_VALUE[labels[0]]
        if len(labels) > 1:
            yield f"of equal points on one pixel, one is kept (frame {frame}, pixel ({x}, {y}))", "note"


def read_point_pngs(folder: Path, on_problem: OnProblem | None = None) -> Iterator[PointRecord]:
    """Read a folder of PNGs object by object: those in `objects.jsonl` in its order, then the others by name.

    Objects without an entry in `objects.jsonl` have the name "" and no video.

    Args:
        folder: the folder that contains `Annotations`, or `Annotations` itself.
        on_problem: receives bad images (their frame is skipped) and bad lines; None raises at the first.

    Raises DataError for a folder without `Annotations`.
    """
    root = _root(folder)
    described: set[str] = set()
    if (root / OBJECTS).exists():
        for records in iterate_json_lines(root / OBJECTS, lambda *line: _described(root, *line), on_problem):
            for record in records:
                described.add(record.key)
                yield read_png_points(folder, record, on_problem)
    names = sorted(p.name for p in (root / ANNOTATIONS).iterdir() if p.is_dir())
    for name in names:
        if name not in described:
            record = PointRecord(
                key=name, object_name="", video_name=None, points=(), file=str(root / ANNOTATIONS), place=name
            )
            yield read_png_points(folder, record, on_problem)


def _root(folder: Path) -> Path:
    for root in (folder, folder.resolve().parent):
        if (root / ANNOTATIONS).is_dir() and (root == folder or folder.resolve().name == ANNOTATIONS):
            return root
    raise DataError(
        folder, reason=f"no {ANNOTATIONS}/ in this folder", cure="give the folder of a PNG export, or a JSON file"
    )


def _described(root: Path, value: Any, line: str) -> list[PointRecord]:
    records = []
    table = Reader(value, root / OBJECTS, line)
    for key in table.value:
        reader = table.child(key)
        fault = _key_fault(key, set())
        if fault:
            raise reader.error("", fault)
        records.append(
            PointRecord(
                key=key,
                object_name=reader.get("object_name", str),
                video_name=reader.optional("video_name", str),
                points=(),
                question=reader.optional("question", str),
                question_hash=reader.optional("question_hash", str),
                file=str(root / OBJECTS),
                place=f"{line}: {key}",
            )
        )
    return records


def read_png_points(folder: Path, record: PointRecord, on_problem: OnProblem | None = None) -> PointRecord:
    """The record with the points of its PNGs, frames in name order, points row by row."""
    images = _root(folder) / ANNOTATIONS / record.key
    if not images.is_dir():
        missing = DataError(
            images, record=record.key, reason="no such folder of PNGs", cure=f"export again, or fix {OBJECTS}"
        )
        if on_problem is None:
            raise missing
        on_problem(missing.problem)
    points: list[AnnotatedPoint] = []
    size: tuple[int, ...] | None = None
    for file in sorted(images.glob("*.png")):
        try:
            values = read_label_map(file, modes=("P", "L"), noun="image", cure="fetch or export it again")
            if size is not None and size != values.shape:
                reason = f"got {values.shape[1]}x{values.shape[0]} pixels, the PNGs before it have {size[1]}x{size[0]}"
                raise DataError(file, field="size", reason=reason, cure="export this object again")
            size = values.shape
            points += _points_of(values, file)
        except DataError as error:
            if on_problem is None:
                raise
            on_problem(error.problem)
    return replace(record, points=tuple(points))


def _points_of(values: np.ndarray, file: Path) -> list[AnnotatedPoint]:
    rows, columns = np.nonzero(values)
    pixel_values = values[rows, columns].tolist()
    points = []
    for x, y, value in zip(columns.tolist(), rows.tolist(), pixel_values, strict=True):
        if value not in _VALUE_TO_LABEL:
            reason = f"got value {value}, expected 0 unlabelled, 1 negative, 2 positive or 255 ambiguous"
            raise DataError(
                file, record=f"pixel ({x}, {y})", reason=reason, cure="check that this is a point annotation"
            )
        points.append(AnnotatedPoint(x, y, file.stem, _VALUE_TO_LABEL[value]))
    return points
