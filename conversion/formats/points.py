"""Reader of point files in any published form: one JSON object, JSON lines, or a folder of PNGs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conversion.formats.json_stream import iterate_json_object
from conversion.formats.jsonio import OnProblem, iterate_json_lines
from conversion.formats.point_vos import _ENTRY, PointRecord, from_json
from vng.errors import DataError
from vng.records import Reader

_LONGEST_LINE = 1 << 24  # bytes; a longer first line is a whole file without line ends


def read_points(path: Path, on_problem: OnProblem | None = None) -> Iterator[PointRecord]:
    """Read points record by record: Oops JSON, Kinetics JSON lines (distinguished by content), or a folder of PNGs.

    Bad records go to `on_problem`; DataError is raised where it is None, and always for a file that is broken as a
    whole or cut short.
    """
    if path.is_dir():
        from conversion.formats.point_pngs import read_point_pngs

        yield from read_point_pngs(path, on_problem)
    elif _is_json_lines(path):
        for records in iterate_json_lines(path, lambda value, line: _parse_line(path, value, line), on_problem):
            yield from records
    else:
        yield from iterate_json_object(path, lambda key, value: from_json(key, value, path), on_problem, _ENTRY)


def _is_json_lines(path: Path) -> bool:
    if path.suffix == ".jsonl":
        return True
    try:
        with path.open("rb") as file:
            lines = iter(lambda: file.readline(_LONGEST_LINE), b"")
            first = next((line for line in lines if line.strip()), b"")
            second = next((line for line in lines if line.strip()), b"")
    except FileNotFoundError as error:
        raise DataError(path, reason="no such file", cure="check --points") from error
    # In JSON lines, every line is a closed object; a single-line Oops file has only one such line.
    return first.rstrip().endswith(b"}") and second.lstrip().startswith(b"{")


def _parse_line(path: Path, value: Any, line: str) -> list[PointRecord]:
    reader = Reader(value, path, line)
    return [from_json(key, item, path, f"{line}: {key}") for key, item in reader.value.items()]
