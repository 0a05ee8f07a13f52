"""The command `vng annotate`, with one step per entry of `conversion.annotation.steps`."""

from __future__ import annotations

import argparse
from typing import Any

from vng.cli.options import add_options, command, option_values
from vng.cli.output import print_left_out, print_problems, print_totals

NAME, SUMMARY = "annotate", "points made by people: a page in the browser, candidates to verify (Point-VOS)"


def add(commands: Any) -> None:
    """Add the parser of `vng annotate`, with one sub-parser per step."""
    from conversion.annotation.steps import STEPS

    parser = commands.add_parser(NAME, help=SUMMARY, description=SUMMARY[0].upper() + SUMMARY[1:] + ".")
    steps = parser.add_subparsers(title="steps", dest="step", required=True, metavar="STEP")
    for step in STEPS.values():
        sub = command(steps, step.name, run, step.summary, step.example)
        add_options(sub, step.options)
        sub.add_argument("--json", action="store_true", help="print the totals as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run a step; returns 1 where it found no object, or left a clip out of an export."""
    import conversion
    from conversion.annotation.steps import STEPS

    options = option_values(arguments, STEPS[arguments.step].options)
    result = conversion.annotate(arguments.step, **options, progress=not arguments.quiet)
    print_totals(result.totals, arguments.json)
    if arguments.step == "serve":  # its problems were told at the beginning, and stand on the page
        return 0
    if result.folder is not None:
        print_problems(result.folder, result.problems)
        return 0 if result.totals["objects"] else 1
    print_left_out(result.problems)
    return 0 if result.totals["objects"] and not result.problems else 1
