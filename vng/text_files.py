"""Text and JSON files from outside, read with errors that name file, place, reason and cure.

A byte-order mark, which editors on Windows write, is not part of the text. A key that repeats in a JSON object would
lose the value of the first: such an object is a `RepeatedKeys`, which readers refuse by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vng.errors import DataError

CHECK_PATH = "check the path"
BROKEN_JSON = "fix the file, or fetch it again"


class RepeatedKeys(dict[str, Any]):
    """A JSON object in which keys repeat; `repeated` is the first of them."""

    repeated: str


def read_text(path: Path, cure: str = CHECK_PATH) -> str:
    """The content of a UTF-8 file, with its line ends; raises DataError where there is none."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(path, reason="no such file", cure=cure) from error
    except IsADirectoryError as error:
        raise DataError(path, reason="expected a file, got a folder", cure=cure) from error
    except UnicodeDecodeError as error:
        raise DataError(path, record=f"byte {error.start}", reason="not UTF-8 text", cure="save it as UTF-8") from error
    except OSError as error:
        raise DataError(path, reason=f"cannot be read ({error.strerror})", cure=cure) from error


def load_json(path: Path, cure: str = CHECK_PATH) -> Any:
    """The value of a JSON file; raises DataError naming line and column where it is broken."""
    return parse_json(read_text(path, cure), path)


def parse_json(text: str | bytes, file: Path | str, record: str = "", cure: str = BROKEN_JSON) -> Any:
    """The value of a JSON text.

    Args:
        text: the JSON.
        file, record: where it stands, for messages; without a record, messages name line and column.
        cure: how to fix it, for messages.

    Raises:
        DataError: broken JSON, nested too deeply, or with a number of too many digits.
    """
    try:
        return json.loads(text, object_pairs_hook=object_of)
    except json.JSONDecodeError as error:
        place = record or f"line {error.lineno}, column {error.colno}"
        reason = f"broken JSON: {error.msg}"
        raise DataError(file, record=place, reason=reason, cure=cure) from error
    except (ValueError, RecursionError) as error:
        raise DataError(file, record=record, reason=f"broken JSON: {beyond_limits(error)}", cure=cure) from error


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON decoder's (key, value) pairs; a `RepeatedKeys` where a key repeats."""
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    keys = [key for key, _ in pairs]
    marked = RepeatedKeys(value)
    marked.repeated = next(key for index, key in enumerate(keys) if key in keys[:index])
    return marked


def beyond_limits(error: Exception) -> str:
    """The reason of an error that the JSON or YAML decoder raises for a text that it cannot hold."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeError):
        return "not UTF-8 text"
    return "a number of too many digits" if "digits" in str(error) else str(error)
