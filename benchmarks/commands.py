"""What the benchmarks of whole recipes share: the package's own commands, and results that are kept on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vng.cli import main as vng
from vng.errors import VngError


def run(*arguments: object) -> None:
    """One command of the package.

    Raises:
        VngError: it ended with another status than 0.
    """
    status = vng([str(argument) for argument in arguments])
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise VngError(f"vng {' '.join(map(str, arguments))}: exit status {status}")


class Scores:
    """Results on disk, so that what was measured is not measured again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, key: str, make: Callable[[], dict[str, float]]) -> float:
        """Mean over what was scored (clips, expressions), per cent."""
        if key not in self.known:
            self.known[key] = make()
            self.path.write_text(json.dumps(self.known, indent=1))
        return 100 * float(np.mean(list(self.known[key].values())))
