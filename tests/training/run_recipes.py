"""Trains recipes one after another, for tests with several processes: python -m tests.training.run_recipes FILE ...

With STOP_AT=N in the environment, every run is interrupted after the checkpoint of step N.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from vng.training import loop
from vng.training.tasks import load_recipe, train_recipe


class Stopped(Exception):  # noqa: N818
    """An interruption."""


def interrupt_at(step: int) -> None:
    """Raise `Stopped` after the checkpoint of a step."""
    save = loop._save_checkpoint

    def save_and_stop(accelerator: Any, recipe: Any, now: int) -> None:
        save(accelerator, recipe, now)
        if now == step:
            raise Stopped

    loop._save_checkpoint = save_and_stop


if __name__ == "__main__":
    if "STOP_AT" in os.environ:
        interrupt_at(int(os.environ["STOP_AT"]))
    for path in sys.argv[1:]:
        with contextlib.suppress(Stopped):
            train_recipe(load_recipe(Path(path)), progress=False)
