"""Folders of frames and label images -> videos with true masks; DAVIS's layout (YouTube-VOS: `youtube_vos`).

ROOT/JPEGImages/<resolution>/<clip>/00000.jpg
ROOT/Annotations/<resolution>/<clip>/00000.png   object ids; 0 is background, 255 says nothing
ROOT/ImageSets/<year>/<set>.txt                  one clip a line
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vng.dataset import Video, VideoObject
from vng.errors import DataError, Problem, UsageError
from vng.frames import ImageFolder, inside
from vng.label_maps import VOID, read_label_map
from vng.masks import RLE, encode

FPS = 24.0
NAME, SPLIT, ANNOTATIONS = "DAVIS", "train", "Annotations"
Labels = Sequence[np.ndarray | None]  # per frame, uint8 [H, W] of object ids; None where not annotated
Void = tuple[RLE | None, ...]  # per frame, the pixels that nobody has labelled; None where there are none


@dataclass(frozen=True)
class DavisSettings:
    """Which clips of a DAVIS folder are taken, and as what."""

    image_set: str = ""  # below ImageSets/, such as "2017/val"; "" takes every clip
    merge_objects: bool = False  # all objects become one, as DAVIS 2016 has them

    @property
    def split(self) -> str:
        """The split of the rows: the set's own name."""
        return re.sub(r"\W", "_", Path(self.image_set).stem) if self.image_set else SPLIT

    @property
    def first_only(self) -> bool:
        """Whether the publisher keeps all annotations but the first frame's to himself (test-dev, test-challenge)."""
        return self.split.startswith("test")


def davis_clips(root: Path) -> dict[str, Path]:
    """Clip -> its folder of frames, by name; raises DataError where there are none, or one has several resolutions."""
    folders = sorted((root / "JPEGImages").glob("*/*/"))
    if not folders:
        raise DataError(root, "", "", "no DAVIS clips here", "give the folder that holds JPEGImages/ and Annotations/")
    clips: dict[str, Path] = {}
    for folder in folders:
        if folder.name in clips:
            reason = f"this clip is there twice: in {clips[folder.name].parent.name} and in {folder.parent.name}"
            raise DataError(root, folder.name, "", reason, "keep one resolution below JPEGImages/")
        clips[folder.name] = folder
    return dict(sorted(clips.items()))


def image_set_file(root: Path, image_set: str) -> Path:
    """The list of an image set; raises UsageError for one that is not there, naming those that are."""
    sets = root / "ImageSets"
    file = sets / (image_set if image_set.endswith(".txt") else f"{image_set}.txt")
    if not file.is_file():
        known = sorted(str(path.relative_to(sets).with_suffix("")) for path in sets.glob("*/*.txt"))
        raise UsageError(f"--image-set {image_set}: not below {sets}; there are: {', '.join(known) or 'none'}")
    return file


def listed_clips(file: Path, clips: dict[str, Path], on_problem: Callable[[Problem], None]) -> list[str]:
    """The clips that the list of an image set names, in its order; what is not among `clips` goes to `on_problem`."""
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not (name := line.strip()):
            continue
        try:
            inside(file.parent, name)
            if name not in clips:
                reason = f"clip {name!r} is not below JPEGImages/"
                raise DataError(file, f"line {number}", "", reason, "fetch the clip, or mend the list")
            found.append(name)
        except DataError as error:
            on_problem(error.problem)
    return list(dict.fromkeys(found))


def read_davis_clip(
    root: Path,
    folder: Path,
    name: str = NAME,
    split: str = SPLIT,
    settings: DavisSettings | None = None,
    annotations_folder: str = ANNOTATIONS,
) -> tuple[Video, Void]:
    """One clip as a record, and its void; raises DataError for a missing, broken or wrongly sized annotation."""
    settings = settings or DavisSettings()
    frames = ImageFolder(folder, FPS)
    annotations = root / annotations_folder / folder.parent.name / folder.name
    labels: list[np.ndarray | None] = []
    for index, frame in enumerate(frames.names):
        path = annotations / f"{frame}.png"
        left_out = settings.first_only and index > 0 and not path.exists()
        labels.append(None if left_out else read_labels(path, frames.size))
    ids = object_ids(labels)
    if not ids and any(VOID in label for label in labels if label is not None):  # DAVIS 2016: 0 and 255 alone
        labels, ids = [None if label is None else (label == VOID).astype(np.uint8) for label in labels], [1]
    if not ids:
        raise DataError(annotations, "", "", "no object in any annotation of this clip", "fetch the clip again")
    if settings.merge_objects:
        labels, ids = [None if label is None else _merged(label) for label in labels], [1]
    objects = tuple(VideoObject(str(i), "", "davis", object_masks(labels, i, settings.first_only)) for i in ids)
    height, width = frames.size
    video = Video(folder.name, name, split, height, width, FPS, tuple(frames.names), (), (), objects, frames)
    return video, void_masks(labels)


def _merged(label: np.ndarray) -> np.ndarray:
    return np.where((label > 0) & (label != VOID), np.uint8(1), label)


def read_labels(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Object ids of one frame, uint8 [H, W]; DataError for an image that is missing, broken, of another size or kind."""
    return read_label_map(path, size, noun="annotation", cure="fetch the clip again").astype(np.uint8)


def object_ids(labels: Labels) -> list[int]:
    """The object ids that any of the label images shows, ascending."""
    seen = np.zeros(256, bool)
    for label in labels:
        if label is not None:
            seen[np.unique(label)] = True
    seen[[0, VOID]] = False
    return [int(i) for i in np.flatnonzero(seen)]


def object_masks(labels: Labels, value: int, first_only: bool) -> tuple[RLE | None, ...]:
    """One object's masks over the frames: None where not annotated, empty where it is absent.

    With `first_only`, a label image tells of the objects it shows and of no others: those are not annotated in it.
    """
    masks = [None if label is None else label == value for label in labels]
    return tuple(None if mask is None or (first_only and not mask.any()) else encode(mask) for mask in masks)


def void_masks(labels: Labels, known: Sequence[int] | None = None) -> Void:
    """Per frame the pixels that say nothing: VOID ones, and with `known` those of any other id."""
    values = [VOID] if known is None else sorted(set(range(1, 256)) - set(known))
    void = [None if label is None else np.isin(label, values) for label in labels]
    return tuple(None if mask is None or not mask.any() else encode(mask) for mask in void)
