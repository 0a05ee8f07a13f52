"""What commands share on the command line: a command's parser, and arguments made of options (`vng.options`)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from vng.errors import UsageError
from vng.options import Option, natural, path, positive, setting, split_name

Run = Callable[[argparse.Namespace], "int | None"]

JSON = Option(name="json", flag=True, help="print the figures as JSON")
SPLIT = Option(name="split", type=split_name, help="only rows of this split")

__all__ = [
    "JSON",
    "SPLIT",
    "Option",
    "Parser",
    "add_options",
    "command",
    "given",
    "natural",
    "path",
    "positive",
    "setting",
]


class Parser(argparse.ArgumentParser):
    """A parser that names the neighbour of a mistyped command."""

    def error(self, message: str) -> NoReturn:
        """End with status 2 and what is wrong."""
        _, invalid, rest = message.partition("invalid choice: '")
        if invalid:
            word, _, known = rest.partition("' (choose from ")
            names = [name.strip(" ')") for name in known.split(",")]
            if near := get_close_matches(word, names, 1):
                message = f"{message}; did you mean {near[0]!r}?"
        super().error(message)


def command(commands: Any, name: str, run: Run, summary: str, example: str) -> Parser:
    """A command's parser.

    Args:
        commands: what it is added to.
        name: what is typed.
        run: called with the parsed arguments; returns an exit status, None for 0.
        summary: one line, without a full stop.
        example: command lines.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run, command_name=parser.prog.removeprefix("vng "))
    return parser


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Make an argument of each option."""
    groups: dict[str, Any] = {"": parser}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        _add(groups[option.group], option)


def _add(parser: Any, option: Option) -> None:
    name = f"--{option.name.replace('_', '-')}"
    more: dict[str, Any] = {"help": option.help.replace("%", "%%")}
    if option.flag:
        parser.add_argument(name, action="store_true", **more)
        return
    more |= {"type": _parsed_by(option.type), "default": option.default, "required": option.required}
    more |= {"metavar": option.metavar} if option.metavar else {}
    more |= {"choices": option.choices} if option.choices else {}
    if option.repeated:
        more["action"] = "append"
    elif option.many:
        more["nargs"] = "+"
    elif option.without is not None:
        more |= {"nargs": "?", "const": option.without}
    parser.add_argument(name, **more)


def _parsed_by(make: Callable[[Any], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return make(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def given(arguments: argparse.Namespace, options: Sequence[Option]) -> dict[str, Any]:
    """The parsed values of options, by name."""
    return {option.name: getattr(arguments, option.name) for option in options}
