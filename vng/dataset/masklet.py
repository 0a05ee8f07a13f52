"""The masks of one object over the frames of a video, as a dataset row holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from vng.dataset.packed import PackedMasks
from vng.masks import RLE, is_size, many_from_json
from vng.records import Reader

MASK_BYTES = 128  # of a mask in memory, beside its counts


class Masklet(Sequence["RLE | None"]):
    """The masks of one object; None where a frame is not annotated.

    A row has a mask for every frame and object, of which a training sample needs a few. So counts are checked when a
    mask is asked for, those of all masks together when all are.

    Args:
        size: (height, width) of all masks.
        counts: of each frame; None where it is not annotated.
        reader: the object in its row, which an error names.

    Raises:
        DataError: on access, for counts that are no compressed RLE of that size.
    """

    def __init__(self, size: tuple[int, int], counts: Sequence[str | None], reader: Reader) -> None:
        self.size = size
        self._counts = counts
        self._place = (reader.file, reader.record, reader.path)
        self._checked: set[int] = set()

    @property
    def annotated(self) -> np.ndarray:
        """Which frames are annotated, bool [T]."""
        return np.array([text is not None for text in self._counts], bool)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, roughly."""
        return sum(MASK_BYTES + len(text) for text in self._counts if text is not None)

    def _check(self, indices: Sequence[int]) -> None:
        try:
            many_from_json([{"size": list(self.size), "counts": self._counts[index]} for index in indices])
        except ValueError as error:
            place, _, reason = str(error).partition(": ")
            file, record, path = self._place
            field = f"segmentations[{indices[int(place[1:-1])]}]"
            raise Reader({}, file, record, path).error(field, reason) from error
        self._checked.update(indices)

    @overload
    def __getitem__(self, index: int) -> RLE | None: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[RLE | None, ...]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if (text := self._counts[index]) is None:
            return None
        place = index % len(self)
        if place not in self._checked:
            self._check([place])
        return RLE(self.size, text)

    def __iter__(self) -> Iterator[RLE | None]:
        unchecked = [i for i, text in enumerate(self._counts) if text is not None and i not in self._checked]
        if unchecked:
            self._check(unchecked)
        return (None if text is None else RLE(self.size, text) for text in self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Masklet | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.size, tuple(self._counts)))

    def __repr__(self) -> str:
        return f"Masklet of {len(self)} frames of {self.size[0]}x{self.size[1]}"


def read_masklet(values: Sequence[Any], reader: Reader) -> Sequence[RLE | None]:
    """The masks of an object of a row; raises DataError for values that are no segmentations."""
    if isinstance(values, PackedMasks):
        if "" not in values and is_size(values.size):
            return Masklet(values.size, values, reader)
        values = [None if text is None else {"size": list(values.size), "counts": text} for text in values]
    try:
        return tuple(many_from_json(values))
    except ValueError as error:
        place, _, reason = str(error).partition(": ")
        raise reader.error(f"segmentations{place}", reason) from error
