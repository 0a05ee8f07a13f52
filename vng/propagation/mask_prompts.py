"""Mask prompts: a folder of 8-bit PNGs (palette or grey) named by frame, or one PNG of the first frame.

A pixel's value is its object; 0 is background, 255 is ignored (if there is no other value, 255 is the one object, as in
DAVIS 2016). A PNG is a prompt for the objects in it; one without objects means that all are absent from its frame.
Shapes: K objects, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from vng.errors import DataError, DataErrors, Problem
from vng.frames import Frames, visible_files
from vng.label_maps import VOID, check_smoothed, read_label_map
from vng.points import Points
from vng.propagation.point_prompts import Prompts
from vng.propagators import FramePrompts


class MaskPrompts(Mapping[int, FramePrompts]):
    """Masks of K objects by frame index, read from their files on access, so that long folders need no memory."""

    def __init__(self, files: Mapping[int, Path], values: tuple[int, ...]) -> None:
        self._files, self._values = dict(sorted(files.items())), values

    def __getitem__(self, frame: int) -> FramePrompts:
        labels = _read(self._files[frame])
        masks = [labels == value for value in self._values]
        absent = not labels.any()
        return FramePrompts(masks=tuple(mask if absent or mask.any() else None for mask in masks))

    def __iter__(self) -> Iterator[int]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def read_masks(path: Path, frames: Frames) -> Prompts:
    """Masks of a folder, or a single mask: of the frame with its name, else of the first frame.

    Raises:
        DataError: there is no such folder, or no mask or object in it. DataErrors: all masks that do not fit the video.
    """
    problems: list[Problem] = []
    files: dict[int, Path] = {}
    for file in _mask_files(path):
        t = frames.index_of(file.stem)
        if file == path:  # a single mask may have any name
            t = frames.names.index(file.stem) if file.stem in frames.names else 0
        if t is None:
            ends = f"name it by a frame, {frames.names[0]!r} to {frames.names[-1]!r}"
            problems.append(Problem(str(file), reason="the video has no frame of this name", cure=ends))
        elif t in files:
            problems.append(
                Problem(str(file), reason=f"{files[t].name} is of the same frame", cure="keep one of the two")
            )
        else:
            files[t] = file
    values, notes = _values(path, files, frames, problems)
    if problems:
        raise DataErrors(problems)
    names = tuple(str(1 if value == VOID else value) for value in values)
    return Prompts(names, MaskPrompts(files, values), tuple(Points.none() for _ in names), notes)


def _values(
    path: Path, files: Mapping[int, Path], frames: Frames, problems: list[Problem]
) -> tuple[tuple[int, ...], tuple[Problem, ...]]:
    """The values of objects, reading one mask at a time, and notes."""
    values: set[int] = set()
    notes: list[Problem] = []
    for t, file in sorted(files.items()):
        try:
            labels = _read(file)
        except DataError as error:
            problems.append(error.problem)
            continue
        if labels.shape != frames.size:
            sizes = "{}x{} pixels, the frames have {}x{}".format(*labels.shape, *frames.size)
            problems.append(
                Problem(
                    str(file),
                    record=f"frame {frames.names[t]}",
                    field="size",
                    reason=sizes,
                    cure="draw it at the video's size",
                )
            )
        own = {int(value) for value in np.unique(labels)}
        values |= own
        if own == {0}:
            reason = "no object in this mask: all objects are taken as absent from this frame"
            notes.append(Problem(str(file), record=f"frame {frames.names[t]}", reason=reason, kind="note"))
    objects = sorted(values - {0, VOID})
    if not objects and values == {0, VOID}:
        reason = "255 is the only value beside 0: it is taken as the object"
        notes.append(Problem(str(path), reason=reason, cure="write 1 for the object", kind="note"))
        objects = [VOID]
    if not objects and not problems:
        cure = "paint each object with a value from 1 to 254"
        raise DataError(path, reason="no object in the masks", cure=cure)
    return tuple(objects), tuple(notes)


def _mask_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix.lower() != ".png":
            cure = "give points with --points" if path.suffix.lower() in (".json", ".csv") else "save masks as PNG"
            raise DataError(path, reason="expected a folder of PNG masks, or one PNG", cure=cure)
        return [path]
    if not path.is_dir():
        raise DataError(path, reason="no such folder or PNG of masks", cure="check the path")
    files = visible_files(path, (".png",))
    if not files:
        points = any(file.suffix.lower() in (".json", ".csv") for file in path.iterdir())
        cure = "give points with --points FILE" if points else "save masks as PNG, named by frame"
        raise DataError(path, reason="no .png masks in this folder", cure=cure)
    return files


def _read(path: Path) -> np.ndarray:
    """A mask's values, uint8 [H, W]; raises DataError unless it is an 8-bit palette or grey image."""
    labels = read_label_map(path, noun="mask", cure="save it as PNG again").astype(np.uint8)
    check_smoothed(path, labels)
    return labels
