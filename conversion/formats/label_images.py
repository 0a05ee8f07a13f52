"""Label images of VOS datasets: object ids of a frame -> masks, with what nobody has labelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vng.label_maps import VOID, read_label_map
from vng.masks import RLE, encode

Labels = Sequence[np.ndarray | None]  # per frame, uint8 [H, W] of object ids; None where not annotated


Void = tuple[RLE | None, ...]  # per frame, the pixels that nobody has labelled; None where there are none


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
