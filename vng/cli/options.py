"""Parsers of commands, and command-line arguments made from options (`vng.options`)."""

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
LAYOUT = Option(
    name="format",
    choices=("compact", "png"),
    help="with --dataset: compact, one file a video, or png, the official tree; `vng export` converts [compact]",
)

__all__ = [
    "JSON",
    "LAYOUT",
    "SPLIT",
    "Option",
    "Parser",
    "add_options",
    "command",
    "natural",
    "option_values",
    "path",
    "positive",
    "setting",
]


class Parser(argparse.ArgumentParser):
    """A parser that suggests the nearest command for a mistyped one."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and an error message."""
        _, invalid, rest = message.partition("invalid choice: '")
        if invalid:
            word, _, choices = rest.partition("' (choose from ")
            names = [name.strip(" ')") for name in choices.split(",")]
            if nearest := get_close_matches(word, names, 1):
                message = f"{message}; did you mean {nearest[0]!r}?"
        super().error(message)


def command(commands: Any, name: str, run: Run, summary: str, example: str) -> Parser:
    """Add a command's parser and return it.

    Args:
        commands: the sub-parsers it is added to.
        name: the command.
        run: called with the parsed arguments; returns an exit status, None for 0.
        summary: one line, without a full stop.
        example: one or more command lines.
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
    """Add an argument for each option."""
    groups: dict[str, Any] = {"": parser}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        _add(groups[option.group], option)


def _add(parser: Any, option: Option) -> None:
    name = f"--{option.name.replace('_', '-')}"
    settings: dict[str, Any] = {"help": option.help.replace("%", "%%")}
    if option.flag:
        parser.add_argument(name, action="store_true", **settings)
        return
    settings |= {"type": _parsed_by(option.type), "default": option.default, "required": option.required}
    settings |= {"metavar": option.metavar} if option.metavar else {}
    settings |= {"choices": option.choices} if option.choices else {}
    if option.repeated:
        settings["action"] = "append"
    elif option.many:
        settings["nargs"] = "+"
    elif option.without is not None:
        settings |= {"nargs": "?", "const": option.without}
    parser.add_argument(name, **settings)


def _parsed_by(convert: Callable[[Any], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return convert(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def option_values(arguments: argparse.Namespace, options: Sequence[Option]) -> dict[str, Any]:
    """The parsed values of options, by name."""
    return {option.name: getattr(arguments, option.name) for option in options}
