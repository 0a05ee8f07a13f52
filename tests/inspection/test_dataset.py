"""`vng inspect` of a dataset: figures and page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from tests.helpers import Cli


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
