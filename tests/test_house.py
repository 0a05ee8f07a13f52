"""The house itself: who may import whom, what the documents promise, how fast help answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vng.arguments import build_parser

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [
    [],
    ["demo"],
    ["synthesize"],
    ["convert"],
    ["convert", "point-vos"],
    ["convert", "vidln"],
    ["convert", "vng"],
    ["convert", "davis"],
    ["convert", "youtube-vos"],
    ["convert", "ovis"],
    ["convert", "uvo"],
    ["convert", "youtube-vis"],
    ["convert", "ref-youtube-vos"],
    ["convert", "mevis"],
    ["convert", "ref-davis"],
    ["convert", "coco-png"],
    ["convert", "point-benchmark"],
    ["export"],
    ["inspect"],
    ["compare"],
    ["train"],
    ["import"],
    ["predict"],
    ["propagate"],
    ["evaluate"],
    ["evaluate", "vng"],
    ["evaluate", "vos"],
    ["evaluate", "frame-sparsity"],
    ["evaluate", "referring"],
    ["evaluate", "instances"],
    ["evaluate", "points"],
    ["evaluate", "traces"],
]


def test_only_the_command_line_imports_conversion() -> None:
    files = set((ROOT / "vng").rglob("*.py")) - {ROOT / "vng" / "cli.py"}
    assert len(files) > 20
    for path in files:
        assert not re.search(r"^\s*(from|import) conversion\b", path.read_text(), re.M), path


@pytest.mark.parametrize(
    ("room", "above"),
    [
        ("models", "vng.(segmenters|propagators|dataset|training|grounding|evaluation)|conversion"),
        ("segmenters", "vng.(propagators|dataset|training|grounding)|conversion"),
        ("propagators", "vng.(dataset|training|grounding|narratives)|conversion"),
        ("evaluation", "vng.(training|grounding|models)|conversion"),
    ],
)
def test_rooms_stand_on_rooms_below(room: str, above: str) -> None:
    files = list((ROOT / "vng" / room).rglob("*.py"))
    assert files
    for path in files:
        if path.name != "narrative.py" or "dataset" not in above:
            assert not re.search(rf"^\s*(from|import) ({above})\b", path.read_text(), re.M), path


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c) or "vng")
def test_help_answers_without_torch(command: list[str]) -> None:
    code = (
        "import sys; from vng.cli import main; status = main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'datasets', 'cv2', 'numpy', 'spacy'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(status)"
    )
    ended = subprocess.run([sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0 and "usage: vng" in ended.stdout, ended.stderr
    if command and command not in (["convert"], ["evaluate"]):
        assert "example:" in ended.stdout


def test_a_wrong_call_exits_with_2() -> None:
    for arguments in (
        ["nonsense"],
        ["synthesize"],
        ["train", "tiny", "--nonsense"],
        ["synthesize", "--out", "x", "--videos", "0"],
    ):
        ended = subprocess.run([sys.executable, "-m", "vng.cli", *arguments], capture_output=True, text=True, cwd=ROOT)
        assert ended.returncode == 2 and "error:" in ended.stderr


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_paths_named_in_the_documents_exist() -> None:
    named = [
        (d.name, p)
        for d in documents()
        for p in re.findall(r"`((?:vng|conversion|configs|tests|docs)/[\w./]*)`", d.read_text())
    ]
    assert len(named) > 10
    for document, path in named:
        assert (ROOT / path).exists(), f"{document} names {path}"


def test_commands_in_the_documents_parse() -> None:
    import shlex

    count = 0
    for document in documents():
        for block in re.findall(r"```bash\n(.*?)```", document.read_text(), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["vng"]:
                    build_parser().parse_args(words[1:])
                    count += 1
    assert count >= 5


def test_the_notebook_runs() -> None:
    cells = json.loads((ROOT / "notebooks" / "first_steps.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0 and "agreement" in ended.stdout, ended.stderr
