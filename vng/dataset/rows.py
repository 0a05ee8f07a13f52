"""Rows of Parquet files, or of a `datasets.Dataset`, read one at a time as plain values; nothing is copied to disk.

A row group is the least that can be read of a Parquet file. The writer bounds them by bytes, so that a row costs the
memory of its own group, however large the dataset.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vng.dataset.packed import packed_lists, stretches
from vng.dataset.schema import arrow_schema
from vng.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MEND = "run the same `vng convert` again, or fetch it again"
SCHEMA_PAGE = "see docs/formats.md"
OPEN_FILES = 4
BATCH = 1024  # rows of a few columns read at a time


class Rows(ABC):
    """Rows of the schema, by index."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, index: int) -> dict[str, Any]:
        """One row as plain values; null for a column that is missing. Raises DataError where it cannot be read."""

    @abstractmethod
    def columns(self, *names: str) -> Iterator[dict[str, Any]]:
        """Some columns of all rows; the others are not read."""


class ParquetRows(Rows):
    """Rows of Parquet files, in order.

    Raises:
        DataError: naming the file that is damaged or has columns of another type.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = [(file, file.stat().st_mtime_ns) for file in files]
        counts: list[int] = []
        self._names: list[list[str]] = []  # columns of each file that are ours
        self._groups: list[tuple[int, int]] = []  # (file, row group) of each group
        for number, (file, changed) in enumerate(self.files):
            with _naming(file):
                opened = _opened(file, changed)
                self._names.append(_checked_columns(opened.schema_arrow, file))
                metadata = opened.metadata
                counts += [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
                self._groups += [(number, i) for i in range(metadata.num_row_groups)]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._held: tuple[int, pa.Table] | None = None  # a group of several rows, for reading in order

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}

    def row(self, index: int) -> dict[str, Any]:
        group = int(np.searchsorted(self._ends, index, side="right"))
        number, place = self._groups[group]
        file, changed = self.files[number]
        with _naming(file):
            if self._held is not None and self._held[0] == group:
                table = self._held[1]
            else:
                self._held = None
                table = _opened(file, changed).read_row_group(place, columns=self._names[number], use_threads=False)
                self._held = (group, table) if len(table) > 1 else None
            return _plain_row(table.slice(index - (int(self._ends[group]) - len(table)), 1), file)

    def columns(self, *names: str) -> Iterator[dict[str, Any]]:
        for (file, changed), own in zip(self.files, self._names, strict=True):
            with _naming(file):
                opened = _opened(file, changed)
                present = [name for name in names if name in own]
                for batch in opened.iter_batches(BATCH, columns=present, use_threads=False):
                    values = {name: plain(batch.column(name)) for name in present}
                    for place in range(len(batch)):
                        yield {name: values[name][place] if name in values else None for name in names}


class TableRows(Rows):
    """Rows of a `datasets.Dataset`, which may have been filtered, mapped or selected; images stay encoded.

    Raises:
        DataError: columns are missing or have another type.
    """

    def __init__(self, dataset: Any, path: Path) -> None:
        from datasets import Dataset

        if not isinstance(dataset, Dataset):
            cure = "give a datasets.Dataset (a split of a DatasetDict), a folder or a hub id"
            raise DataError(path, reason=f"expected a datasets.Dataset, got {type(dataset).__name__}", cure=cure)
        names = arrow_schema().names
        if missing := sorted(set(names) - set(dataset.column_names)):
            reason = f"columns are missing: {', '.join(missing)}"
            raise DataError(path, field=missing[0], reason=reason, cure=SCHEMA_PAGE)
        self.path = path
        self._table = dataset.select_columns(names).with_format("arrow")
        self.fingerprint = str(dataset._fingerprint)
        _checked_columns(self._table.features.arrow_schema, path)

    def __len__(self) -> int:
        return len(self._table)

    def row(self, index: int) -> dict[str, Any]:
        with _naming(self.path):
            return _plain_row(self._table[index], self.path)

    def columns(self, *names: str) -> Iterator[dict[str, Any]]:
        with _naming(self.path):
            for batch in self._table.select_columns(list(names)).iter(BATCH):
                yield from _plain_rows(batch, self.path)


@lru_cache(maxsize=OPEN_FILES)
def _opened(file: Path, changed: int) -> pq.ParquetFile:
    """An open file; `changed` tells it from a later one of the same name."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(file, page_checksum_verification=True)


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Turn whatever Arrow raises for a damaged file into a DataError that names it."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(file, reason=f"this shard is damaged ({type(error).__name__})", cure=MEND) from error


def _checked_columns(schema: pa.Schema, file: Path) -> list[str]:
    """The columns of a file that are ours; raises DataError for one of another type, or where there are no video ids."""
    names = set(schema.names)
    for field in arrow_schema():
        if field.name in names and not _alike(schema.field(field.name).type, field.type):
            reason = f"values of another type ({str(schema.field(field.name).type)[:60]})"
            raise DataError(file, field=field.name, reason=reason, cure=SCHEMA_PAGE)
    if "video_id" not in names:
        reason = "columns are missing: " + ", ".join(name for name in arrow_schema().names if name not in names)
        raise DataError(file, field="video_id", reason=reason, cure=SCHEMA_PAGE)
    return [name for name in arrow_schema().names if name in names]


def _alike(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of a type may be cast to that of the schema: other widths, large or encoded strings, only nulls."""
    from pyarrow import types

    if types.is_dictionary(given):
        given = given.value_type
    if types.is_null(given):
        return True
    if types.is_struct(wanted):
        names = {field.name for field in given} if types.is_struct(given) else set()
        return types.is_struct(given) and all(
            _alike(given.field(field.name).type, field.type) for field in wanted if field.name in names
        )
    if types.is_list(wanted):
        lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
        return any(kind(given) for kind in lists) and _alike(given.value_type, wanted.value_type)
    kinds = {
        types.is_string: (types.is_string, types.is_large_string, types.is_string_view),
        types.is_binary: (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary),
        types.is_integer: (types.is_integer,),
        types.is_floating: (types.is_floating, types.is_integer),
    }
    return any(is_wanted(wanted) and any(kind(given) for kind in like) for is_wanted, like in kinds.items())


def _plain_row(table: pa.Table, file: Path) -> dict[str, Any]:
    """The one row of a table."""
    (row,) = _plain_rows(table, file)
    return dict.fromkeys(arrow_schema().names) | row


def _plain_rows(table: pa.Table, file: Path) -> list[dict[str, Any]]:
    """Rows of a table as plain values; raises DataError naming a column whose values are not of our type."""
    import pyarrow as pa

    columns = {}
    for field in (arrow_schema().field(name) for name in table.column_names):
        values = table.column(field.name)
        try:
            columns[field.name] = plain(values if values.type.equals(field.type) else values.cast(field.type))
        except (pa.ArrowException, NotImplementedError) as error:
            reason = f"values of another type ({type(error).__name__})"
            raise DataError(file, field=field.name, reason=reason, cure=SCHEMA_PAGE) from error
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def plain(array: pa.Array) -> list[Any]:
    """As `array.to_pylist()`, column by column, which is several times as fast for nested values."""
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in plain(chunk)]
    if not len(array):
        return []
    if (packed := packed_lists(array)) is not None:
        return packed
    if pa.types.is_list(array.type):
        values = plain(array.flatten())
        items = [values[start:end] for start, end in stretches(array)]
        return _with_nulls(items, array)
    if pa.types.is_struct(array.type):
        names = [field.name for field in array.type]
        rows = zip(*map(plain, array.flatten()), strict=True)
        return _with_nulls([dict(zip(names, values, strict=True)) for values in rows], array)
    if array.null_count == 0 or pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        return array.to_numpy(zero_copy_only=False).tolist()
    return array.to_pylist()


def _with_nulls(items: list[Any], array: pa.Array) -> list[Any]:
    if not array.null_count:
        return items
    there = array.is_valid().to_numpy(zero_copy_only=False)
    return [item if valid else None for item, valid in zip(items, there, strict=True)]
