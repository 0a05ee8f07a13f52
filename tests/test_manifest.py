"""Manifests and folders of results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vng.errors import DataError
from vng.manifest import check_same, claimed_folder, to_json, write_atomic

HOLD = """
import sys, time
from pathlib import Path
from vng.manifest import claim_folder
claim_folder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_the_setting_that_differs_is_shown_not_all(tmp_path: Path) -> None:
    before = {"name": "a", "data": {"sources": [{"path": "x", "weight": 1}], "size": [3, 4]}, "rest": "long " * 99}
    write_atomic(tmp_path / "m.json", to_json({"settings": before}))
    now = {**before, "data": {"sources": [{"path": "y", "weight": 1}], "size": [3, 4]}}
    with pytest.raises(DataError, match=r"data.sources.0.path: an earlier run wrote here with 'x', now 'y'; delete"):
        check_same(tmp_path / "m.json", now, tmp_path)
    with pytest.raises(DataError) as caught:
        check_same(tmp_path / "m.json", {**before, "rest": None}, tmp_path)
    assert len(str(caught.value)) < 260
    check_same(tmp_path / "m.json", before, tmp_path)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    try:
        with pytest.raises(DataError, match="another run is writing here"), claimed_folder(tmp_path):
            pass
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    with claimed_folder(tmp_path), claimed_folder(tmp_path):  # its own again
        pass
