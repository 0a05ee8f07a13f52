"""What commands print alike."""

from __future__ import annotations

import json


def print_totals(totals: dict[str, int], as_json: bool) -> None:
    """One line: a count of each kind, or JSON."""
    print(json.dumps(totals) if as_json else ", ".join(f"{value:,} {name}" for name, value in totals.items()))
