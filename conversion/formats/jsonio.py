"""JSON lines, lists of masks, and writing of JSON; shared by all formats of annotations."""

from __future__ import annotations

import codecs
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, TypeVar

from vng.errors import DataError, Problem
from vng.manifest import open_atomic, write_atomic
from vng.masks import RLE, from_json
from vng.records import Reader
from vng.text_files import parse_json

T = TypeVar("T")
COPIED = 1 << 20  # characters at a time
OnProblem = Callable[[Problem], None]


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
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            record = f"line {number}"
            try:
                yield parse(parse_json(line, path, record, "fix or remove this line"), record)
            except DataError as error:
                if on_problem is None:
                    raise
                on_problem(error.problem)


def write_json_lines(values: Iterable[Any], path: Path) -> None:
    """Write one JSON value per line, all of them or no file."""
    with open_atomic(path) as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")


def write_json(value: Any, path: Path) -> None:
    """Write one JSON file, completely or not at all."""
    write_atomic(path, json.dumps(value, ensure_ascii=False) + "\n")


class JsonSection:
    """A list or an object of a JSON file, kept on disk while it is written item by item.

    Args:
        folder: where its scratch file lies, which has no name and goes with the process.
        brackets: "[]" for a list, "{}" for an object.
    """

    def __init__(self, folder: Path, brackets: str = "[]") -> None:
        self.brackets = brackets
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115
        self._separator = ""

    def add(self, value: Any, key: str | None = None) -> None:
        """Add an item; in an object, under a key that it does not have yet."""
        start = "" if key is None else json.dumps(key, ensure_ascii=False) + ": "
        self._file.write(self._separator + start + json.dumps(value, ensure_ascii=False))
        self._separator = ", "

    def copy_to(self, file: TextIO) -> None:
        """Write the section, as `json.dumps` would write it, and let go of the scratch file."""
        self._file.seek(0)
        file.write(self.brackets[0])
        shutil.copyfileobj(self._file, file, COPIED)
        file.write(self.brackets[1])
        self._file.close()


def write_json_sections(sections: Mapping[str, Any], path: Path) -> None:
    """Write one JSON object, completely or not at all; sections are copied, other values written as they are."""
    with open_atomic(path) as file:
        separator = "{"
        for key, value in sections.items():
            file.write(f"{separator}{json.dumps(key)}: ")
            separator = ", "
            if isinstance(value, JsonSection):
                value.copy_to(file)
            else:
                file.write(json.dumps(value, ensure_ascii=False))
        file.write("}\n")


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
