"""What several commands share on the command line: a command's parser, and the types of values."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any


def command(commands: Any, name: str, run: str, help_: str, example: str) -> Any:
    """A command's parser; `run` is its name in `cli.RUNS`."""
    parser = commands.add_parser(
        name,
        help=help_,
        description=help_[0].upper() + help_[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)
    return parser


def positive(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def natural(text: str) -> int:
    """A whole number from 0 on."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def frame_count(text: str) -> int | str:
    """A positive number, or "all"."""
    return text if text == "all" else positive(text)


def setting(text: str) -> tuple[str, str]:
    """KEY=VALUE, as a pair."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def split_name(text: str) -> str:
    """Letters, digits and _."""
    if not re.fullmatch(r"\w*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no split name: letters, digits and _ only")
    return text


def trio_arguments(parser: Any, required: bool) -> None:
    """The three files of the official VNG format."""
    parser.add_argument("--meta", type=Path, required=required, help="meta_expressions.json")
    parser.add_argument("--extra-masks", type=Path, required=required, help="extra_masks.json")
    parser.add_argument(
        "--orig-masks", type=Path, required=required, help="the data set's own masks (YouTube-VIS layout)"
    )
