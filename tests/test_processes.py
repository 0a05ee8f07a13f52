"""How the threads of this process wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vng.processes import SPIN_COUNT, WAITING

SHOW = "import sys, os, vng; assert 'torch' not in sys.modules; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("own", "shown"),
    [({}, SPIN_COUNT), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_sleep_soon_unless_told_otherwise(own: dict[str, str], shown: str) -> None:
    rest = {name: value for name, value in os.environ.items() if name not in WAITING}
    ended = subprocess.run([sys.executable, "-c", SHOW], env=rest | own, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == shown
