"""Options by name: what a command and the Python function of its name both take, declared once.

The command line makes arguments of them (`vng.cli.options`), the Python functions check their keywords with `checked`.
Nothing heavy is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vng.errors import UsageError


def text(value: Any) -> str:
    """Any text."""
    return str(value)


def path(value: Any) -> Path:
    """A path."""
    return Path(value)


def positive(value: Any) -> int:
    """A whole number above 0."""
    number = _whole(value)
    if number < 1:
        raise UsageError(f"{value} is not a positive number")
    return number


def natural(value: Any) -> int:
    """A whole number from 0 on."""
    number = _whole(value)
    if number < 0:
        raise UsageError(f"{value} is negative")
    return number


def _whole(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{value!r} is not a whole number") from error
    if isinstance(value, float) and number != value:
        raise UsageError(f"{value!r} is not a whole number")
    return number


def real(value: Any) -> float:
    """A number."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{value!r} is not a number") from error


def frame_count(value: Any) -> int | str:
    """A positive number, or "all"."""
    return "all" if value == "all" else positive(value)


def split_name(value: Any) -> str:
    """Letters, digits and _."""
    if not re.fullmatch(r"\w*", str(value)):
        raise UsageError(f"{value!r} is no split name: letters, digits and _ only")
    return str(value)


def setting(value: Any) -> tuple[str, str]:
    """KEY=VALUE, as a pair."""
    if isinstance(value, tuple):
        return value
    key, equals, rest = str(value).partition("=")
    if not key or not equals:
        raise UsageError(f"{value!r} is not KEY=VALUE")
    return key, rest


@dataclass(frozen=True, kw_only=True)
class Option:
    """One thing that may be said to a command or a function.

    Attributes:
        name: as a Python keyword; `point_frames` is `--point-frames` on the command line.
        help: one line.
        type: makes the value of a text, or raises UsageError.
        default: where it is not given.
        required: whether it must be given.
        choices: the values that exist; () takes any.
        flag: true or false, without a value on the command line.
        many: several values; on the command line behind one another, or with `repeated` each behind its own `--name`.
        without: the value where the command line names the option and gives it no value; None wants a value.
        metavar: what help calls the value.
        group: the title of the group of options that help shows it in.
    """

    name: str
    help: str
    type: Callable[[Any], Any] = text
    default: Any = None
    required: bool = False
    choices: tuple[str, ...] = ()
    flag: bool = False
    many: bool = False
    repeated: bool = False
    without: Any = None
    metavar: str | None = None
    group: str = ""

    def value(self, given: Any) -> Any:
        """What was given, checked and converted; raises UsageError naming the option."""
        if given is None or given == self.default:
            return self.default
        if self.flag:
            return bool(given)
        values = list(given) if self.many or self.repeated else [given]
        made = []
        for item in values:
            try:
                made.append(self.type(item))
            except UsageError as error:
                raise UsageError(f"{self.name}: {error}") from error
            if self.choices and made[-1] not in self.choices:
                raise UsageError(f"{self.name}: {item!r}; choose one of: {', '.join(self.choices)}")
        return made if self.many or self.repeated else made[0]


def checked(options: Iterable[Option], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The values of all options by name, defaults where nothing is given.

    Args:
        options: those there are.
        given: values by name; None is as good as not given.
        what: what takes them, for messages.

    Raises:
        UsageError: an unknown name, a required one missing, a value that is none; all of them in one message.
    """
    known = {option.name: option for option in options}
    faults = [f"unknown option {name!r}" for name in given if name not in known]
    if faults:
        faults.append(f"known ones: {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, option in known.items():
        if option.required and given.get(name) is None:
            faults.append(f"{name} is required: {option.help}")
            continue
        try:
            values[name] = option.value(given.get(name))
        except UsageError as error:
            faults.append(str(error))
    if faults:
        raise UsageError(f"{what}: " + "; ".join(faults))
    return values
