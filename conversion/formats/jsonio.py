"""JSON lines, lists of masks, and writing of JSON; shared by all formats of annotations."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from vng.errors import DataError, Problem
from vng.manifest import write_atomic
from vng.masks import RLE, from_json
from vng.records import Reader
from vng.text_files import parse_json

T = TypeVar("T")
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
    """Write one JSON value per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")


def write_json(value: Any, path: Path) -> None:
    """Write one JSON file, completely or not at all."""
    write_atomic(path, json.dumps(value, ensure_ascii=False) + "\n")


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
