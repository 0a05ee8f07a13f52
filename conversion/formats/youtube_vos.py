"""YouTube-VOS folders -> videos with true masks on the annotated frames (2018 and 2019 have one layout).

ROOT/meta.json                           {"videos": {<video>: {"objects": {<id>: {"category", "frames": [...]}}}}}
ROOT/JPEGImages/<video>/00005.jpg        every fifth frame; all of them in a folder of their own (`train_all_frames`)
ROOT/Annotations/<video>/00005.png       object ids; 0 is background

`train` annotates all objects on every fifth frame. `valid` and `test` annotate each object on its first frame only,
which need not be the video's first; objects that a label image there does not show are unannotated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conversion.build import NARRATIVES, Conversion
from conversion.formats.label_images import Labels, Void, object_ids, object_masks, read_labels, void_masks
from conversion.options import BuildOptions
from conversion.simulated_points import SimulationSettings, simulate_points, simulation_settings
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import Video, VideoObject
from vng.errors import DataError, Problem
from vng.frames import ImageFolder, frame_number, inside
from vng.label_maps import VOID
from vng.masks import area
from vng.records import Reader
from vng.text_files import load_json

CAMERA_FPS = 30.0  # frame rate of all frames
NAME, META = "YouTube-VOS", "meta.json"


@dataclass(frozen=True)
class YoutubeFolder:
    """Folders of a split, and which objects its label images annotate."""

    root: Path
    frames: Path  # folder of <video>/<frame>.jpg
    first_only: bool  # a label image annotates only the objects that first appear in it

    @staticmethod
    def of(root: Path, frames: Path | None = None, annotated: str | None = None) -> YoutubeFolder:
        """The folder; `annotated` None is derived from its name: "first" for valid and test, "all" for others.

        Raises DataError where it has no meta.json.
        """
        if not (root / META).is_file():
            inner = [name for name in ("train", "valid", "test") if (root / name / META).is_file()]
            cure = f"give {root / inner[0]}" if inner else "give the folder of a split: train, valid or test"
            raise DataError(root, reason=f"no {META} here", cure=cure)
        first = root.resolve().name.startswith(("valid", "test")) if annotated is None else annotated == "first"
        return YoutubeFolder(root, frames or root / "JPEGImages", first)

    @property
    def split(self) -> str:
        """The split of the rows: the folder's name where it is a published split, else "train"."""
        name = self.root.resolve().name
        return name if name in ("train", "valid", "test") else "train"


@dataclass(frozen=True)
class MetaObject:
    """The entry of one object in meta.json."""

    number: int  # its value in the label images
    category: str
    frames: tuple[str, ...]  # frames in which it is visible, in time order; the first one has its mask


def meta_videos(folder: YoutubeFolder, on_problem: Callable[[Problem], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(video, its entry) of meta.json, by name; invalid entries go to `on_problem`."""
    file = folder.root / META
    videos = Reader(load_json(file), file, "").get("videos", dict)
    for video, entry in sorted(videos.items()):
        try:
            inside(folder.frames, video)
            meta_objects(entry, file, video)
        except DataError as error:
            on_problem(error.problem)
            continue
        yield video, entry


def meta_categories(file: Path, on_problem: Callable[[Problem], None]) -> Iterator[tuple[str, dict[str, str]]]:
    """(video, {object id: category}) of a meta.json; invalid entries go to `on_problem`."""
    for video, entry in Reader(load_json(file), file, "").get("videos", dict).items():
        try:
            objects = Reader(entry, file, video).child("objects")
            yield video, {key: objects.child(key).get("category", str, "") for key in objects.value}
        except DataError as error:
            on_problem(error.problem)


def meta_objects(entry: Any, file: Path, video: str) -> list[MetaObject]:
    """The objects of a video's entry, by number; raises DataError for a field that is missing or wrong."""
    objects = Reader(entry, file, video).child("objects")
    items = []
    for key in objects.value:
        reader = objects.child(key)
        if not (key.isascii() and key.isdigit() and len(key) <= 3 and 0 < int(key) < VOID):
            raise reader.error("", f"expected an object id in 1..{VOID - 1}, got {key!r}")
        frames = reader.items("frames", str)
        if not frames:
            raise reader.error("frames", "no frame of this object")
        items.append(MetaObject(int(key), reader.get("category", str, ""), tuple(sorted(frames))))
    if not items:
        raise objects.error("", "no object in this video")
    if len({item.number for item in items}) < len(items):
        raise objects.error("", "two ids have the same number")
    return sorted(items, key=lambda item: item.number)


def read_youtube_video(
    folder: YoutubeFolder, video: str, entry: Any, name: str, split: str, on_problem: Callable[[Problem], None]
) -> tuple[Video, Void]:
    """The record of one video, and its void.

    Objects without a mask are left out and go to `on_problem`, as do ids that meta.json lacks, whose pixels become
    void. Raises DataError for missing frames, for missing, broken or wrongly sized annotations, and where no object is
    left.
    """
    file = folder.root / META
    objects = meta_objects(entry, file, video)
    frames = _frames(folder, video)
    labels = _labels(folder, video, frames, objects)
    kept = []
    for item in objects:
        masks = object_masks(labels, item.number, folder.first_only)
        first = masks[frames.names.index(item.frames[0])]
        shown = (first,) if folder.first_only else masks
        if any(mask is not None and area(mask) for mask in shown):
            kept.append(VideoObject(str(item.number), item.category, "youtube-vos", masks))
            continue
        where = f"in its first frame, {item.frames[0]}" if folder.first_only else "in any frame"
        on_problem(
            Problem(str(file), record=video, field=f"objects.{item.number}", reason=f"this object has no mask {where}")
        )
    if not kept:
        raise DataError(
            file,
            record=video,
            field="objects",
            reason="no object of this video has a mask",
            cure="fetch its annotations again",
        )
    listed_ids = [item.number for item in objects]
    for value in set(object_ids(labels)) - set(listed_ids):
        reason = f"label images show id {value}, which is not in {META}: its pixels count as void"
        on_problem(Problem(str(folder.root / "Annotations"), record=video, reason=reason, kind="note"))
    height, width = frames.size
    record = Video(
        video_id=video,
        dataset=name,
        split=split,
        height=height,
        width=width,
        fps=frames.fps,
        frame_names=tuple(frames.names),
        narratives=(),
        expressions=(),
        objects=tuple(kept),
        frames=frames,
    )
    return record, void_masks(labels, listed_ids)


def _frames(folder: YoutubeFolder, video: str) -> ImageFolder:
    path = inside(folder.frames, video)
    if not path.is_dir():
        raise DataError(
            path, record=video, reason="no folder of frames for this video", cure="fetch it, or check --frames"
        )
    frames = ImageFolder(path)
    numbers = [n for name in frames.names[:2] if (n := frame_number(name)) is not None]
    step = numbers[1] - numbers[0] if len(numbers) == 2 else 0
    frames.fps = CAMERA_FPS / step if step else 0.0
    return frames


def _labels(folder: YoutubeFolder, video: str, frames: ImageFolder, objects: list[MetaObject]) -> Labels:
    """Label images by frame, None where there is none; raises DataError for a missing one that meta.json requires."""
    annotations = inside(folder.root / "Annotations", video)
    annotated = {path.stem for path in annotations.glob("*.png")}
    needed = {frame for item in objects for frame in (item.frames[:1] if folder.first_only else item.frames)}
    for frames_of, reason in (
        (needed - set(frames.names), "of an object is not among the video's frames"),
        (needed - annotated, "of an object has no annotation"),
        (annotated - set(frames.names), "is annotated and is not among the video's frames"),
    ):
        if frames_of:
            name = min(frames_of)
            raise DataError(
                annotations, record=video, field=name, reason=f"frame {name} {reason}", cure="fetch the video again"
            )
    labels: list[np.ndarray | None] = []
    for name in frames.names:
        labels.append(read_labels(annotations / f"{name}.png", frames.size) if name in annotated else None)
    return labels


def youtube_vos_conversion(
    options: BuildOptions,
    *,
    root: Path,
    frames: Path | None = None,
    annotated: str | None = None,
    simulation: SimulationSettings | None = None,
) -> Conversion:
    """YouTube-VOS folders -> a VNG dataset with true masks on annotated frames, or points simulated from them."""
    folder = YoutubeFolder.of(root, frames, annotated)
    name, split = options.dataset or NAME, options.split or folder.split

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        for video, entry in meta_videos(folder, spool.problem):
            if wanted.video(video) and wanted.listed_video(video):
                spool.add(NARRATIVES, video, Item(video, "", entry))
        wanted.report_missing(spool, {NARRATIVES: folder.root / META})

    def make(spool: Spool, name_: str, problems: list[Problem]) -> list[Video]:
        (item,) = spool.items(NARRATIVES, name_)
        video, void = read_youtube_video(folder, name_, item.body, name, split, problems.append)
        return [video if simulation is None else simulate_points(video, void, simulation)]

    inputs = {"meta": folder.root / META, "annotations": folder.root / "Annotations"}
    more = simulation_settings(simulation, {"first_only": folder.first_only})
    return Conversion(kind="youtube-vos", title=name, inputs=inputs, options=options, read=read, make=make, more=more)
