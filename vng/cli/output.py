"""Output shared by commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from vng.errors import Problem


def print_totals(totals: dict[str, int], as_json: bool) -> None:
    """Print totals as one line, or as JSON."""
    print(json.dumps(totals) if as_json else ", ".join(f"{value:,} {name}" for name, value in totals.items()))


def print_notes(notes: Iterable[Problem]) -> None:
    """Print notes on standard error, one per line."""
    for note in notes:
        print(f"vng: note: {note}", file=sys.stderr)


def print_estimate(estimate: Any, as_json: bool) -> None:
    """Print the estimate of a conversion (`conversion.build.Estimate`) as a few lines, or as JSON."""
    figures = estimate.as_json()
    if as_json:
        print(json.dumps(figures))
        return
    read = f"{estimate.videos:,} videos from {estimate.records:,} records"
    print(f"{read}, {estimate.problems:,} problems met while reading")
    print(f"{estimate.done:,} videos are converted already, {estimate.videos - estimate.done:,} are left")
    if figures["seconds_left"] is not None:
        hours, size = timedelta(seconds=round(figures["seconds_left"])), figures["bytes_left"] / 2**20
        pace = f"{estimate.seconds_per_video:.2f} s a video"
        print(f"about {hours} (h:mm:ss) in one process, {pace}; about {size:,.1f} MiB. Nothing was written.")
        print("n processes take an n-th of it: torchrun --nproc_per_node N -m vng.cli convert ...")
