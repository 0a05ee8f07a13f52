"""What the tests of readers of annotation tools share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from vng.errors import Problem
from vng.masks import RLE
from vng.own_clips import ClipObject, Frame, OwnClip

Read = tuple[list[OwnClip], list[Problem]]


def read(reader: Callable[..., Iterator[OwnClip]], path: Path) -> Read:
    """The clips and problems of a file."""
    problems: list[Problem] = []
    return list(reader(path, problems.append)), problems


def masks_of(item: ClipObject) -> dict[Frame, RLE]:
    """The masks of an object by frame, those of absences left out."""
    return {mask.frame: mask.mask for mask in item.masks if mask.frame is not None and isinstance(mask.mask, RLE)}
