"""What tests give to other processes: a module that imports nothing heavy."""

from __future__ import annotations

import os
import signal
import time

from vng.errors import DataError


def square(item: int) -> int:
    """Slow for small numbers, so that they end out of order."""
    time.sleep(0.1 if item < 2 else 0)
    return item * item


def die(item: int) -> int:
    """A process that is killed."""
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def refuse(item: int) -> int:
    """Bad data, whatever comes."""
    raise DataError("f", record=item, reason="bad")
