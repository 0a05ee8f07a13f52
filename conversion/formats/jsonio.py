"""Reader of annotation files, with errors that name file, record, field and cure; shared by all formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from vng.errors import DataError, Problem
from vng.masks import RLE, from_json

T = TypeVar("T")
OnProblem = Callable[[Problem], None]

_KINDS: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    list: "a list",
    dict: "an object",
    bool: "true or false",
}
_MISSING = object()
MOST = 1e9  # larger numbers, and NaN, are errors of the file


class Reader:
    """One JSON object of an annotation file, read field by field; every error becomes a DataError naming the place."""

    def __init__(self, value: Any, file: Path | str, record: str, path: str = "") -> None:
        self.file, self.record, self.path = file, record, path
        if not isinstance(value, dict):
            raise DataError(
                file,
                record=record,
                field=path,
                reason=f"expected an object, got {_show(value)}",
                cure="fix this record",
            )
        self.value = value

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path and key else self.path or key

    def error(self, key: str, reason: str, cure: str = "fix this record") -> DataError:
        """A DataError about one field of this object."""
        return DataError(self.file, record=self.record, field=self._at(key), reason=reason, cure=cure)

    def get(self, key: str, kind: type, default: Any = _MISSING) -> Any:
        """The field `key`, which must be of `kind` (float accepts an int); `default` where the key may be missing."""
        value = self.value.get(key, _MISSING)
        if value is _MISSING:
            if default is not _MISSING:
                return default
            raise self.error(key, "this key is missing")
        right = isinstance(value, kind) or (kind is float and isinstance(value, int))
        if not right or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"expected {_KINDS[kind]}, got {_show(value)}")
        if kind is float and not abs(value) < MOST:
            raise self.error(key, f"expected a number between -1e9 and 1e9, got {_show(value)}")
        if kind is str and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise self.error(key, "contains half a character (a lone surrogate)") from error
        return value

    def optional(self, key: str, kind: type) -> Any:
        """As `get`, but returns None for null or a missing key."""
        return None if self.value.get(key) is None else self.get(key, kind)

    def items(self, key: str, kind: type) -> list[Any]:
        """The list at `key`, whose items must all be of `kind`."""
        values = self.get(key, list)
        return [
            Reader({"": v}, self.file, self.record, f"{self._at(key)}[{i}]").get("", kind) for i, v in enumerate(values)
        ]

    def child(self, key: str) -> Reader:
        """The object at `key`."""
        return Reader(self.get(key, dict), self.file, self.record, self._at(key))

    def children(self, key: str) -> list[Reader]:
        """The list of objects at `key`."""
        items = self.get(key, list)
        return [Reader(item, self.file, self.record, f"{self._at(key)}[{i}]") for i, item in enumerate(items)]


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def load_json(path: Path) -> Any:
    """The value of a JSON file; raises DataError naming line and column where it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(path, reason="no such file", cure="check the path") from error
    except IsADirectoryError as error:
        raise DataError(path, reason="expected a file, got a folder", cure="check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(
            path, record=f"byte {error.start}", reason="not UTF-8 text", cure="fetch the file again"
        ) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(
            path, record=place, reason=f"broken JSON: {error.msg}", cure="fix the file, or fetch it again"
        ) from error


def iterate_json_lines(path: Path, parse: Callable[[Any, str], T], on_problem: OnProblem | None = None) -> Iterator[T]:
    """Parse a JSON-lines file one line at a time.

    Args:
        path: the file; blank lines are skipped.
        parse: makes a record of the line's value and its name ("line 7"); raises DataError.
        on_problem: receives each bad line, which is skipped; None raises at the first.
    """
    try:
        lines = path.open("rb")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(path, reason="no such file", cure="check the path") from error
    with lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            record = f"line {number}"
            try:
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    message = getattr(error, "msg", "not UTF-8 text" if isinstance(error, UnicodeError) else str(error))
                    raise DataError(
                        path, record=record, reason=f"broken JSON: {message}", cure="fix or remove this line"
                    ) from error
                yield parse(value, record)
            except DataError as error:
                if on_problem is None:
                    raise
                on_problem(error.problem)


def write_json_lines(values: Iterable[Any], path: Path) -> None:
    """Write one JSON value per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")


def write_json(value: Any, path: Path) -> None:
    """Write one JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


def any_id(reader: Reader, field: str) -> str:
    """An id as a string, from an integer of any size or a non-empty string; raises DataError."""
    value = reader.value.get(field)
    if value is None:
        raise reader.error(field, "this key is missing or null")
    if isinstance(value, bool | float | list | dict):
        raise reader.error(field, f"expected an integer or a string as id, got {str(value)[:40]}")
    text: str = str(value) if isinstance(value, int) else reader.get(field, str)
    if not text:
        raise reader.error(field, "this id is empty")
    return text


def read_rles(reader: Reader, field: str, values: list[Any], size: tuple[int, int]) -> list[RLE | None]:
    """The masks of a list [RLE | null], all of `size` (height, width); raises DataError naming the item."""
    masks: list[RLE | None] = []
    for index, value in enumerate(values):
        try:
            masks.append(rle := from_json(value))
        except ValueError as error:
            raise reader.error(f"{field}[{index}]", str(error)) from error
        if rle is not None and rle.size != size:
            reason = f"got a mask of {rle.size[0]}x{rle.size[1]}, the frames have {size[0]}x{size[1]}"
            raise reader.error(f"{field}[{index}]", reason)
    return masks
