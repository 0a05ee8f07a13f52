"""`vng inspect DATASET` and `vng compare`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def print_problems(problems: Any, html: Path | None) -> None:
    """What was met on the way, summed up, and where the page lies."""
    from vng.errors import summarise

    print(f"{len(problems)} problems and notes")
    if problems:
        print(summarise(problems))
    if html:
        print(html / "index.html")


def print_points(points: Any, published: Any) -> None:
    """Counts of points beside the published ones."""
    from vng.inspection.point_statistics import all_frames_text, table_rows

    if published is not None:
        print(f"{'':28}{'here':>12}{'published':>12}  {published.name}")
    for name, here, printed, verdict in table_rows(points, published):
        print(f"{name:28}{here:>12}{printed:>12}  {verdict}".rstrip())
    print(all_frames_text(points, published))
    if published is not None and published.note:
        print(published.note)


def print_dataset(arguments: argparse.Namespace) -> None:
    """Print a dataset's figures; write its page."""
    from vng.dataset import MEASURES
    from vng.inspection.dataset import inspect_dataset

    inspection = inspect_dataset(arguments.dataset, arguments.html, arguments.frames, progress=not arguments.quiet)
    figures = inspection.as_json()
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures["counts"].items():
        print(f"{name:24}{value:>12,}")
    for name in ("mask_area_share", *MEASURES):
        if figures[name]:
            print(f"{name:24}" + "".join(f"  {key} {value:.3f}" for key, value in figures[name].items()))
    if inspection.points.objects:
        print("\nverified points")
        print_points(inspection.points, inspection.published(arguments.dataset))
    print_problems(inspection.problems, arguments.html)


def run_compare(arguments: argparse.Namespace) -> None:
    """Print how alike two datasets are; write their page."""
    from vng.dataset import MEASURES
    from vng.inspection.comparison import compare_datasets

    compared = compare_datasets(
        arguments.first, arguments.second, arguments.html, arguments.frames, progress=not arguments.quiet
    )
    figures = compared.as_json()
    if arguments.json:
        print(json.dumps(figures))
        return
    alike = "no frame in common" if compared.iou is None else f"mean IoU {compared.iou:.3f}"
    print(f"{len(compared.objects):,} objects in both, {alike}")
    print(f"only in one: {len(compared.only_first):,} and {len(compared.only_second):,}")
    for name in MEASURES:
        if (known := figures[name]) is not None:
            interval = "{first:.3f} and {second:.3f}, difference {difference:+.3f} [{low:+.3f}, {high:+.3f}]"
            print(f"{name:16} {interval.format(**known)} over {known['objects']:,} objects")
    if arguments.html:
        print(arguments.html / "index.html")
