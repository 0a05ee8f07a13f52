"""The command `vng app`: a page in the browser where a model is tried."""

from __future__ import annotations

import argparse
from typing import Any

from vng.cli.options import add_options, command, option_values

NAME, SUMMARY = "app", "try a model in the browser: a clip, a sentence, masks as they are made"


def add(commands: Any) -> None:
    """Add the parser of `vng app`."""
    from conversion.annotation.steps import PLAY

    parser = command(commands, NAME, run, SUMMARY, "vng app --model out/mine --videos clips")
    add_options(parser, PLAY)


def run(arguments: argparse.Namespace) -> None:
    """Serve the page until it is interrupted."""
    from conversion.annotation.steps import PLAY, play

    play(progress=not arguments.quiet, **option_values(arguments, PLAY))
