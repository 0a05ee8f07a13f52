"""Options shared by a command and the Python function of the same name, declared once.

The command line turns them into arguments (`vng.cli.options`); the Python functions validate keywords with `checked`.
No heavy imports here, so that `--help` is fast.
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
    """A path; "~" is the user's home folder, also where no shell has replaced it."""
    return Path(value).expanduser()


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
        raise UsageError(f"{value!r} is not a split name: use letters, digits and _ only")
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
    """One option of a command or function.

    Attributes:
        name: the Python keyword; `point_frames` is `--point-frames` on the command line.
        help: one line.
        type: converts a text to a value, or raises UsageError.
        default: the value if the option is not given.
        required: whether it must be given.
        choices: the allowed values; (): any.
        flag: true or false, without a value on the command line.
        many: several values after one `--name` on the command line.
        repeated: several values, each after its own `--name`.
        without: the value of `--name` given alone on the command line; None: a value is required.
        metavar: name of the value in help.
        group: title of its group of options in help.
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

    def value(self, raw: Any) -> Any:
        """A value, validated and converted; raises UsageError naming the option."""
        if raw is None or raw == self.default:
            return self.default
        if self.flag:
            return bool(raw)
        values = list(raw) if self.many or self.repeated else [raw]
        converted = []
        for item in values:
            try:
                converted.append(self.type(item))
            except UsageError as error:
                raise UsageError(f"{self.name}: {error}") from error
            if self.choices and converted[-1] not in self.choices:
                raise UsageError(f"{self.name}: {item!r}; choose one of: {', '.join(self.choices)}")
        return converted if self.many or self.repeated else converted[0]


def checked(options: Iterable[Option], keywords: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The values of all options by name, with defaults for those not given.

    Args:
        options: all options.
        keywords: values by name; None counts as not given.
        label: the command, for messages.

    Raises:
        UsageError: unknown options, missing required ones and invalid values, all in one message.
    """
    by_name = {option.name: option for option in options}
    faults = [f"unknown option {name!r}" for name in keywords if name not in by_name]
    if faults:
        faults.append(f"known ones: {', '.join(by_name)}")
    values: dict[str, Any] = {}
    for name, option in by_name.items():
        if option.required and keywords.get(name) is None:
            faults.append(f"{name} is required: {option.help}")
            continue
        try:
            values[name] = option.value(keywords.get(name))
        except UsageError as error:
            faults.append(str(error))
    if faults:
        raise UsageError(f"{label}: " + "; ".join(faults))
    return values
