"""A short run of the fuzzing harness: no traceback, no hang, no file outside the output folder, bounded memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from benchmarks.fuzz import TARGETS, Mutator
from tests.helpers import ROOT


def test_every_reader_survives_mutated_files() -> None:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--cases", "2", "--first", "700000", "--only"]
    names, lines = [target.name for target in TARGETS], list[tuple[str, str]]()
    halves = [names[::2], names[1::2]]  # at once, for the sake of time
    running = [
        subprocess.Popen(
            [*command, *half],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for half in halves
    ]
    for process, half in zip(running, halves, strict=True):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-3000:]
        lines += re.findall(r"^(\S+) +2 cases .* 0 faults +peak (\d+) MiB", out, re.M)
        assert [name for name, _ in lines[-len(half) :]] == half
    assert all(int(peak) < 2048 for _, peak in lines)


def test_a_case_is_the_same_again() -> None:
    tree = {"a": [1, 2, {"b": "c"}], "d": None}
    changed = [str(Mutator("x 3").change({"a": [1, 2, {"b": "c"}], "d": None})) for _ in range(2)]
    assert changed[0] == changed[1] != str(tree)
