"""Shared by the benchmarks of whole recipes: running `vng` commands, and scores that are kept on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vng.cli import main as vng
from vng.errors import VngError


def run(*arguments: object) -> None:
    """Run one `vng` command in this process.

    Raises:
        KeyboardInterrupt: the command was interrupted (exit status 130).
        VngError: the command failed (any other exit status but 0).
    """
    status = vng([str(argument) for argument in arguments])
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise VngError(f"vng {' '.join(map(str, arguments))}: exit status {status}")


class Scores:
    """Scores kept in a JSON file, so that a benchmark that is run again repeats no measurement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_key: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, key: str, measure: Callable[[], dict[str, float]]) -> float:
        """Mean of the scores of `key` (one per clip or expression), per cent; measured unless kept already."""
        if key not in self.by_key:
            self.by_key[key] = measure()
            self.path.write_text(json.dumps(self.by_key, indent=1))
        return 100 * float(np.mean(list(self.by_key[key].values())))
