"""The command `vng export`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from vng.cli.options import SPLIT, Option, add_options, command, option_values, path
from vng.cli.output import print_totals

NAME, SUMMARY = "export", "write a VNG dataset in another format, or results in the other layout"

OPTIONS = (
    Option(
        name="format",
        choices=("official", "davis", "coco", "point-png", "own", "cvat", "coco-images", "png", "compact"),
        default="official",
        help=(
            "official: the VNG JSON trio; davis: frames, palette PNGs, image sets; coco: JSON in YouTube-VIS layout; "
            "point-png: verified points as Point-VOS PNGs; own: clips.jsonl, as `vng convert own` reads it; "
            "cvat: XML 1.1 for video, one file a video; coco-images: COCO instances, each frame an image; "
            "of results instead of a dataset, png: the official tree, compact: one file a video [official]"
        ),
    ),
    Option(
        name="with_frames",
        flag=True,
        help="with --format coco, own, cvat or coco-images: also write the frames, as JPEGs",
    ),
    SPLIT,
    Option(name="out", type=path, required=True, help="folder to write"),
)


def add(commands: Any) -> None:
    """Add the parser of `vng export`."""
    parser = command(
        commands,
        NAME,
        run,
        SUMMARY,
        "vng export data/oops-vng --format official --out trio\n"
        "  vng export data/oops-vng --format point-png --out pngs\n"
        "  vng export data/davis --format coco --with-frames --out coco\n"
        "  vng export RESULTS --format png --out TREE",
    )
    parser.add_argument("dataset", type=path, help="dataset folder; with --format png or compact a folder of results")
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Export; returns 1 if nothing was written."""
    import conversion
    from conversion.export_formats import RESULT_FORMATS
    from vng.errors import PROBLEMS_FILE, summarise

    export = conversion.export(arguments.dataset, **option_values(arguments, OPTIONS), progress=not arguments.quiet)
    if export.files:
        print(*export.files, sep="\n")
    else:
        print_totals(export.totals, as_json=False)
    if export.problems:
        print(f"{arguments.out / PROBLEMS_FILE}: {len(export.problems)} problems and notes", file=sys.stderr)
        print(summarise(export.problems), file=sys.stderr)
    left_out = arguments.format in RESULT_FORMATS and any(problem.kind == "error" for problem in export.problems)
    return 0 if any(export.totals.values()) and not left_out else 1
