"""What commands print alike."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from vng.errors import Problem


def print_totals(totals: dict[str, int], as_json: bool) -> None:
    """One line: a count of each kind, or JSON."""
    print(json.dumps(totals) if as_json else ", ".join(f"{value:,} {name}" for name, value in totals.items()))


def print_notes(notes: Iterable[Problem]) -> None:
    """What was met and goes into no figure, a line each."""
    for note in notes:
        print(f"vng: note: {note}", file=sys.stderr)


def percents(figures: Mapping[str, Any], *names: str) -> str:
    """Shares as one line of per cents, "-" where one is not known; all of them unless names are given."""
    known = {name: figures[name] for name in names or figures}
    return "  ".join(f"{name} {'-' if math.isnan(value) else f'{100 * value:.2f}'}" for name, value in known.items())


def write_scores(
    arguments: argparse.Namespace, tree: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] | None
) -> None:
    """Write what --json and --csv ask for: the tree (NaN becomes null), and a line a row (NaN becomes empty)."""
    from vng.manifest import to_json, write_atomic

    if arguments.json is not None:
        write_atomic(arguments.json, to_json(_known(dict(tree))))
    if arguments.csv is not None and rows is not None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_known(dict(row)) for row in rows)
        write_atomic(arguments.csv, text.getvalue())


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_known(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def print_estimate(expected: Any, as_json: bool) -> None:
    """What a conversion would do (`conversion.build.Estimate`), as a few lines or as JSON."""
    told = expected.as_json()
    if as_json:
        print(json.dumps(told))
        return
    print(
        f"{expected.videos:,} videos from {expected.records:,} records, {expected.problems:,} problems met while reading"
    )
    print(f"{expected.done:,} videos are converted already, {expected.videos - expected.done:,} are left")
    if told["seconds_left"] is not None:
        hours, size = timedelta(seconds=round(told["seconds_left"])), told["bytes_left"] / 2**20
        pace = f"{expected.seconds_per_video:.2f} s a video"
        print(f"about {hours} (h:mm:ss) in one process, {pace}; about {size:,.1f} MiB. Nothing was written.")
        print("n processes take an n-th of it: torchrun --nproc_per_node N -m vng.cli convert ...")
