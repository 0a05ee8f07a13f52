"""What commands print alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from vng.errors import Problem


def print_totals(totals: dict[str, int], as_json: bool) -> None:
    """One line: a count of each kind, or JSON."""
    print(json.dumps(totals) if as_json else ", ".join(f"{value:,} {name}" for name, value in totals.items()))


def print_notes(notes: Iterable[Problem]) -> None:
    """What was met and goes into no figure, a line each."""
    for note in notes:
        print(f"vng: note: {note}", file=sys.stderr)
