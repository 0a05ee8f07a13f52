"""`vng compare`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vng.cli.options import JSON, Option, add_options, command, path

NAME, SUMMARY = (
    "compare",
    "two datasets of the same objects side by side: how alike their masks are, and which agree with the points",
)

OPTIONS = (
    Option(name="html", type=path, help="folder for index.html: the biggest disagreements"),
    Option(name="frames", type=path, help="where linked frames lie now, if they moved"),
    JSON,
)


def add(commands: Any) -> None:
    """The command's parser."""
    parser = command(
        commands,
        NAME,
        run,
        SUMMARY,
        "vng compare data/oops-classical data/oops-embedded --html page",
    )
    parser.add_argument("first", type=Path, metavar="DATASET_A", help="dataset folder")
    parser.add_argument("second", type=Path, metavar="DATASET_B", help="dataset folder, of the same points")
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> None:
    """Print how alike two datasets are; write their page."""
    from vng import compare
    from vng.dataset import MEASURES

    compared = compare(
        arguments.first, arguments.second, arguments.html, frames=arguments.frames, progress=not arguments.quiet
    )
    figures = compared.as_json()
    if arguments.json:
        print(json.dumps(figures))
        return
    alike = "no frame in common" if compared.iou is None else f"mean IoU {compared.iou:.3f}"
    print(f"{len(compared.objects):,} objects in both, {alike}")
    print(f"only in one: {len(compared.only_first):,} and {len(compared.only_second):,}")
    for name in MEASURES:
        if (measure := figures[name]) is not None:
            interval = "{first:.3f} and {second:.3f}, difference {difference:+.3f} [{low:+.3f}, {high:+.3f}]"
            print(f"{name:16} {interval.format(**measure)} over {measure['objects']:,} objects")
    if arguments.html:
        print(arguments.html / "index.html")
