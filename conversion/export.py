"""A VNG dataset -> DAVIS folders or JSON in YouTube-VIS layout, for programs that read those.

Both hold masks and names alone. What they cannot hold is left out and told, also in `problems.jsonl` beside.

OUT/JPEGImages/480p/<video>/<frame>.jpg, Annotations/480p/<video>/<frame>.png, ImageSets/2017/<split>.txt     DAVIS
OUT/<split>.json and, on demand, OUT/JPEGImages/<video>/<frame>.jpg                                    YouTube-VIS
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from conversion.formats.official_vng import official_id
from vng.dataset import Video
from vng.errors import PROBLEMS_FILE, DataError, Problem, as_lines
from vng.frames import Frames, encode_jpeg, inside
from vng.label_maps import NUMBERS_FILE, object_numbers, write_label_map
from vng.manifest import check_folder, to_json, write_atomic
from vng.masks import RLE, area, bounding_box, decode_many

UNFINISHED = ".unfinished"  # a file that is there while an export is written
RESOLUTION, YEAR = "480p", "2017"  # where DAVIS's own programs look, whatever the size of the frames
NAMELESS = "object"  # the category of objects without a name
_JPEG = b"\xff\xd8"


@dataclass
class VosExport:
    """What an export wrote, and what it could not hold."""

    totals: Counter[str] = field(default_factory=lambda: Counter(videos=0, objects=0, masks=0))
    problems: list[Problem] = field(default_factory=list)

    def tell(self, video: Video, where: str, reason: str, kind: str = "note") -> None:
        """Add a problem of a video."""
        self.problems.append(Problem(video.dataset, video.video_id, where, reason, kind=kind))

    def count(self, video: Video) -> None:
        """Add a video that was written, and tell what no format of masks holds."""
        masks = sum(rle is not None for item in video.objects for rle in item.segmentations)
        self.totals.update(videos=1, objects=len(video.objects), masks=masks)
        lost = {"narratives": len(video.narratives), "points": sum(len(item.points) for item in video.objects)}
        if told := " and ".join(f"{number} {name}" for name, number in lost.items() if number):
            self.tell(video, "", f"{told} are not written: this format has none")


@contextmanager
def _folder(out: Path) -> Iterator[VosExport]:
    """An empty folder to write into, whole or marked as unfinished; a stopped export is begun again."""
    check_folder(out)
    if out.exists() and any(out.iterdir()) and not (out / UNFINISHED).exists():
        raise DataError(out, "", "", "this folder holds something else", "choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / UNFINISHED).touch()
    yield (export := VosExport())
    (out / PROBLEMS_FILE).unlink(missing_ok=True)
    if export.problems:
        write_atomic(out / PROBLEMS_FILE, as_lines(export.problems))
    (out / UNFINISHED).unlink()


def write_davis(videos: Iterable[Video], out: Path) -> VosExport:
    """Write DAVIS folders: frames, a label image a frame, a list of videos a split.

    A pixel of several objects goes to the first of them. A frame without any mask has no label image; where only some objects
    are annotated the others look absent. Both are told. Raises DataError where `out` holds something else.
    """
    sets: dict[str, list[str]] = {}
    with _folder(out) as export:
        for video in videos:
            try:
                _check_clip(video)
                _write_clip(video, object_numbers(video), out, export)
            except DataError as error:
                export.problems.append(error.problem)
                continue
            sets.setdefault(video.split, []).append(video.video_id)
            export.count(video)
        for split, names in sets.items():
            write_atomic(out / "ImageSets" / YEAR / f"{split}.txt", "".join(f"{name}\n" for name in names))
    return export


def _check_clip(video: Video) -> None:
    inside(Path(video.dataset), video.video_id)
    if len(Path(video.video_id).parts) > 1 or "\n" in video.video_id:
        raise DataError(video.dataset, video.video_id, "video_id", "this is no name of a clip's folder", "rename it")
    if not video.objects:
        raise DataError(video.dataset, video.video_id, "objects", "no object: nothing to write")


def _write_clip(video: Video, numbers: dict[str, int], out: Path, export: VosExport) -> None:
    if video.frames is None:
        export.tell(video, "frames", "this video carries no frames: its label images are written alone")
    else:
        _write_frames(video.frames, video.frame_names, out / "JPEGImages" / RESOLUTION / video.video_id)
    folder = out / "Annotations" / RESOLUTION / video.video_id
    folder.mkdir(parents=True, exist_ok=True)
    bare, partly, shared = 0, 0, 0
    for index, name in enumerate(video.frame_names):
        told = {item.object_id: rle for item in video.objects if (rle := item.segmentations[index]) is not None}
        bare += not told
        partly += 0 < len(told) < len(video.objects)
        if told:
            masks, doubled = _exclusive(list(told.values()))
            shared += doubled
            write_label_map(folder / f"{name}.png", masks, [numbers[key] for key in told])
    if any(str(number) != key for key, number in numbers.items()):
        write_atomic(folder / NUMBERS_FILE, to_json(numbers))
    for number, reason in (
        (bare, "frames without any mask have no label image"),
        (partly, "frames annotate some of the objects: the others look absent there"),
        (shared, "pixels of several objects went to the first of them"),
    ):
        if number:
            export.tell(video, "objects", f"{number} {reason}")


def _exclusive(rles: list[RLE]) -> tuple[np.ndarray, int]:
    """Masks bool [K, H, W] in which the first object has a pixel of several, and the number of such pixels."""
    masks = decode_many(rles)
    before = np.cumsum(masks, 0) - masks
    return masks & (before == 0), int((masks.sum(0) > 1).sum())


def _write_frames(frames: Frames, names: Iterable[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        data = frames.encoded(index)
        (folder / f"{name}.jpg").write_bytes(data if data.startswith(_JPEG) else encode_jpeg(frames[index]))


def write_youtube_vis(videos: Iterable[Video], out: Path, with_frames: bool = False) -> VosExport:
    """Write one JSON file a split in YouTube-VIS layout: RLE or null a frame, an object's name as its category.

    Ids stay where they are whole numbers that no earlier object has; others are numbered anew and told. Memory holds one video.

    Args:
        videos: the dataset.
        out: an empty folder.
        with_frames: write the frames too, to JPEGImages/, which `file_names` are relative to.
    """
    with _folder(out) as export, ExitStack() as stack:
        files: dict[str, _VisWriter] = {}
        for video in videos:
            if video.split not in files:
                file = stack.enter_context((out / f"{video.split}.json").open("w", encoding="utf-8"))
                files[video.split] = _VisWriter(file)
            try:
                if with_frames:
                    _write_frames(video.opened_frames(), video.frame_names, inside(out / "JPEGImages", video.video_id))
            except DataError as error:
                export.problems.append(error.problem)
                continue
            if renumbered := files[video.split].add(video):
                export.tell(
                    video, "objects", f"{renumbered} object ids are numbered anew; `object_id` has the old ones"
                )
            export.count(video)
        for writer in files.values():
            writer.finish()
    return export


class _VisWriter:
    """One file; annotations are written as they come, the short lists at the end."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._videos: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}
        self._ids: set[int] = set()
        self._numbers = count(1)  # for ids that cannot stay
        self._file.write('{"annotations": [')

    def add(self, video: Video) -> int:
        """Write one video's objects; returns how many of them were numbered anew."""
        files = [f"{video.video_id}/{name}.jpg" for name in video.frame_names]
        size = {"height": video.height, "width": video.width, "length": len(files)}
        self._videos.append({"id": len(self._videos) + 1, "file_names": files, **size})
        renumbered = 0
        for item in video.objects:
            key = official_id(item.object_id)
            if not isinstance(key, int) or key in self._ids:
                renumbered += 1
                key = next(number for number in self._numbers if number not in self._ids)
            entry = {
                "id": key,
                "object_id": item.object_id,
                "video_id": len(self._videos),
                "category_id": self._categories.setdefault(item.name or NAMELESS, len(self._categories) + 1),
                "iscrowd": 0,
                "segmentations": [None if rle is None else rle.as_dict() for rle in item.segmentations],
                "areas": [None if rle is None else area(rle) for rle in item.segmentations],
                "bboxes": [None if rle is None else bounding_box(rle) for rle in item.segmentations],
                **size,
            }
            self._file.write(("" if not self._ids else ",") + "\n" + json.dumps(entry, ensure_ascii=False))
            self._ids.add(key)
        return renumbered

    def finish(self) -> None:
        """Write what belongs to the file as a whole."""
        categories = [{"id": number, "name": name} for name, number in self._categories.items()]
        for key, value in (("videos", self._videos), ("categories", categories)):
            self._file.write(f'{"]," if key == "videos" else ","}\n"{key}": {json.dumps(value, ensure_ascii=False)}')
        self._file.write("}\n")
