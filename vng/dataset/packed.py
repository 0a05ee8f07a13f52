"""Masks and points of a row as arrays: a row has thousands of them, for each of which an object would be made.

A value that is not as the writer writes it, such as a null where none belongs, takes the long way: as plain values, which
are checked one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vng.dataset.schema import arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa


class PackedMasks(list["str | None"]):
    """The masks of an object: the counts of each frame, all of one `size` (height, width)."""

    def __init__(self, size: tuple[int, int], counts: Sequence[str | None]) -> None:
        super().__init__(counts)
        self.size = size


class PackedPoints(list[None]):
    """The points of an object: `frame`, `x`, `y` and `label`, arrays [P]."""

    def __init__(self, frame: np.ndarray, x: np.ndarray, y: np.ndarray, label: np.ndarray) -> None:
        super().__init__([None] * len(frame))
        self.frame, self.x, self.y, self.label = frame, x, y, label


def packed_lists(array: pa.Array) -> list[Any] | None:
    """The lists of masks or points in an array, packed; None for other values."""
    if array.null_count:
        return None
    if array.type.equals(_type_of("segmentations")):
        return _packed_masks(array)
    return _packed_points(array) if array.type.equals(_type_of("points")) else None


@lru_cache(maxsize=2)
def _type_of(field: str) -> pa.DataType:
    """The type of a field of objects."""
    return arrow_schema().field("objects").type.value_type.field(field).type


def stretches(array: pa.Array) -> list[tuple[int, int]]:
    """Start and end of each list of an array among its flattened values; those of a null list are equal."""
    if array.null_count:
        ends = np.cumsum(array.value_lengths().fill_null(0).to_numpy()).tolist()
    else:
        offsets = array.offsets.to_numpy()
        ends = (offsets[1:] - offsets[0]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _packed_masks(array: pa.Array) -> list[Any] | None:
    values = array.flatten()
    sizes, texts = values.flatten()
    there = values.is_valid().to_numpy(zero_copy_only=False)
    numbers = sizes.flatten()
    whole = sizes.null_count == texts.null_count == values.null_count and not numbers.null_count
    if not whole or not (sizes.value_lengths().to_numpy(zero_copy_only=False)[there] == 2).all():
        return None
    sides = np.zeros((len(values), 2), np.int64)
    sides[there] = numbers.to_numpy().reshape(-1, 2)
    counts, masks = texts.to_numpy(zero_copy_only=False).tolist(), []
    for start, end in stretches(array):
        own = sides[start:end][there[start:end]]
        if not len(own) or (own != own[0]).any():
            return None
        masks.append(PackedMasks((int(own[0, 0]), int(own[0, 1])), counts[start:end]))
    return masks


def _packed_points(array: pa.Array) -> list[Any] | None:
    values = array.flatten()
    columns = values.flatten()
    if values.null_count or any(column.null_count for column in columns):
        return None
    arrays = dict(zip((field.name for field in values.type), (c.to_numpy() for c in columns), strict=True))
    return [PackedPoints(**{k: v[start:end] for k, v in arrays.items()}) for start, end in stretches(array)]
