"""The one family of errors: what came, where, what is wrong with it, and the cure.

`DataError` (exit status 1) blames the user's data, `UsageError` (exit status 2) the call.
`Problem` is the same knowledge as a record, for work that goes on past a bad record.
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
    """One thing wrong with one record of the user's data."""

    file: str  # the file it was read from
    _: KW_ONLY
    record: str = ""  # which record of that file: a line number, a key, a video
    field: str = ""  # which field of the record, dotted; "" for the whole record
    reason: str  # what came and what was expected
    cure: str = ""  # what to do next
    kind: str = "error"  # "error": left out of the result; "note": kept, or meant to be left out

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.record, self.field) if part)
        return f"{place}: {self.reason}" + (f"; {self.cure}" if self.cure else "")


class VngError(Exception):
    """Base of every error this package raises on purpose; `exit_status` is what the command returns."""

    exit_status = 1


class DataError(VngError):
    """The user's data is wrong; carries a `Problem`."""

    def __init__(self, file: object, *, record: object = "", field: str = "", reason: str, cure: str = "") -> None:
        self.problem = Problem(str(file), record=str(record), field=field, reason=reason, cure=cure)
        super().__init__(str(self.problem))

    def __reduce__(self) -> tuple[Any, ...]:  # errors cross borders of processes
        return _data_error, (type(self), self.problem)


def _data_error(kind: type[DataError], problem: Problem) -> DataError:
    known = {"record": problem.record, "field": problem.field, "reason": problem.reason, "cure": problem.cure}
    return kind(problem.file, **known)


class UsageError(VngError):
    """The call is wrong: an unknown engine, setting or option value."""

    exit_status = 2


def one_of(value: str, known: Iterable[str], what: str) -> str:
    """Return `value` if it is among `known`; raise UsageError naming the choices otherwise."""
    names = sorted(known)
    if value not in names:
        raise UsageError(f"unknown {what} {value!r}; choose one of: {', '.join(names)}")
    return value


def as_lines(problems: Iterable[Problem]) -> str:
    """Problems as JSON lines, one problem a line, in the order given."""
    return "".join(json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems)


def read_problems(path: Path) -> list[Problem]:
    """Read a file of `as_lines`; no file means no problems."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: names may hold other line separators
    return [Problem(**json.loads(line)) for line in lines if line]


def summarise(problems: Iterable[Problem]) -> str:
    """One line per kind of reason with its count, most frequent first; names and numbers are folded together."""
    counted = count_reasons(problems)
    lines = [f"  {count} x {kind}: {reason}" for (kind, reason), count in counted[:MOST_REASONS]]
    return "\n".join(lines + ["  ..."] * (len(counted) > MOST_REASONS))


def count_reasons(problems: Iterable[Problem]) -> list[tuple[tuple[str, str], int]]:
    """((kind, reason), count), most frequent first; what differs from record to record is folded to "..."."""
    folded = ((problem.kind, re.sub(r"'[^']*'|\d+", "...", problem.reason.split(" (")[0])) for problem in problems)
    return Counter(folded).most_common()


class DataErrors(VngError):  # noqa: N818
    """Several things are wrong with the user's data; all of them are said at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(("note: " if p.kind == "note" else "") + str(p) for p in self.problems))

    def __reduce__(self) -> tuple[type, tuple[list[Problem]]]:
        return type(self), (self.problems,)
