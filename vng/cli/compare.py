"""The command `vng compare`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from vng.cli.options import JSON, Option, add_options, command, path

NAME, SUMMARY = (
    "compare",
    "compare two datasets of the same objects: similarity of their masks, agreement with the points",
)

OPTIONS = (
    Option(name="html", type=path, help="folder for index.html, which shows the largest disagreements"),
    Option(name="frames", type=path, help="folder of linked frames, if they moved"),
    JSON,
)


def add(commands: Any) -> None:
    """Add the parser of `vng compare`."""
    parser = command(
        commands,
        NAME,
        run,
        SUMMARY,
        "vng compare data/oops-classical data/oops-embedded --html page",
    )
    parser.add_argument("first", type=path, metavar="DATASET_A", help="dataset folder")
    parser.add_argument("second", type=path, metavar="DATASET_B", help="dataset folder with the same points")
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> None:
    """Print the comparison of two datasets; write its page."""
    from vng import compare
    from vng.dataset import MEASURES

    comparison = compare(
        arguments.first, arguments.second, arguments.html, frames=arguments.frames, progress=not arguments.quiet
    )
    figures = comparison.as_json()
    if arguments.json:
        print(json.dumps(figures))
        return
    similarity = "no frame in common" if comparison.iou is None else f"mean IoU {comparison.iou:.3f}"
    print(f"{len(comparison.objects):,} objects in both, {similarity}")
    print(f"only in one: {len(comparison.only_first):,} and {len(comparison.only_second):,}")
    for name in MEASURES:
        if (measure := figures[name]) is not None:
            interval = "{first:.3f} and {second:.3f}, difference {difference:+.3f} [{low:+.3f}, {high:+.3f}]"
            print(f"{name:16} {interval.format(**measure)} over {measure['objects']:,} objects")
    if arguments.html:
        print(arguments.html / "index.html")
