"""`vng demo` and `vng inspect`: the pages people look at, and the report programs read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import Cli
from vng.cli import main
from vng.cli.demo import DemoSizes, run_demo
from vng.errors import VngError
from vng.label_maps import colour
from vng.pages import marked_html
from vng.viewer import caption_strip, grid, overlay

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


def test_inspect(tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
    figures = json.loads(cli("inspect", dataset, "--json", "--quiet").out)
    counts = figures["counts"]
    assert (counts["videos"], counts["frames"], counts["objects"], counts["expressions"]) == (2, 6, 4, 4)
    assert (counts["masks"], counts["null masks"], counts["empty masks"]) == (10, 2, 2)
    assert counts["ambiguous expressions"] == 4 and figures["point_agreement"]["mean"] == 0.75
    ended = cli("inspect", dataset, "--html", tmp_path / "page", "--quiet")
    assert ended.status == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64") == 2 and "<mark" in page and not re.search(r'(src|href)="http', page)
    assert cli("inspect", tmp_path / "none").status == 1


class TestPictures:
    def test_overlay(self) -> None:
        image = np.zeros((6, 9, 3), np.uint8)
        mask = np.zeros((6, 9), bool)
        mask[1:5, 2:7] = True
        painted = overlay(image, [None, mask])
        assert painted.any(-1)[mask].all() and not painted.any(-1)[~mask].any() and not image.any()
        assert painted[1, 2].tolist() == list(colour(1))  # the outline is solid

    def test_captions_and_grids(self) -> None:
        strip = caption_strip("A red ball\tmeets\nthe other ball. " * 4, [(6, 10)], 300)
        assert strip.shape[1:] == (300, 3) and (strip == colour(0)).all(-1).any()
        tiles = [np.full((4, 5, 3), i, np.uint8) for i in range(5)]
        assert grid(tiles, 2).shape == (12, 10, 3) and grid(tiles[:1], 4).shape == (4, 5, 3)

    def test_marked_html_escapes(self) -> None:
        html = marked_html("<b> ball", [(4, 8)], [(255, 255, 0)])
        assert html.startswith("&lt;b&gt; <mark") and html.endswith("ball</mark>")
