"""Submission archives of evaluation servers: checked whole before they are written, the same bytes for the same predictions.

DAVIS        <video>/<frame>.png                every frame of every video
YouTube-VOS  Annotations/<video>/<frame>.png    the frames meta.json asks for (all without one), from the video's first object on
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from vng.dataset import Video, reference_frame
from vng.errors import DataError, DataErrors, Problem
from vng.evaluation.vos.runs import Run, VideoPredictions
from vng.evaluation.vos.targets import annotated_frames
from vng.label_maps import NUMBERS_FILE, has_palette, object_numbers

PREFIXES = {"davis": "", "davis-2016": "", "youtube-vos": "Annotations/"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: when it was written is nobody's concern


def required_frames(path: Path) -> dict[str, frozenset[str]]:
    """Video -> frames that a YouTube-VOS meta.json asks for: those of any of its objects.

    Raises:
        DataError: no such file, or of another form.
    """
    try:
        videos = json.loads(path.read_bytes())["videos"]
        return {
            video: frozenset(str(name) for item in entry["objects"].values() for name in item["frames"])
            for video, entry in videos.items()
        }
    except OSError as error:
        raise DataError(path, reason="no meta.json that opens", cure="check --meta") from error
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
    """Write a run as a server takes it; returns the number of frames.

    PNGs go in byte for byte, sorted by name, uncompressed, without times: the same predictions give the same archive.

    Args:
        videos: the dataset that was predicted; true masks are not needed.
        run: the predictions.
        out: the archive; written whole or not at all.
        protocol: a key of PREFIXES.
        required: the frames wanted (`required_frames`); None wants all.

    Raises:
        DataErrors: everything wrong with the predictions at once; then nothing is written.
    """
    files: dict[str, Path] = {}
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
) -> dict[str, Path]:
    """Name in the archive -> file, of one video; what is wrong is added to `problems`."""
    numbers = object_numbers(video)
    if protocol != "davis-2016" and any(i != str(number) for i, number in numbers.items()):
        reason = "object ids are no numbers in 1..254: the server could not tell what a pixel means"
        raise DataError(
            video.dataset,
            record=video.video_id,
            field="objects",
            reason=reason,
            cure="convert the benchmark's own annotations",
        )
    frames = _wanted(video, protocol, required)
    reader = VideoPredictions(run, video, "error")
    reader.missing(frames, cure="predict it")
    if protocol != "davis-2016" and not reader.problems and reader.numbers != numbers:
        reason, cure = "numbers other than the object ids: a server reads no such file", "write ids into the pixels"
        reader.problems.append(Problem(str(reader.folder / NUMBERS_FILE), reason=reason, cure=cure))
    files: dict[str, Path] = {}
    for t in frames:
        path = reader.path(t)
        if path is None or reader.read(t, None if protocol == "davis-2016" else numbers.values()) is None:
            continue
        if not has_palette(path):
            reason = "expected a palette PNG, got a grey one"
            reader.problems.append(Problem(str(path), reason=reason, cure="write object numbers with a palette"))
        files[f"{PREFIXES[protocol]}{video.video_id}/{video.frame_names[t]}.png"] = path
    problems += reader.problems
    return files


def _wanted(video: Video, protocol: str, required: Mapping[str, frozenset[str]] | None) -> list[int]:
    every = range(len(video.frame_names))
    if protocol != "youtube-vos":
        return list(every)
    if required is not None:
        if video.video_id not in required:
            raise DataError(
                video.dataset, record=video.video_id, reason="meta.json does not name this video", cure="check --meta"
            )
        names = required[video.video_id]
        if strange := sorted(names - set(video.frame_names)):
            reason = f"meta.json asks for frame {strange[0]!r}, which the dataset lacks ({len(strange)} such frames)"
            raise DataError(
                video.dataset, record=video.video_id, field="frame_names", reason=reason, cure="convert the same split"
            )
        return [t for t in every if video.frame_names[t] in names]
    begins = [t for t in map(reference_frame, video.objects) if t is not None]
    begins += annotated_frames(video.objects, len(video.frame_names))[:1]
    return [t for t in every if t >= min(begins, default=0)]


def _write(out: Path, files: Mapping[str, Path]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                archive.writestr(entry, files[name].read_bytes())
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
