"""The command `vng inspect`: statistics of a dataset, or of published annotation files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vng.cli.options import JSON, Option, add_options, command, path
from vng.errors import UsageError

NAME, SUMMARY = (
    "inspect",
    "statistics, quality and problems of a dataset or of published annotations, with an HTML page",
)

OPTIONS = (
    Option(
        name="points",
        type=path,
        help="instead of a dataset: published Point-VOS points (JSON, JSON lines, PNG folder)",
    ),
    Option(name="narratives", type=path, help="instead of, or with --points: published VidLN narratives"),
    Option(
        name="subset",
        type=path,
        help="count only the objects or videos in this list, one object key or video name per line",
    ),
    Option(name="html", type=path, help="folder for index.html, which is self-contained"),
    Option(name="frames", type=path, help="folder of a dataset's linked frames, if they moved"),
    Option(name="phrases", flag=True, help="list each noun's phrase, clause and entity: what a grounder is told"),
    Option(
        name="pipeline",
        default="auto",
        help="with --phrases: a spaCy pipeline by name or path; rules: none; auto: en_core_web_sm where it is installed",
    ),
    JSON,
)


def add(commands: Any) -> None:
    """Add the parser of `vng inspect`."""
    parser = command(
        commands,
        NAME,
        run,
        SUMMARY,
        "vng inspect data/oops-vng --html page\n"
        "  vng inspect data/oops-vng --phrases\n"
        "  vng inspect --points Oops/train.json --subset oops_train_subset.txt --html page",
    )
    parser.add_argument("dataset", type=path, nargs="?", help="dataset folder")
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> None:
    """Print the statistics; write the page."""
    published = arguments.points is not None or arguments.narratives is not None
    if published == (arguments.dataset is not None):
        raise UsageError("vng inspect: give a dataset folder, or --points, --narratives or both")
    if arguments.subset is not None and not published:
        raise UsageError("vng inspect: --subset goes with --points or --narratives")
    if arguments.phrases:
        if published or arguments.html is not None:
            raise UsageError("vng inspect: --phrases goes with a dataset folder, and without --html")
        _list_phrases(arguments)
        return
    (_inspect_annotations if published else _inspect_dataset)(arguments)


def _inspect_dataset(arguments: argparse.Namespace) -> None:
    from vng import inspect
    from vng.dataset import MEASURES

    inspection = inspect(arguments.dataset, arguments.html, frames=arguments.frames, progress=not arguments.quiet)
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
        _print_points(inspection.points, inspection.published(arguments.dataset))
    _print_problems(inspection.problems, arguments.html)


def _list_phrases(arguments: argparse.Namespace) -> None:
    from vng.grounding.phrases import find_pipeline
    from vng.inspection.phrases import narrated_phrases

    pipeline = find_pipeline(arguments.pipeline)
    found = narrated_phrases(arguments.dataset, pipeline, frames=arguments.frames, progress=not arguments.quiet)
    source = "rules" if pipeline is None else f"spacy:{pipeline.meta.get('lang', '')}_{pipeline.meta.get('name', '')}"
    if arguments.json:
        print(json.dumps({"read_by": source, "narratives": [narrative.as_json() for narrative in found]}))
        return
    for narrative in found:
        print(f"{narrative.video_id}  narrative {narrative.narrative}  {narrative.actor_name}\n{narrative.description}")
        print("\n".join(f"  {line}" for line in narrative.table()) + "\n")
    print(f"read by {source}")


def _inspect_annotations(arguments: argparse.Namespace) -> None:
    from conversion.inspection import inspect_annotations
    from conversion.wanted import read_subset

    subset = None if arguments.subset is None else read_subset(arguments.subset)
    inspection = inspect_annotations(
        arguments.points, arguments.narratives, subset, arguments.html, progress=not arguments.quiet
    )
    if arguments.json:
        print(json.dumps(inspection.as_json()))
        return
    if inspection.points.objects:
        _print_points(inspection.points, inspection.published)
    for name, value in {**inspection.left_out, **inspection.narratives}.items():
        print(f"{name:28}{value:>12,}" + ("  (left out)" if name in inspection.left_out else ""))
    _print_problems(inspection.problems, arguments.html)


def _print_points(points: Any, published: Any) -> None:
    """Print counts of points beside the published ones."""
    from vng.inspection.point_statistics import all_frames_text, table_rows

    if published is not None:
        print(f"{'':28}{'here':>12}{'published':>12}  {published.name}")
    for name, here, printed, verdict in table_rows(points, published):
        print(f"{name:28}{here:>12}{printed:>12}  {verdict}".rstrip())
    print(all_frames_text(points, published))
    if published is not None and published.note:
        print(published.note)


def _print_problems(problems: Any, html: Path | None) -> None:
    """Print a summary of the problems, and the path of the page."""
    from vng.errors import summarise

    print(f"{len(problems)} problems and notes")
    if problems:
        print(summarise(problems))
    if html:
        print(html / "index.html")
