"""The errors of this package: each names the file, record and field, the reason and the cure.

`DataError` (exit status 1) is for faulty data, `UsageError` (exit status 2) for faulty calls.
`Problem` holds the same fields as a record, for work that continues past bad records.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

PROBLEMS_FILE = "problems.jsonl"
MOST_REASONS = 20


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

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.record, self.field) if part)
        return f"{place}: {self.reason}" + (f"; {self.cure}" if self.cure else "")


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
    lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: names may contain other line separators
    return [Problem(**json.loads(line)) for line in lines if line]


def summarise(problems: Iterable[Problem]) -> str:
    """One line per reason with its count, most frequent first; names and numbers are replaced by "..."."""
    counted = count_reasons(problems)
    lines = [f"  {count} x {kind}: {reason}" for (kind, reason), count in counted[:MOST_REASONS]]
    return "\n".join(lines + ["  ..."] * (len(counted) > MOST_REASONS))


def count_reasons(problems: Iterable[Problem]) -> list[tuple[tuple[str, str], int]]:
    """((kind, reason), count), most frequent first; names and numbers in reasons are replaced by "..."."""
    folded = ((problem.kind, re.sub(r"'[^']*'|\d+", "...", problem.reason.split(" (")[0])) for problem in problems)
    return Counter(folded).most_common()


class DataErrors(VngError):  # noqa: N818
    """The user's data has several faults, all reported at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(("note: " if p.kind == "note" else "") + str(p) for p in self.problems))

    def __reduce__(self) -> tuple[type, tuple[list[Problem]]]:
        return type(self), (self.problems,)
