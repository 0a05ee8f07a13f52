"""The command `vng convert KIND`, with one KIND per entry of `conversion.kinds`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vng.cli.options import add_options, command, option_values
from vng.cli.output import print_estimate, print_figures, print_problems, print_totals

if TYPE_CHECKING:
    from conversion.kinds import Kind

NAME, SUMMARY = "convert", "make a VNG dataset from annotations"


def add(commands: Any) -> None:
    """Add the parser of `vng convert`, with one sub-parser per kind of annotations."""
    parser = commands.add_parser(
        NAME,
        help=SUMMARY,
        description="Make a VNG dataset (Parquet that `datasets.load_dataset` opens) from annotations.",
    )
    from conversion.kinds import KINDS

    kinds = parser.add_subparsers(title="annotations", dest="kind", required=True, metavar="KIND")
    for kind in KINDS.values():
        _add_kind(kinds, kind)


def _add_kind(kinds: Any, kind: Kind) -> None:
    parser = command(kinds, kind.name, run, kind.summary, kind.example)
    add_options(parser, kind.all_options)
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be converted and how long it would take; write nothing"
    )
    parser.add_argument("--strict", action="store_true", help="exit with status 1 if anything was left out")
    parser.add_argument("--json", action="store_true", help="print the totals as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Convert; print totals and a summary of problems."""
    import conversion
    from conversion.kinds import KINDS
    from vng.processes import current_processes

    options = option_values(arguments, KINDS[arguments.kind].all_options) | {"progress": not arguments.quiet}
    if arguments.dry_run:
        if current_processes().is_main:
            estimate = conversion.estimate(arguments.kind, **options)
            print_estimate(estimate, arguments.json)
            return int(estimate.nothing_to_convert)
        return 0
    result = conversion.convert(arguments.kind, **options)
    left_out = [problem for problem in result.problems if problem.kind == "error"]
    if current_processes().is_main:
        print_totals(result.totals | result.figures if arguments.json else result.totals, arguments.json)
        if result.figures and not arguments.json:
            print_figures(result.figures)
        print_problems(arguments.out, result.problems)
    return 1 if arguments.strict and left_out else 0
