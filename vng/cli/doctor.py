"""The command `vng doctor`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from vng.cli.options import JSON, add_options, command, path
from vng.errors import printable

NAME, SUMMARY = (
    "doctor",
    "find what is wrong with datasets or folders of frames and masks, and say how to mend it",
)

EXAMPLES = """\
vng doctor data/oops-vng
  vng doctor data/ovis-train data/ovis-vng-test      (also: videos that lie in both)
  vng doctor DAVIS --json

Looked for: rows that cannot be read, ids that repeat, frames that are missing or of another size, nouns whose offsets cut a
word (counted in UTF-16, or moved by white space), objects without any annotation, masks of another size or with smoothed
edges, annotations without frames, layouts that other commands would not find, and videos that lie in two splits or sets, by
name and by their frames. Errors give exit status 1; notes do not."""


def add(commands: Any) -> None:
    """Add the parser of `vng doctor`."""
    parser = command(commands, NAME, run, SUMMARY, EXAMPLES)
    parser.add_argument("paths", type=path, nargs="+", metavar="PATH", help="datasets, or folders with JPEGImages")
    add_options(parser, (JSON,))


def run(arguments: argparse.Namespace) -> int:
    """Print the problems; status 1 where something must be mended."""
    from vng.inspection.doctor import diagnose

    diagnosis = diagnose(arguments.paths, progress=not arguments.quiet)
    if arguments.json:
        print(json.dumps(diagnosis.as_json()))
    else:
        for problem in diagnosis.problems:
            print(f"{'note: ' if problem.kind == 'note' else ''}{problem}")
        totals = ", ".join(f"{count:,} {name}" for name, count in diagnosis.looked_at.items())
        notes = len(diagnosis.problems) - len(diagnosis.errors)
        print(printable(f"{totals} looked at: {len(diagnosis.errors)} to mend, {notes} to look at"))
    return 1 if diagnosis.errors else 0
