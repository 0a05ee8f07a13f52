"""Compact results: one Parquet file a video, with the masks of all its expressions or objects as RLE.

    RESULTS/<video>.parquet

A row is one expression, named by its number, or one object, named by its id. `datasets.load_dataset("parquet", ...)` opens
such files too. The other layout is the official one, a PNG for each mask or label map (`vng/label_maps.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from vng.errors import DataError
from vng.frames import inside
from vng.manifest import write_atomic
from vng.masks import MOST_PIXELS, RLE, is_size, many_from_counts

Unit = Literal["expression", "object"]
Layout = Literal["compact", "png"]
LAYOUTS = get_args(Layout)
SUFFIX = ".parquet"
DAMAGED = "delete the file and predict the video again"
_METADATA = b"vng.results"


@dataclass(frozen=True, kw_only=True)
class TrackResult:
    """The masks of one expression or object.

    Attributes:
        masks: one for each frame; None where nothing was predicted, which is not an empty mask.
        score: mean confidence in [0, 1], or None.
        frame_scores: confidence of each frame, or none.
        details: what else is known about it, as plain JSON values.
    """

    masks: tuple[RLE | None, ...]
    score: float | None = None
    frame_scores: tuple[float, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """The results of one video.

    Attributes:
        unit: what a track is: "expression" (its name is a number) or "object" (an id).
        size: height and width of the frames.
        frame_names: names of the frames, length T.
        tracks: name -> its masks.
    """

    video_id: str
    unit: Unit
    size: tuple[int, int]
    frame_names: tuple[str, ...]
    tracks: Mapping[str, TrackResult]


def compact_path(folder: Path, video_id: str) -> Path:
    """The file of a video; raises DataError for an id that leads out of the folder."""
    inside(folder, video_id)
    return inside(folder, video_id + SUFFIX)


def write_compact(path: Path, result: VideoResult) -> None:
    """Write a file, completely or not at all; equal results give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {name: [] for name in _schema().names}
    for name, track in result.tracks.items():
        row = {
            "video_id": result.video_id,
            "name": name,
            "height": result.size[0],
            "width": result.size[1],
            "frame_names": list(result.frame_names),
            "counts": [None if rle is None else rle.counts for rle in track.masks],
            "score": track.score,
            "frame_scores": list(track.frame_scores),
            "details": json.dumps(dict(track.details), sort_keys=True, ensure_ascii=False),
        }
        for key, value in row.items():
            columns[key].append(value)
    about = {
        "unit": result.unit,
        "video_id": result.video_id,
        "size": list(result.size),
        "frame_names": list(result.frame_names),
    }
    schema = _schema().with_metadata({_METADATA: json.dumps(about, sort_keys=True, ensure_ascii=False).encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema), sink, compression="zstd", write_page_checksum=True)
    write_atomic(path, sink.getvalue().to_pybytes())


def read_compact(path: Path) -> VideoResult:
    """Read a file; every mask is checked.

    Raises:
        DataError: it is missing or damaged, or is no file of results.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, memory_map=True, page_checksum_verification=True)
        about = _about(path, table)
        rows = table.drop_columns(["frame_names"]).to_pylist()  # which are in the metadata, too
    except FileNotFoundError as error:
        raise DataError(path, reason="no such file of results", cure="predict the video") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = f"these results cannot be read ({str(error).splitlines()[0][:80]})"
        raise DataError(path, reason=reason, cure=DAMAGED) from error
    size, frame_names = (int(about["size"][0]), int(about["size"][1])), tuple(about["frame_names"])
    tracks: dict[str, TrackResult] = {}
    for row in rows:
        name, frame_scores = row["name"], row["frame_scores"] or ()
        masks = _masks(path, str(name), row["counts"], size, len(frame_names))
        if name is None or name in tracks or len(frame_scores) not in (0, len(frame_names)):
            raise DataError(path, record=str(name), reason="a name twice, or other scores than frames", cure=DAMAGED)
        tracks[name] = TrackResult(
            masks=masks,
            score=row["score"],
            frame_scores=tuple(frame_scores),
            details=_details(path, name, row["details"]),
        )
    return VideoResult(
        video_id=about["video_id"], unit=about["unit"], size=size, frame_names=frame_names, tracks=tracks
    )


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("video_id", pa.string()),
            ("name", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("frame_names", pa.list_(pa.string())),
            ("counts", pa.list_(pa.string())),
            ("score", pa.float64()),
            ("frame_scores", pa.list_(pa.float64())),
            ("details", pa.string()),
        ]
    )


def _about(path: Path, table: Any) -> dict[str, Any]:
    """The metadata of a file, checked."""
    if not table.schema.remove_metadata().equals(_schema()):
        reason = f"not a file of results: its columns are {', '.join(table.schema.names)[:80]}"
        raise DataError(path, reason=reason, cure="give results of `vng predict` or `vng propagate`")
    try:
        about = json.loads((table.schema.metadata or {}).get(_METADATA, b"null"))
        names = about["frame_names"]
        right = (
            about["unit"] in get_args(Unit)
            and isinstance(about["video_id"], str)
            and is_size(about["size"])
            and all(isinstance(name, str) for name in names)
            and len(set(names)) == len(names)
        )
    except (ValueError, TypeError, KeyError):
        right = False
    if not right:
        reason = f"its metadata lack a unit, a size of at most {MOST_PIXELS} pixels, or names of frames"
        raise DataError(path, field="metadata", reason=reason, cure=DAMAGED)
    return dict(about)


def _masks(
    path: Path, name: str, counts: Sequence[str | None] | None, size: tuple[int, int], frames: int
) -> tuple[RLE | None, ...]:
    if counts is None or len(counts) != frames:
        reason = f"{len(counts or ())} masks for {frames} frames"
        raise DataError(path, record=name, field="counts", reason=reason, cure=DAMAGED)
    try:
        return tuple(many_from_counts(counts, size))
    except ValueError as error:
        raise DataError(path, record=name, field="counts", reason=str(error), cure=DAMAGED) from error


def _details(path: Path, name: str, text: str | None) -> dict[str, Any]:
    try:
        details = json.loads(text or "{}")
    except (ValueError, RecursionError):
        details = None
    if not isinstance(details, dict):
        raise DataError(path, record=name, field="details", reason="expected a JSON object", cure=DAMAGED)
    return details
