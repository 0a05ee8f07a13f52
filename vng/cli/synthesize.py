"""The command `vng synthesize`."""

from __future__ import annotations

import argparse
from typing import Any

from vng.cli.options import Option, add_options, command, natural, option_values, path, positive
from vng.cli.output import print_totals
from vng.options import split_name

NAME, SUMMARY = "synthesize", "write a procedural dataset in the official formats, with exact ground truth"

OPTIONS = (
    Option(name="out", type=path, required=True, help="folder to write"),
    Option(name="videos", type=positive, required=True, help="number of videos"),
    Option(name="seed", type=natural, default=0, help="the same seed gives identical output [0]"),
    Option(
        name="preset",
        default="hard",
        help="kind of world: hard, easy, varied, crowded, occlusions or stills [hard]",
    ),
    Option(name="split", type=split_name, default="train", help="split prefix of the video names [train]"),
)


def add(commands: Any) -> None:
    """Add the parser of `vng synthesize`."""
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
    """Write the dataset; print its totals."""
    import conversion

    totals = conversion.synthesize(**option_values(arguments, OPTIONS), progress=not arguments.quiet)
    print_totals(totals, arguments.json)
