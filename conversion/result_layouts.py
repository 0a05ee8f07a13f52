"""Results of `vng predict` and `vng propagate` from one layout to the other, without a change of a pixel.

    compact  RESULTS/<video>.parquet                     one file a video (`vng/compact_results.py`)
    png      RESULTS/<video>/<expression>/<frame>.png    one PNG a mask: expressions
             RESULTS/<video>/<frame>.png                 one label map a frame: objects

Folders `points-<n>/seed-<s>` of a benchmark are kept. A PNG of an expression has one object: any pixel but 0.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from conversion.export_formats import ExportResult, export_folder
from vng.compact_results import SUFFIX, TrackResult, Unit, VideoResult, compact_path, read_compact, write_compact
from vng.errors import DataError
from vng.frames import inside
from vng.grounding.result import write_mask_pngs
from vng.label_maps import NUMBERS_FILE, VOID, numbers_of, read_label_map, write_label_map, write_numbers
from vng.masks import RLE, decode, empty, encode
from vng.text_files import load_json

MODES = ("P", "L", "1", "I;16", "I")
_RUN = re.compile(r"points-\d+|seed-\d+")
_CURE = "give results of `vng predict` or `vng propagate`, or a folder of PNGs in one of their layouts"


def compact_to_png(results: Path, out: Path, progress: bool = True) -> ExportResult:
    """Write the official tree of PNGs of compact results; see `conversion.export`.

    A damaged file is left out, and reported.

    Raises:
        DataError: no such results, or `out` holds other files.
    """
    files = sorted(path for path in _folder(results).rglob(f"*{SUFFIX}") if not path.name.startswith("."))
    if not files:
        raise DataError(results, reason=f"no {SUFFIX} file of results in this folder", cure=_CURE)
    with export_folder(out) as export:
        for file in tqdm(files, desc="export", unit="video", disable=not progress):
            try:
                result = read_compact(file)
                folder = inside(out, str(file.relative_to(results).with_suffix("")))
                (_write_expressions if result.unit == "expression" else _write_objects)(result, folder)
            except DataError as error:
                export.problems.append(error.problem)
                continue
            _count(export, result)
    return export


def png_to_compact(results: Path, out: Path, progress: bool = True) -> ExportResult:
    """Write compact results of a tree of PNGs; see `conversion.export`. A video with a damaged PNG is left out.

    Raises:
        DataError: no such results, or `out` holds other files.
    """
    videos = list(_videos(_folder(results)))
    if not videos:
        raise DataError(results, reason="no folder of PNGs in one of the layouts of results", cure=_CURE)
    with export_folder(out) as export:
        for folder in tqdm(videos, desc="export", unit="video", disable=not progress):
            place = folder.relative_to(results)
            run = Path(*(part for part in place.parts if _RUN.fullmatch(part)))
            name = str(place.relative_to(run))
            try:
                result = _read_objects(name, folder) if _pngs(folder) else _read_expressions(name, folder)
                write_compact(compact_path(out / run, name), result)
            except DataError as error:
                export.problems.append(error.problem)
                continue
            _count(export, result)
    return export


def _folder(results: Path) -> Path:
    if not results.is_dir():
        raise DataError(results, reason="no such folder of results", cure=_CURE)
    return results


def _count(export: ExportResult, result: VideoResult) -> None:
    masks = sum(rle is not None for track in result.tracks.values() for rle in track.masks)
    export.totals.update(videos=1, objects=len(result.tracks), masks=masks)


def _write_expressions(result: VideoResult, folder: Path) -> None:
    temporary = _temporary(folder)
    for name, track in result.tracks.items():
        predicted = {frame: rle for frame, rle in zip(result.frame_names, track.masks, strict=True) if rle is not None}
        write_mask_pngs(list(predicted.values()), list(predicted), inside(temporary, name))
    _finish(temporary, folder)


def _write_objects(result: VideoResult, folder: Path) -> None:
    numbers, temporary = _numbers(result), _temporary(folder)
    absent = empty(*result.size)
    for t, frame in enumerate(result.frame_names):
        rles = [track.masks[t] for track in result.tracks.values()]
        if not rles or any(rle is not None for rle in rles):
            masks = np.stack([decode(absent if rle is None else rle) for rle in rles or [absent]])
            if (masks.sum(0) > 1).any():
                reason = "two objects share pixels, which a label map cannot hold"
                raise DataError(folder, record=f"frame {frame}", reason=reason, cure="write disjoint masks")
            write_label_map(inside(temporary, f"{frame}.png"), masks, list(numbers.values()) or [0])
    write_numbers(temporary, numbers)
    _finish(temporary, folder)


def _temporary(folder: Path) -> Path:
    """An empty folder beside another one, which it will replace when it is complete."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def _finish(temporary: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of an export that was interrupted
    os.replace(temporary, folder)


def _numbers(result: VideoResult) -> dict[str, int]:
    """Object id -> number in label maps: the one that it had in the PNGs it was read from, where there were any."""
    numbers = {name: track.details.get("number") for name, track in result.tracks.items()}
    known = {name: n for name, n in numbers.items() if type(n) is int and 1 <= n <= VOID}
    if len(set(known.values())) == len(numbers):
        return known
    return numbers_of(list(result.tracks))


def _videos(results: Path) -> Iterator[Path]:
    """The folders of videos: those with label maps, or with folders of masks that have numbers as names."""
    for folder in sorted(path for path in results.rglob("*") if path.is_dir() and not path.name.endswith(".tmp")):
        if _RUN.fullmatch(folder.name):
            continue
        if _expressions(folder) or (_pngs(folder) and not _is_expression(folder, results)):
            yield folder


def _expressions(folder: Path) -> list[Path]:
    """The folders of expressions of a video, by number."""
    found = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal() and _pngs(path)]
    return sorted(found, key=lambda path: int(path.name))


def _is_expression(folder: Path, results: Path) -> bool:
    above = folder.parent
    return folder.name.isdecimal() and above != results and not _RUN.fullmatch(above.name)


def _pngs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png" and not path.name.startswith("."))


def _read_expressions(name: str, folder: Path) -> VideoResult:
    masks = {
        path.name: {file.stem: encode(_pixels(file) != 0) for file in _pngs(path)} for path in _expressions(folder)
    }
    frames = sorted({frame for own in masks.values() for frame in own})
    tracks = {number: tuple(own.get(frame) for frame in frames) for number, own in masks.items()}
    return _result(name, folder, "expression", frames, tracks)


def _read_objects(name: str, folder: Path) -> VideoResult:
    files = _pngs(folder)
    labels = [_runs_of(_pixels(file)) for file in files]
    ids = _ids(folder / NUMBERS_FILE) or {number: str(number) for number in sorted({n for own in labels for n in own})}
    rows, columns = _pixels(files[0]).shape
    absent = empty(rows, columns)
    tracks = {name: tuple(own.get(number, absent) for own in labels) for number, name in ids.items()}
    if stray := sorted({n for own in labels for n in own} - set(ids)):
        raise DataError(folder, reason=f"pixels with the number {stray[0]}, which {NUMBERS_FILE} lacks", cure=_CURE)
    numbers = {name: {"number": number} for number, name in ids.items()}
    return _result(name, folder, "object", [file.stem for file in files], tracks, (rows, columns), numbers)


def _runs_of(labels: np.ndarray) -> dict[int, RLE]:
    return {int(number): encode(labels == number) for number in np.unique(labels) if number}


def _ids(path: Path) -> dict[int, str]:
    """Number -> object id; empty where there is no such file."""
    if not path.exists():
        return {}
    numbers = load_json(path)
    if not isinstance(numbers, dict) or not all(type(n) is int for n in numbers.values()):
        raise DataError(path, reason="expected {object id: number}", cure="predict the video again")
    return {number: name for name, number in numbers.items()}


def _pixels(path: Path) -> np.ndarray:
    return read_label_map(path, None, MODES, noun="prediction", cure="predict it again")


def _result(
    name: str,
    folder: Path,
    unit: Unit,
    frames: list[str],
    masks: Mapping[str, tuple[RLE | None, ...]],
    size: tuple[int, int] | None = None,
    details: Mapping[str, Mapping[str, int]] | None = None,
) -> VideoResult:
    sizes = sorted(
        {rle.size for track in masks.values() for rle in track if rle is not None} | ({size} if size else set())
    )
    if len(sizes) > 1:
        reason = f"masks of several sizes: {', '.join(f'{h}x{w}' for h, w in sizes)}"
        raise DataError(folder, reason=reason, cure="give each video masks of one size")
    tracks = {
        number: TrackResult(masks=track, details=(details or {}).get(number, {})) for number, track in masks.items()
    }
    return VideoResult(video_id=name, unit=unit, size=sizes[0], frame_names=tuple(frames), tracks=tracks)
