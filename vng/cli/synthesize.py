"""`vng synthesize`."""

from __future__ import annotations

import argparse
from typing import Any

from vng.cli.options import Option, add_options, command, given, natural, path, positive
from vng.cli.output import print_totals
from vng.options import split_name

NAME, SUMMARY = "synthesize", "write a procedural set in the official formats, with exact truth"

OPTIONS = (
    Option(name="out", type=path, required=True, help="folder to write"),
    Option(name="videos", type=positive, required=True, help="how many videos"),
    Option(name="seed", type=natural, default=0, help="the same seed gives the same bytes [0]"),
    Option(
        name="preset",
        default="hard",
        help="what the world is like: hard, easy, varied, crowded, occlusions or stills [hard]",
    ),
    Option(name="split", type=split_name, default="train", help="split prefix of the video names [train]"),
)


def add(commands: Any) -> None:
    """The command's parser."""
    parser = command(
        commands,
        NAME,
        run,
        SUMMARY,
        "vng synthesize --out world --videos 50 --seed 1 --preset hard",
    )
    add_options(parser, OPTIONS)
    parser.add_argument("--json", action="store_true", help="print the totals as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Write the set, print its totals."""
    import conversion

    totals = conversion.synthesize(**given(arguments, OPTIONS), progress=not arguments.quiet)
    print_totals(totals, arguments.json)
