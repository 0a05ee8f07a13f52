"""Output shared by commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from vng.errors import PROBLEMS_FILE, Problem, listed, summarise

MOST_NOTES = 5  # of one reason


def print_totals(totals: Mapping[str, float], as_json: bool) -> None:
    """Print totals as one line, or as JSON."""
    print(json.dumps(dict(totals)) if as_json else ", ".join(f"{value:,} {name}" for name, value in totals.items()))


def print_figures(figures: Mapping[str, float]) -> None:
    """Print further figures, one a line."""
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"  {name.replace('_', ' '):{width}}  {value:>10,}")


def print_notes(notes: Iterable[Problem]) -> None:
    """Print notes on standard error, one per line; of each reason a few."""
    for line in listed(notes, MOST_NOTES):
        print(f"vng: note: {line}", file=sys.stderr)


def print_left_out(problems: Iterable[Problem]) -> None:
    """Print what was left out on standard error, one per line; of each reason a few."""
    for line in listed(problems, MOST_NOTES):
        print(f"vng: left out: {line}", file=sys.stderr)


def print_problems(out: Path, problems: Sequence[Problem]) -> None:
    """Print how many problems and notes `problems.jsonl` in `out` has, and a summary, on standard error."""
    if problems:
        left_out = sum(problem.kind == "error" for problem in problems)
        print(f"{out / PROBLEMS_FILE}: {left_out} left out, {len(problems) - left_out} notes", file=sys.stderr)
        print(summarise(problems), file=sys.stderr)


def print_estimate(estimate: Any, as_json: bool) -> None:
    """Print the estimate of a conversion (`conversion.build.Estimate`) as a few lines, or as JSON."""
    figures = estimate.as_json()
    if as_json:
        print(json.dumps(figures))
        return
    print(f"{estimate.videos:,} videos from {estimate.records:,} records")
    print(f"{estimate.done:,} videos are converted already, {estimate.videos - estimate.done:,} are left")
    if estimate.tried:
        print(f"{estimate.converted} of {estimate.tried} videos that were tried could be converted")
    problems = [*estimate.problems, *estimate.trial_problems]
    if problems:
        read, tried = len(estimate.problems), len(estimate.trial_problems)
        print(f"problems: {read:,} while reading, {tried:,} in the videos that were tried", file=sys.stderr)
        print(summarise(problems), file=sys.stderr)
    if estimate.nothing_to_convert:
        print("vng: nothing could be converted", file=sys.stderr)
        return
    if figures["seconds_left"] is not None:
        hours, size = timedelta(seconds=round(figures["seconds_left"])), figures["bytes_left"] / 2**20
        pace = f"{estimate.seconds_per_video:.2f} s a video"
        print(f"about {hours} (h:mm:ss) in one process, {pace}; about {size:,.1f} MiB. Nothing was written.")
        print("n processes take an n-th of it: torchrun --nproc_per_node N -m vng.cli convert ...")
