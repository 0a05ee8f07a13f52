"""Label images of VOS datasets: object ids of a frame -> masks, and void for unlabelled pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vng.label_maps import VOID, check_smoothed, read_label_map
from vng.masks import RLE, encode

Labels = Sequence[np.ndarray | None]  # per frame, uint8 [H, W] of object ids; None where unannotated


Void = tuple[RLE | None, ...]  # per frame, the unlabelled pixels; None where there are none


def read_labels(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Object ids of one frame, uint8 [H, W]; raises DataError for a missing or broken image, another size or kind."""
    labels = read_label_map(path, size, noun="annotation", cure="fetch the clip again").astype(np.uint8)
    check_smoothed(path, labels)
    return labels


def object_ids(labels: Labels) -> list[int]:
    """The object ids that occur in any of the label images, ascending."""
    occurs = np.zeros(256, bool)
    for label in labels:
        if label is not None:
            occurs[np.unique(label)] = True
    occurs[[0, VOID]] = False
    return [int(i) for i in np.flatnonzero(occurs)]


def object_masks(labels: Labels, value: int, first_only: bool) -> tuple[RLE | None, ...]:
    """One object's masks over the frames: None where unannotated, empty where it is absent.

    With `first_only`, a label image annotates only the objects it shows: the others are unannotated in that frame.
    """
    masks = [None if label is None else label == value for label in labels]
    return tuple(None if mask is None or (first_only and not mask.any()) else encode(mask) for mask in masks)


def void_masks(labels: Labels, listed_ids: Sequence[int] | None = None) -> Void:
    """Per frame, the void pixels: those with the value VOID, and with `listed_ids`, those of any other id."""
    values = [VOID] if listed_ids is None else sorted(set(range(1, 256)) - set(listed_ids))
    void = [None if label is None else np.isin(label, values) for label in labels]
    return tuple(None if mask is None or not mask.any() else encode(mask) for mask in void)
