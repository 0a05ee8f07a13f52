"""The house itself: what may import what, what the documents promise, how fast help answers."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT
from vng.cli.app import build_parser

PACKAGES = ("vng", "conversion", "benchmarks")
HEAVY = {"torch", "transformers", "datasets", "cv2", "numpy", "spacy", "pydantic", "yaml", "jinja2", "matplotlib"}


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a parser's commands, by name."""
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of the command line, groups of commands too."""
    yield words
    for name, sub in subparsers(parser).items():
        yield from commands(sub, (*words, name))


COMMANDS = list(commands(build_parser()))
GROUPS = [words for words in COMMANDS if any(other[:-1] == words for other in COMMANDS if other)]
assert ("convert", "points") in COMMANDS and ("evaluate", "vos") in COMMANDS and len(COMMANDS) > 30


def room_of(module: str) -> str:
    """The room of a dotted name of this project; "" for any other name."""
    first, _, rest = module.partition(".")
    if first == "vng":
        return f"vng.{rest.partition('.')[0]}" if rest else "vng"
    return first if first in PACKAGES else ""


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:  # `from vng import propagators` imports a room, `from vng import train` the names
                module = ROOT.joinpath(*node.module.split("."), alias.name)
                whole = module.is_dir() or module.with_suffix(".py").exists()
                yield node.lineno, f"{node.module}.{alias.name}" if whole else node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def floors() -> dict[str, int]:
    """Room -> floor, as docs/architecture.md prints them."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `([\w.]+)` \|", text, re.M)
    assert len(rows) == len({room for _, room in rows}) > 20
    return {room: int(floor) for floor, room in rows}


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(module_of(path)) for path in sources()}
    assert rooms == set(floors())


def test_rooms_stand_on_rooms_below() -> None:
    floor = floors()
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources()
        if module_of(path) != "vng"  # the list of public names
        for line, name in imports(path)
        if room_of(name) and room_of(name) != room_of(module_of(path))
        if floor[room_of(name)] >= floor[room_of(module_of(path))]
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_command_line_imports_conversion() -> None:
    wrong = [
        path for path in (ROOT / "vng").rglob("*.py") for _, name in imports(path) if name.startswith("conversion")
    ]
    assert wrong and all(path.parent.name == "cli" for path in wrong)


def test_no_module_imports_itself_round_a_corner() -> None:
    """No cycles between modules, imports at the top of a file counted."""
    graph: dict[str, set[str]] = {}
    for path in sources():
        tree = ast.parse(path.read_text())
        top = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
        names = {f"{node.module}.{alias.name}" for node in top for alias in node.names}
        names |= {str(node.module) for node in top}
        graph[module_of(path)] = names - {module_of(path)}
    left = {name: {other for other in needs if other in graph} for name, needs in graph.items()}
    while ready := [name for name, needs in left.items() if not needs & set(left)]:
        for name in ready:
            del left[name]
    packages = {name for name in left if (ROOT.joinpath(*name.split(".")) / "__init__.py").exists()}
    assert not set(left) - packages, sorted(left)


def test_argparse_stays_in_the_command_line() -> None:
    others = {ROOT / "vng" / "models" / "checkpoints.py"}  # others' checkpoints hold their parsed arguments
    named = {path for path in sources() if any(name == "argparse" for _, name in imports(path))} - others
    assert named and all(path.parts[-2] in ("cli", "benchmarks") for path in named)


def test_functions_fit_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for package in ("vng", "conversion")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
        if node.end_lineno - node.lineno + 1 > 60
    ]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c) or "vng")
def test_help_answers_without_heavy_packages(command: tuple[str, ...]) -> None:
    code = (
        "import sys; from vng.cli import main; status = main(sys.argv[1:]);"
        f"heavy = {HEAVY} & set(sys.modules); assert not heavy, heavy; sys.exit(status)"
    )
    ended = subprocess.run([sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0 and "usage: vng" in ended.stdout, ended.stderr
    if command not in GROUPS:
        assert "example:" in ended.stdout


def test_import_vng_is_light() -> None:
    code = f"import sys, vng, conversion; heavy = {HEAVY} & set(sys.modules); assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_wrong_call_exits_with_2() -> None:
    for arguments, words in (
        (["nonsense"], "invalid choice"),
        (["predcit"], "did you mean 'predict'?"),
        (["synthesize"], "required"),
        (["train", "tiny", "--nonsense"], "unrecognized"),
        (["synthesize", "--out", "x", "--videos", "0"], "0 is not a positive number"),
    ):
        ended = subprocess.run([sys.executable, "-m", "vng.cli", *arguments], capture_output=True, text=True, cwd=ROOT)
        assert ended.returncode == 2 and "error:" in ended.stderr and words in ended.stderr


def test_vng_alone_prints_help() -> None:
    ended = subprocess.run([sys.executable, "-m", "vng.cli"], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0 and "from your points to your model" in ended.stdout


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_paths_named_in_the_documents_exist() -> None:
    named = [
        (d.name, p)
        for d in documents()
        for p in re.findall(r"`((?:vng|conversion|configs|tests|docs|benchmarks)/[\w./]*)`", d.read_text())
    ]
    assert len(named) > 10
    for document, path in named:
        assert (ROOT / path).exists(), f"{document} names {path}"


def test_links_in_the_documents_lead_somewhere() -> None:
    for document in documents():
        text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(), flags=re.DOTALL)  # "[noun](id)" is no link
        for target in re.findall(r"\]\(([^)]+)\)", text):
            path, _, anchor = target.partition("#")
            if path.startswith(("http:", "https:")):
                continue
            file = (document.parent / path).resolve() if path else document
            assert file.exists(), f"{document.name} links to {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
                known = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
                assert anchor in known, f"{document.name} links to {target}"


def test_commands_in_the_documents_parse() -> None:
    count = 0
    for document in documents():
        for block in re.findall(r"```bash\n(.*?)```", document.read_text(), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["vng"]:
                    build_parser().parse_args(words[1:])
                    count += 1
    assert count >= 5


def test_the_notebook_trains_predicts_and_shows_pictures(tmp_path: Path) -> None:
    cells = json.loads((ROOT / "notebooks" / "first_steps.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    environment = os.environ | {"TMPDIR": str(tmp_path), "MPLBACKEND": "agg"}
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint('figures', len(plt.get_fignums()))"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr
    assert "point agreement" in ended.stdout and "figures 3" in ended.stdout
    written = {path.name for path in tmp_path.glob("*/*/*")}
    assert {"config.json", "curves.png", "overlay.png", "overlay.mp4", "index.html"} <= written
