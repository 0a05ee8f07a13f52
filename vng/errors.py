"""The errors of this package: each names the file, record and field, the reason and the cure.

`DataError` (exit status 1) is for faulty data, `UsageError` (exit status 2) for faulty calls.
`Problem` holds the same fields as a record, for work that continues past bad records.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

PROBLEMS_FILE = "problems.jsonl"
MOST_REASONS = 20
MOST_LISTED = 20  # problems of one reason in a message


@dataclass(frozen=True)
class Problem:
    """One fault of one record of the user's data."""

    file: str  # the file it was read from
    _: KW_ONLY
    record: str = ""  # which record of that file: a line number, a key, a video
    field: str = ""  # which field of the record, dotted; "" for the whole record
    reason: str  # the fault: what was found, what was expected
    cure: str = ""  # how to fix it
    kind: str = "error"  # "error": left out of the result; "note": kept, or left out on purpose

    def __post_init__(self) -> None:
        # Texts come from files: half a character (a lone surrogate) cannot be written, and is shown as its code.
        for name in ("file", "record", "field", "reason", "cure"):
            if not (text := getattr(self, name)).isascii():
                object.__setattr__(self, name, text.encode("utf-8", "backslashreplace").decode())

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.record, self.field) if part)
        return printable(f"{place}: {self.reason}" + (f"; {self.cure}" if self.cure else ""))


def printable(text: str) -> str:
    """A text with its control characters as codes (\\x1b): in a terminal they could hide or change other lines."""
    if text.isprintable():
        return text
    return "".join(c if unicodedata.category(c)[0] != "C" else c.encode("unicode_escape").decode() for c in text)


def surrogate_problem(text: str) -> str:
    """Why a text of a file cannot be written as UTF-8; "" where it can."""
    whole = text.isascii() or text == text.encode("utf-8", "replace").decode()
    return "" if whole else "contains half a character (a lone surrogate)"


class VngError(Exception):
    """Base class of this package's errors; `exit_status` is that of the command."""

    exit_status = 1


class DataError(VngError):
    """The user's data is faulty; `problem` holds the details."""

    def __init__(self, file: object, *, record: object = "", field: str = "", reason: str, cure: str = "") -> None:
        self.problem = Problem(str(file), record=str(record), field=field, reason=reason, cure=cure)
        super().__init__(str(self.problem))

    def __reduce__(self) -> tuple[Any, ...]:  # errors are sent between processes
        return _data_error, (type(self), self.problem)


def _data_error(kind: type[DataError], problem: Problem) -> DataError:
    fields = {"record": problem.record, "field": problem.field, "reason": problem.reason, "cure": problem.cure}
    return kind(problem.file, **fields)


class UsageError(VngError):
    """The call is faulty: an unknown engine, setting or option value."""

    exit_status = 2


def one_of(value: str, choices: Iterable[str], what: str) -> str:
    """Return `value` if it is one of `choices`; raises UsageError naming them otherwise."""
    names = sorted(choices)
    if value not in names:
        raise UsageError(f"unknown {what} {value!r}; choose one of: {', '.join(names)}")
    return value


def as_lines(problems: Iterable[Problem]) -> str:
    """Problems as JSON lines, one problem per line, in order."""
    return "".join(json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems)


def read_problems(path: Path) -> list[Problem]:
    """Read a file written with `as_lines`; [] if it does not exist."""
    if not path.exists():
        return []
    # Not splitlines: names may contain other line separators.
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [_read_problem(path, number, line) for number, line in enumerate(lines, 1) if line]


def _read_problem(path: Path, number: int, line: str) -> Problem:
    try:
        fields = json.loads(line)
        if isinstance(fields, dict) and all(isinstance(value, str) for value in fields.values()):
            return Problem(**fields)
        reason = "expected an object of strings"
    except (ValueError, TypeError, RecursionError) as error:
        reason = f"this line is damaged ({type(error).__name__})"
    raise DataError(path, record=f"line {number}", reason=reason, cure="run the same `vng convert` again")


def summarise(problems: Iterable[Problem]) -> str:
    """One line per reason with its count, most frequent first; names and numbers are replaced by "...".

    A reason that occurs once stands with its file and record, others with those of the first.
    """
    problems = list(problems)
    first: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        first.setdefault(_folded(problem), problem)
    counted = count_reasons(problems)
    lines = []
    for key, count in counted[:MOST_REASONS]:
        kind, reason = key
        if count == 1:
            lines.append(f"  1 x {kind}: {first[key]}")
        else:
            place = ": ".join(part for part in (first[key].record, first[key].field) if part)
            lines.append(printable(f"  {count} x {kind}: {reason}" + (f" (first: {place})" if place else "")))
    return "\n".join(lines + ["  ..."] * (len(counted) > MOST_REASONS))


def listed(problems: Iterable[Problem], most: int) -> list[str]:
    """One line per problem; of each reason at most `most`, then a line with the number of the others."""
    problems = list(problems)
    lines, shown = [], Counter[tuple[str, str]]()
    for problem in problems:
        key = _folded(problem)
        shown[key] += 1
        if shown[key] <= most:
            lines.append(str(problem))
    more = [(reason, count - most) for (_, reason), count in shown.items() if count > most]
    return lines + [printable(f"... and {count:,} more: {reason}") for reason, count in more]


def _folded(problem: Problem) -> tuple[str, str]:
    return problem.kind, re.sub(r"'[^']*'|\d+", "...", problem.reason.split(" (")[0])


def count_reasons(problems: Iterable[Problem]) -> list[tuple[tuple[str, str], int]]:
    """((kind, reason), count), most frequent first; names and numbers in reasons are replaced by "..."."""
    return Counter(map(_folded, problems)).most_common()


class DataErrors(VngError):  # noqa: N818
    """The user's data has several faults, all reported at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        notes = [problem for problem in self.problems if problem.kind == "note"]
        errors = [problem for problem in self.problems if problem.kind != "note"]
        lines = listed(errors, MOST_LISTED) + [f"note: {line}" for line in listed(notes, MOST_LISTED)]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type, tuple[list[Problem]]]:
        return type(self), (self.problems,)
