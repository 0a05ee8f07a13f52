"""The documentation site: every page in the navigation, answers near the home page, a build without warnings."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def pages(tree: object) -> list[str]:
    """The files of a navigation."""
    if isinstance(tree, str):
        return [tree]
    values = tree.values() if isinstance(tree, dict) else tree
    assert isinstance(tree, (dict, list))
    return [page for value in values for page in pages(value)]


def test_every_page_is_in_the_navigation() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert sorted(pages(settings["nav"])) == sorted(path.name for path in DOCS.glob("*.md"))


def test_a_newcomers_questions_are_answered_from_the_home_page() -> None:
    rows = re.findall(
        r"^\| ([^|]+\?) \| \[[^\]]+\]\(([\w-]+\.md)[^)]*\) \|$", (DOCS / "index.md").read_text(), re.MULTILINE
    )
    assert len(rows) >= 12 and all((DOCS / page).exists() for _, page in rows)


def test_links_to_the_repository_become_paths() -> None:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    assert spec is not None and spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    text = "see [training](../configs/a.yaml), [`vng/x.py`](../vng/x.py#y), ![p](../a.png) and [a](b.md)"
    shown = "see training (`configs/a.yaml`), `vng/x.py`, ![p](../a.png) and [a](b.md)"
    assert hooks.on_page_markdown(text) == shown


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site needs pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").exists()
