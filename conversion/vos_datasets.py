"""DAVIS folders -> a VNG dataset: true masks on every frame, no narratives.

ROOT/JPEGImages/<resolution>/<clip>/00000.jpg
ROOT/Annotations/<resolution>/<clip>/00000.png   object ids; 0 is background, 255 says nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vng.dataset import Video, VideoObject
from vng.errors import DataError
from vng.frames import ImageFolder
from vng.masks import RLE, encode

IGNORED = 255
FPS = 24.0
NAME, SPLIT = "DAVIS", "train"
Void = tuple[RLE | None, ...]  # per frame, the pixels that nobody has labelled; None where there are none


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


def read_davis_clip(root: Path, folder: Path, name: str = NAME, split: str = SPLIT) -> tuple[Video, Void]:
    """One clip as a record, and its void; raises DataError for a missing, broken or wrongly sized annotation."""
    frames = ImageFolder(folder, FPS)
    annotations = root / "Annotations" / folder.parent.name / folder.name
    labels = [read_labels(annotations / f"{frame}.png", frames.size) for frame in frames.names]
    void = tuple(encode(label == IGNORED) if (label == IGNORED).any() else None for label in labels)
    ids = sorted({int(i) for label in labels for i in np.unique(label)} - {0, IGNORED})
    objects = tuple(VideoObject(str(i), "", "davis", _rles(labels, i)) for i in ids)
    height, width = frames.size
    return Video(folder.name, name, split, height, width, FPS, tuple(frames.names), (), (), objects, frames), void


def _rles(labels: Sequence[np.ndarray], value: int) -> tuple[RLE, ...]:
    return tuple(encode(label == value) for label in labels)


def read_labels(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Object ids of one frame, uint8 [H, W]; a mask of 0 and 255 alone (as DAVIS 2016 has it) is one object."""
    try:
        with Image.open(path) as image:
            labels = np.array(image)
    except OSError as error:
        raise DataError(path, "", "", "no annotation, or none that opens", "fetch the clip again") from error
    if labels.shape != size:
        raise DataError(path, "", "size", f"{list(labels.shape)}, the frames have {list(size)}", "fetch the clip again")
    if set(np.unique(labels)) == {0, IGNORED}:
        labels = (labels == IGNORED).astype(np.uint8)
    return labels
