"""`vng demo`: the whole path in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vng.cli import main
from vng.cli.demo import DemoSizes, run_demo
from vng.errors import VngError

SMALL = DemoSizes(4, 2, 2, "tiny", "tiny", ("optimizer.steps=2",))


def test_the_whole_path_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run_demo(tmp_path, main, SMALL)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert set(report["J&F"]) == {"untrained", "pretrained", "finetuned", "swapped_nouns"}
    assert set(report["pseudo_masks"]) == {"mean_J", "agreement_rank_correlation"}
    assert 0.6 < report["pseudo_masks"]["mean_J"] <= 1 and report["seconds"] > 0 and report["peak_memory_bytes"] > 1e8
    page = (tmp_path / "index.html").read_text()
    assert "<video" in page and (tmp_path / "films" / "0.mp4").exists() and "http" not in page
    shown = capsys.readouterr().out
    for command in ("synthesize", "convert point-vos", "train", "predict", "evaluate vng", "inspect"):
        assert f"$ vng {command}" in shown
    assert run_demo(tmp_path, main, SMALL)["J&F"] == report["J&F"]  # goes on, and has nothing left to do


def test_a_failing_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(VngError, match=r"`vng synthesize .*` ended with status 1"):
        run_demo(tmp_path, lambda words: 1, SMALL)
