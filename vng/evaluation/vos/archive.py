"""Submission archives for evaluation servers: fully checked before writing, identical for identical predictions.

DAVIS        <video>/<frame>.png                every frame of every video
YouTube-VOS  Annotations/<video>/<frame>.png    the frames listed in meta.json; without one all from the first object on
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from vng.dataset import Video, reference_frame
from vng.errors import DataError, DataErrors, Problem
from vng.evaluation.vos.runs import Run, VideoPredictions
from vng.evaluation.vos.targets import annotated_frames
from vng.label_maps import NUMBERS_FILE, has_palette, label_map_png, object_numbers
from vng.text_files import load_json

Content = Callable[[], bytes]  # reads or makes a file of the archive
PREFIXES = {"davis": "", "davis-2016": "", "youtube-vos": "Annotations/"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date in zip files; a fixed one makes archives reproducible


def required_frames(path: Path) -> dict[str, frozenset[str]]:
    """Video -> frames required by a YouTube-VOS meta.json: those of any of its objects.

    Raises:
        DataError: no such file, or an unexpected format.
    """
    try:
        videos = load_json(path, "check --meta")["videos"]
        return {
            video: frozenset(str(name) for item in entry["objects"].values() for name in item["frames"])
            for video, entry in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = "expected {videos: {video: {objects: {id: {frames: [name]}}}}}"
        raise DataError(path, field="videos", reason=reason, cure="give the split's meta.json") from error


def write_archive(
    videos: Iterable[Video],
    run: Run,
    out: Path,
    protocol: str,
    required: Mapping[str, frozenset[str]] | None = None,
) -> int:
    """Write a run in the format of an evaluation server; returns the number of frames.

    PNGs are stored unchanged (those of compact results are drawn), sorted by name, uncompressed, without times:
    identical predictions give an identical archive.

    Args:
        videos: the dataset that was predicted; true masks are not needed.
        run: the predictions.
        out: the archive; written completely or not at all.
        protocol: a key of PREFIXES.
        required: the required frames (`required_frames`); None requires all.

    Raises:
        DataErrors: all problems of the predictions; nothing is written.
    """
    files: dict[str, Content] = {}
    problems: list[Problem] = []
    for video in videos:
        try:
            files |= _checked(video, run, protocol, required, problems)
        except DataError as error:
            problems.append(error.problem)
    if problems:
        raise DataErrors(problems)
    if not files:
        raise DataError(
            run.folder, reason="no frame of this dataset is to be submitted", cure="check --dataset and --meta"
        )
    _write(out, files)
    return len(files)


def _checked(
    video: Video,
    run: Run,
    protocol: str,
    required: Mapping[str, frozenset[str]] | None,
    problems: list[Problem],
) -> dict[str, Content]:
    """Name in the archive -> content, of one video; problems are added to `problems`."""
    numbers = object_numbers(video)
    if protocol != "davis-2016" and any(i != str(number) for i, number in numbers.items()):
        reason = "object ids are not numbers in 1..254, so the server could not interpret the pixels"
        raise DataError(
            video.dataset,
            record=video.video_id,
            field="objects",
            reason=reason,
            cure="convert the benchmark's own annotations",
        )
    frames = _required(video, protocol, required)
    reader = VideoPredictions(run, video, "error")
    reader.missing(frames, cure="predict it")
    if protocol != "davis-2016" and not reader.problems and reader.numbers != numbers:
        reason, cure = (
            "numbers differ from the object ids; servers ignore this file",
            "write object ids into the pixels",
        )
        reader.problems.append(Problem(str(reader.place / NUMBERS_FILE), reason=reason, cure=cure))
    files: dict[str, Content] = {}
    for t in frames:
        path = reader.path(t)
        if reader.read(t, None if protocol == "davis-2016" else numbers.values()) is None:
            continue
        if path is not None and not has_palette(path):
            reason = "expected a palette PNG, got a grey one"
            reader.problems.append(Problem(str(path), reason=reason, cure="write object numbers with a palette"))
        files[f"{PREFIXES[protocol]}{video.video_id}/{video.frame_names[t]}.png"] = (
            partial(_drawn, reader, t) if path is None else path.read_bytes
        )
    problems += reader.problems
    return files


def _required(video: Video, protocol: str, required: Mapping[str, frozenset[str]] | None) -> list[int]:
    indices = range(len(video.frame_names))
    if protocol != "youtube-vos":
        return list(indices)
    if required is not None:
        if video.video_id not in required:
            raise DataError(
                video.dataset, record=video.video_id, reason="meta.json does not list this video", cure="check --meta"
            )
        names = required[video.video_id]
        if absent := sorted(names - set(video.frame_names)):
            reason = f"meta.json requires frame {absent[0]!r}, which the dataset lacks ({len(absent)} such frames)"
            raise DataError(
                video.dataset, record=video.video_id, field="frame_names", reason=reason, cure="convert the same split"
            )
        return [t for t in indices if video.frame_names[t] in names]
    starts = [t for t in map(reference_frame, video.objects) if t is not None]
    starts += annotated_frames(video.objects, len(video.frame_names))[:1]
    return [t for t in indices if t >= min(starts, default=0)]


def _drawn(reader: VideoPredictions, t: int) -> bytes:
    """The label map of a frame of compact results."""
    labels = reader.read(t, None)
    assert labels is not None  # it was read before
    return label_map_png(labels)


def _write(out: Path, files: Mapping[str, Content]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                archive.writestr(entry, files[name]())
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
