"""Point-VOS points as PNGs, in the publisher's layout; read and write.

    ROOT/Annotations/<object key>/<frame>.png   8 bits: 0 unlabelled, 1 negative, 2 positive, 255 ambiguous
    ROOT/objects.jsonl                          ours: {key: {object_name, video_name, question, question_hash}} a line

`Annotations` is what the publisher's extraction writes (idilesenzulfikar/PointVOS, dataset_scripts/extract_frames.py); it leaves
ambiguous points out unless told otherwise, here they are always written. `objects.jsonl` carries what pixels cannot, and
its presence says that an export is whole; without it objects have neither names nor videos.

What does not survive: positions between pixels (rounded), `is_fg_candidate`, the order of points, points without a frame.
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
from conversion.formats.jsonio import OnProblem, Reader, iterate_json_lines
from conversion.formats.point_vos import AnnotatedPoint, PointRecord
from vng.dataset import Video, VideoObject
from vng.errors import DataError, Problem
from vng.label_maps import read_label_map
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points

ANNOTATIONS, OBJECTS = "Annotations", "objects.jsonl"
LABEL_TO_VALUE = {NEGATIVE: 1, POSITIVE: 2, AMBIGUOUS: 255}
_VALUE_TO_LABEL = {value: label for label, value in LABEL_TO_VALUE.items()}
_COLOURS = {0: (0, 0, 0), 1: (255, 60, 60), 2: (60, 255, 90), 255: (255, 255, 255)}  # as in the overlays
_PALETTE = [channel for value in range(256) for channel in _COLOURS.get(value, (128, 128, 128))]


def write_point_pngs(videos: Iterable[Video], out: Path) -> ExportResult:
    """Write the verified points of a dataset's objects (mouse traces are none) into an empty folder.

    A point outside its frame, two verdicts on one pixel and an id that is no file name are left out and reported, also
    in `problems.jsonl` beside; a second point of one verdict on a pixel and positions between pixels are noted.

    Raises DataError where `out` holds something else; an export that was stopped is begun again.
    """
    seen: set[str] = set()
    temporary = out / f"{OBJECTS}.tmp"
    with export_folder(out) as export, temporary.open("w", encoding="utf-8") as lines:
        export.totals = Counter(objects=0, frames=0, points=0)
        (out / ANNOTATIONS).mkdir(exist_ok=True)
        for video in videos:
            for item in video.objects:
                if len(item.points) and not item.source.startswith("trace/"):
                    fault = _key_fault(item.object_id, seen)
                    if fault:
                        export.problems.append(_problem(video, item, fault))
                        continue
                    seen.add(item.object_id)
                    _write_object(video, item, out / ANNOTATIONS / item.object_id, export)
                    known = {"object_name": item.name, "video_name": f"{video.split}/{video.video_id}"}
                    lines.write(json.dumps({item.object_id: known}, ensure_ascii=False) + "\n")
        lines.close()
        temporary.replace(out / OBJECTS)
    return export


def _key_fault(key: str, seen: set[str]) -> str:
    if key in seen:
        return "another object has this id already: the first one is written"
    if key in ("", ".", "..") or any(c in key for c in "/\\\0") or len(key.encode()) > 255:
        return f"id {key!r} is no folder name"
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
        image.putpalette(_PALETTE)  # makes it a palette image; the values stay
        image.save(folder / f"{name}.png", optimize=False)
        export.totals["frames"] += 1
        export.totals["points"] += int(np.count_nonzero(values))


def _paint(values: np.ndarray, points: Points, frame: str) -> Iterator[tuple[str, str]]:
    """Put the points of one frame into a map uint8 [H, W]; gives (what is wrong and was done, kind of problem)."""
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
            yield f"points of one pixel that disagree are left out (frame {frame}, pixel ({x}, {y}))", "error"
            continue
        values[y, x] = LABEL_TO_VALUE[labels[0]]
        if len(labels) > 1:
            yield f"of points of one pixel that agree one is kept (frame {frame}, pixel ({x}, {y}))", "note"


def read_point_pngs(folder: Path, on_problem: OnProblem | None = None) -> Iterator[PointRecord]:
    """Read a folder of PNGs object by object: those of `objects.jsonl` in its order, then the others by name.

    Objects that only their folder names have the name "" and no video.

    Args:
        folder: the one that holds `Annotations`, or `Annotations` itself.
        on_problem: takes bad images (their frame is left out) and bad lines; None raises at the first.

    Raises DataError for a folder that holds no `Annotations`.
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
    made = []
    whole = Reader(value, root / OBJECTS, line)
    for key in whole.value:
        reader = whole.child(key)
        fault = _key_fault(key, set())
        if fault:
            raise reader.error("", fault)
        made.append(
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
    return made


def read_png_points(folder: Path, record: PointRecord, on_problem: OnProblem | None = None) -> PointRecord:
    """The record with the points of its PNGs, frames in name order, points row by row."""
    images = _root(folder) / ANNOTATIONS / record.key
    if not images.is_dir():
        missing = DataError(
            images, record=record.key, reason="no such folder of PNGs", cure=f"export again, or mend {OBJECTS}"
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
                reason = f"{values.shape[1]}x{values.shape[0]} pixels, the PNGs before it have {size[1]}x{size[0]}"
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
    found = values[rows, columns].tolist()
    points = []
    for x, y, value in zip(columns.tolist(), rows.tolist(), found, strict=True):
        if value not in _VALUE_TO_LABEL:
            reason = f"value {value}; known are 0 unlabelled, 1 negative, 2 positive, 255 ambiguous"
            raise DataError(file, record=f"pixel ({x}, {y})", reason=reason, cure="this is no point annotation")
        points.append(AnnotatedPoint(x, y, file.stem, _VALUE_TO_LABEL[value]))
    return points
