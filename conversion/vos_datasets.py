"""DAVIS folders -> a VNG dataset: true masks on every frame, no narratives.

ROOT/JPEGImages/<resolution>/<clip>/00000.jpg
ROOT/Annotations/<resolution>/<clip>/00000.png   object ids; 0 is background, 255 says nothing
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from conversion.build import BuildOptions, BuildResult
from vng.dataset import Video, VideoObject
from vng.dataset_writer import DatasetWriter
from vng.errors import PROBLEMS_FILE, DataError, Problem, read_problems
from vng.frames import ImageFolder
from vng.masks import RLE, encode

IGNORED = 255
FPS = 24.0
NAME, SPLIT = "DAVIS", "train"


def convert_davis(root: Path, out: Path, options: BuildOptions) -> BuildResult:
    """Every clip below `root` becomes a row; a clip with a missing or broken annotation is left out and reported.

    Raises:
        DataError: no clips below `root`, or none that could be used.
    """
    folders = sorted((root / "JPEGImages").glob("*/*/"))
    if not folders:
        raise DataError(root, "", "", "no DAVIS clips here", "give the folder that holds JPEGImages/ and Annotations/")
    folders = folders[: options.limit]
    names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
    settings = {"conversion": "davis", "clips": names, "link_frames": options.link_frames}
    writer = DatasetWriter(out, settings | {"dataset": options.dataset, "split": options.split})
    if not writer.complete:
        for index, folder in enumerate(tqdm(folders, desc="convert", unit="video", disable=not options.progress)):
            if not writer.done(index):
                _write_clip(writer, index, root, folder, options)
        writer.finish(len(folders), options.dataset or NAME, "Made by `vng convert davis`; true masks, no narratives.")
    return BuildResult(writer.totals, read_problems(out / PROBLEMS_FILE))


def _write_clip(writer: DatasetWriter, index: int, root: Path, folder: Path, options: BuildOptions) -> None:
    problems: list[Problem] = []
    rows = []
    linked = os.path.relpath(folder.resolve(), writer.out.resolve()) if options.link_frames else ""
    try:
        video = read_davis_clip(root, folder, options.dataset or NAME, options.split or SPLIT)
        rows.append(video.as_row(embed=not options.link_frames, frames_path=linked))
    except DataError as error:
        problems.append(error.problem)
    writer.write(index, rows, problems)


def read_davis_clip(root: Path, folder: Path, name: str = NAME, split: str = SPLIT) -> Video:
    """One clip as a record; raises DataError for a missing, broken or wrongly sized annotation."""
    frames = ImageFolder(folder, FPS)
    annotations = root / "Annotations" / folder.parent.name / folder.name
    labels = [read_labels(annotations / f"{frame}.png", frames.size) for frame in frames.names]
    ids = sorted({int(i) for label in labels for i in np.unique(label)} - {0, IGNORED})
    objects = tuple(VideoObject(str(i), "", "davis", _rles(labels, i)) for i in ids)
    height, width = frames.size
    return Video(folder.name, name, split, height, width, FPS, tuple(frames.names), (), (), objects, frames)


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
