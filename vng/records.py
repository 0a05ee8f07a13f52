"""Records of files from outside, read field by field: every error names file, record, field, reason and cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vng.errors import DataError, surrogate_problem
from vng.masks import is_side
from vng.text_files import RepeatedKeys

_KINDS: dict[type, str] = {
    str: "a string",
    bytes: "bytes",
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
        if isinstance(value, RepeatedKeys):
            raise DataError(
                file,
                record=record,
                field=self._at(value.repeated),
                reason="this key repeats: the first value would be lost",
                cure="rename one of the two",
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
        if kind is str and (problem := surrogate_problem(value)):
            raise self.error(key, problem)
        return value

    def side(self, key: str) -> int:
        """The height or width at `key`, in pixels."""
        value: int = self.get(key, int)
        if not is_side(value):
            raise self.error(key, f"expected a positive number of pixels, got {_show(value)}")
        return value

    def optional(self, key: str, kind: type) -> Any:
        """As `get`, but returns None for null or a missing key."""
        return None if self.value.get(key) is None else self.get(key, kind)

    def items(self, key: str, kind: type) -> list[Any]:
        """The list at `key`, whose items must all be of `kind`."""
        values: list[Any] = self.get(key, list)
        if kind is str and set(map(type, values)) <= {str} and all(map(str.isascii, values)):
            return list(values)
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
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):  # a number with thousands of digits, a very deep value
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."


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
