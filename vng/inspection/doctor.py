"""Faults of a dataset or of a folder of frames and masks, and how to mend them.

Every check gives `Problem`s: "error" for what must be mended, "note" for what should be looked at. A record that cannot be
read is one of them; the others are checked all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vng.dataset import Video, VngDataset
from vng.errors import DataError, DataErrors, Problem
from vng.frames import Frames, visible_files
from vng.label_maps import check_smoothed, read_label_map
from vng.narratives import Expression

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
SHIFT = 8  # most characters by which a wrong span is looked for beside its place
ALIKE = 3  # most bits of 64 in which two hashes of one frame differ
PROBES = 3  # frames of a video that are hashed: the first, the middle and the last


@dataclass
class Diagnosis:
    """Numbers of the things looked at, and the problems found."""

    looked_at: dict[str, int] = field(default_factory=lambda: {"videos": 0, "frames": 0, "nouns": 0, "masks": 0})
    problems: list[Problem] = field(default_factory=list)

    @property
    def errors(self) -> list[Problem]:
        """The problems that must be mended."""
        return [problem for problem in self.problems if problem.kind != "note"]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"looked_at": self.looked_at, "problems": [asdict(problem) for problem in self.problems]}


@dataclass(frozen=True)
class _Print:
    """Hashes of a few frames of a video, by which it is known again."""

    place: str  # the dataset, and its split
    video_id: str
    hashes: tuple[int, ...]


def diagnose(paths: Sequence[str | Path], progress: bool = True) -> Diagnosis:
    """Check datasets and folders, each by itself and against the others.

    Args:
        paths: VNG datasets (a folder with `manifest.json` or Parquet files), or folders with JPEGImages and Annotations.
        progress: whether a bar counts videos.

    Raises:
        DataError: a path that is neither.
    """
    diagnosis, prints = Diagnosis(), []
    for path in map(Path, paths):
        if is_dataset(path):
            prints += _check_dataset(path, diagnosis, progress)
        elif path.is_dir():
            prints += _check_folder(path, diagnosis, progress)
        else:
            cure = "give a VNG dataset, or a folder with JPEGImages/ and Annotations/"
            raise DataError(path, reason="neither a dataset nor a folder", cure=cure)
    diagnosis.problems += leaks(prints)
    return diagnosis


def is_dataset(path: Path) -> bool:
    """Whether a folder is a VNG dataset."""
    return (path / "manifest.json").is_file() or bool(list(path.glob("data/*.parquet")) + list(path.glob("*.parquet")))


def _check_dataset(path: Path, diagnosis: Diagnosis, progress: bool) -> list[_Print]:
    from tqdm import tqdm

    dataset = VngDataset(path)
    seen: dict[str, int] = {}
    prints = []
    for index in tqdm(range(len(dataset)), desc=f"doctor {path.name}", unit="video", disable=not progress):
        try:
            video = dataset[index]
        except DataErrors as error:
            diagnosis.problems += error.problems
            continue
        except DataError as error:
            diagnosis.problems.append(error.problem)
            continue
        diagnosis.looked_at["videos"] += 1
        if video.video_id in seen:
            reason = f"the id of row {seen[video.video_id]} too"
            cure = "predictions are named by it: give each video an id of its own"
            diagnosis.problems.append(_of(path, video, "video_id", reason, cure))
        seen.setdefault(video.video_id, index)
        for check in CHECKS:
            diagnosis.problems += check(path, video, diagnosis.looked_at)
        prints += _frames_of(path, f"{path} ({video.split})", video, diagnosis)
    return prints


def _of(path: Path, video: Video, place: str, reason: str, cure: str, kind: str = "error") -> Problem:
    return Problem(str(path), record=video.video_id, field=place, reason=reason, cure=cure, kind=kind)


def _frames_of(path: Path, place: str, video: Video, diagnosis: Diagnosis) -> list[_Print]:
    """Check the frames of a video; returns its print, if it can be read."""
    try:
        frames = video.opened_frames()
        if len(frames) != len(video.frame_names):
            reason = f"{len(frames)} frames, the row names {len(video.frame_names)}"
            diagnosis.problems.append(_of(path, video, "frames", reason, "fetch or extract the video's frames again"))
        if frames.size != (video.height, video.width):
            reason = "frames of {}x{} pixels, the row says {}x{}".format(*frames.size, video.height, video.width)
            cure = "masks and points are in the row's pixels: use frames of that size"
            diagnosis.problems.append(_of(path, video, "frames", reason, cure))
        hashes = frame_hashes(frames)
        diagnosis.looked_at["frames"] += len(hashes)
        return [_Print(place, video.video_id, hashes)]
    except DataError as error:
        diagnosis.problems.append(error.problem)
        return []


def check_spans(path: Path, video: Video, looked_at: dict[str, int]) -> Iterator[Problem]:
    """Nouns whose offsets do not fit their words, with the shift that would mend them."""
    looked_at["nouns"] += len(video.expressions)
    for index, expression in enumerate(video.expressions):
        text = video.narratives[expression.narrative].description
        words = expression.noun(text)
        place = f"expressions.{index}"
        if not whole_words(text, expression.start, expression.end):
            yield _of(path, video, place, f"the span {words!r} cuts a word", _mended(text, expression))
        elif words != words.strip():
            reason = f"the span {words!r} begins or ends with white space"
            yield _of(path, video, place, reason, "leave the space out of [start, end)", "note")


def whole_words(text: str, start: int, end: int) -> bool:
    """Whether [start, end) begins and ends at words' ends, and holds a letter or a digit."""
    before = start > 0 and text[start - 1].isalnum() and text[start].isalnum()
    after = end < len(text) and text[end].isalnum() and text[end - 1].isalnum()
    return not before and not after and any(c.isalnum() for c in text[start:end])


def _mended(text: str, expression: Expression) -> str:
    """The cure for a span that cuts a word."""
    start, end = expression.start, expression.end
    wide = sum(ord(c) > 0xFFFF for c in text[:end])
    if wide and start >= wide and whole_words(text, start - wide, end - wide):
        shown = text[start - wide : end - wide]
        return f"offsets seem counted in UTF-16: subtract {wide}, which gives {shown!r}"
    for shift in sorted(range(-SHIFT, SHIFT + 1), key=abs):
        first, last = start + shift, end + shift
        if shift and 0 <= first < last <= len(text) and whole_words(text, first, last):
            return f"white space may have changed: shifted by {shift}, the span is {text[first:last]!r}"
    return "compare the caption with the one that was annotated"


def check_objects(path: Path, video: Video, looked_at: dict[str, int]) -> Iterator[Problem]:
    """Objects that nothing can be learned from, and nouns of such objects."""
    meant = {expression.object_id for expression in video.expressions}
    for item in video.objects:
        annotated = int(item.annotated.sum())
        looked_at["masks"] += annotated
        if not annotated and not len(item.points):
            reason = "neither a mask nor a point in any frame" + (
                ", and a noun means it" if item.object_id in meant else ""
            )
            yield _of(path, video, f"objects.{item.object_id}", reason, "annotate it, or leave it out", "note")


Check = Callable[[Path, Video, dict[str, int]], Iterable[Problem]]
CHECKS: tuple[Check, ...] = (check_spans, check_objects)


def frame_hashes(frames: Frames) -> tuple[int, ...]:
    """Hashes of the first, the middle and the last frame."""
    places = np.unique(np.linspace(0, len(frames) - 1, PROBES).round().astype(int))
    return tuple(difference_hash(image) for image in frames.read([int(t) for t in places]))


def difference_hash(image: np.ndarray) -> int:
    """64 bits of an image uint8 [H, W, 3] that survive scaling and compression: whether grey falls from cell to cell."""
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA).astype(int)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int(np.packbits(bits).tobytes().hex(), 16)


def leaks(prints: Sequence[_Print]) -> list[Problem]:
    """Videos that lie in two places: by their name, or by their frames."""
    problems: list[Problem] = []
    names: dict[str, _Print] = {}
    buckets: dict[tuple[int, int], list[_Print]] = {}  # bytes of a hash: two alike hashes share some of the eight
    for own in prints:
        other = names.setdefault(own.video_id, own)
        found = other if other.place != own.place else None
        way = "the same id"
        if found is None:
            found, way = _known(own, buckets), "frames that look the same"
        if found is not None:
            reason = f"{way} as {found.video_id!r} of {found.place}"
            cure = "a video of two splits or sets is learned and tested: leave it out of one"
            problems.append(Problem(own.place, record=own.video_id, reason=reason, cure=cure))
        for value in own.hashes:
            for place in range(8):
                buckets.setdefault((place, value >> (8 * place) & 0xFF), []).append(own)
    return problems


def _known(own: _Print, buckets: Mapping[tuple[int, int], list[_Print]]) -> _Print | None:
    """A video of another place whose frames are all alike."""
    if not any(own.hashes):  # black
        return None
    near = {id(p): p for place in range(8) for p in buckets.get((place, own.hashes[0] >> (8 * place) & 0xFF), [])}
    for other in near.values():
        alike = [any((a ^ b).bit_count() <= ALIKE for b in other.hashes) for a in own.hashes]
        if other.place != own.place and all(alike):
            return other
    return None


def _check_folder(path: Path, diagnosis: Diagnosis, progress: bool) -> list[_Print]:
    """A folder in the layout of DAVIS or YouTube-VOS."""
    from tqdm import tqdm

    root = _vos_root(path, diagnosis)
    if root is None:
        return []
    images, labels = _videos(root / "JPEGImages"), _videos(root / "Annotations")
    for name in sorted(set(labels) - set(images)):
        problem = Problem(str(labels[name]), reason="annotations without frames", cure="fetch the video's frames")
        diagnosis.problems.append(problem)
    prints = []
    for name, folder in tqdm(sorted(images.items()), desc=f"doctor {path.name}", unit="video", disable=not progress):
        diagnosis.looked_at["videos"] += 1
        prints += _check_clip(root, name, folder, labels.get(name), diagnosis)
    return prints


def _vos_root(path: Path, diagnosis: Diagnosis) -> Path | None:
    """The folder that holds JPEGImages; a note where it is not the given one."""
    if (path / "JPEGImages").is_dir():
        return path
    inner = sorted(p.parent for p in path.glob("*/JPEGImages") if p.is_dir())
    if inner:
        reason, cure = f"JPEGImages lies in {inner[0].name}/", f"name {inner[0]} in other commands"
        diagnosis.problems.append(Problem(str(path), reason=reason, cure=cure, kind="note"))
        return inner[0]
    other = next((p.name for p in sorted(path.iterdir()) if p.name.lower() in ("jpegimages", "images", "frames")), "")
    reason = f"no JPEGImages here{', but ' + other if other else ''}"
    cure = f"rename {other} to JPEGImages" if other else "give a dataset, or a folder with JPEGImages/ and Annotations/"
    diagnosis.problems.append(Problem(str(path), reason=reason, cure=cure))
    return None


def _videos(folder: Path) -> dict[str, Path]:
    """Video -> its folder, with or without a folder of the resolution between."""
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    for entry in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        inner = [p for p in sorted(entry.iterdir()) if p.is_dir()]
        found |= (
            {p.name: p for p in inner} if inner and not visible_files(entry, FRAME_SUFFIXES) else {entry.name: entry}
        )
    return found


def _check_clip(root: Path, name: str, folder: Path, labels: Path | None, diagnosis: Diagnosis) -> list[_Print]:
    from vng.frames import open_frames

    try:
        frames = open_frames(folder)
        size, hashes = frames.size, frame_hashes(frames)
    except DataError as error:
        diagnosis.problems.append(error.problem)
        return []
    diagnosis.looked_at["frames"] += len(hashes)
    known = {frame.stem for frame in visible_files(folder, FRAME_SUFFIXES)}
    for file in [] if labels is None else visible_files(labels, (".png",)):
        diagnosis.looked_at["masks"] += 1
        if file.stem not in known:
            problem = Problem(
                str(file), reason=f"no frame of this name in {folder}", cure="fetch the frame, or rename it"
            )
            diagnosis.problems.append(problem)
            continue
        try:
            check_smoothed(
                file, read_label_map(file, size=size, noun="annotation", cure="save it again").astype(np.uint8)
            )
        except DataError as error:
            diagnosis.problems.append(error.problem)
    return [_Print(str(root), name, hashes)]
