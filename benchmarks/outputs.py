"""A fixed set of commands on small data, with a hash of every file that they write: what a refactoring must not change.

    python -m benchmarks.outputs --out DIR --json before.json          # at one commit
    python -m benchmarks.outputs --out DIR --json after.json           # at another
    python -m benchmarks.outputs --compare before.json after.json      # status 1 where anything differs

The commands are those of `outputs.txt`: conversion of every kind, inspection, export, twenty training steps of each
task, prediction, propagation, and every protocol of evaluation. They run in DIR with relative paths, so that no page holds
a path of this machine, and on one thread, so that sums do not depend on the number of cores. Standard output counts as a
file; seconds are taken out before hashing. What differs on purpose between two commits stands in `EXPECTED`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

os.environ.setdefault("OMP_NUM_THREADS", "1")

COMMANDS = Path(__file__).with_suffix(".txt")
SECONDS = re.compile(rb'"seconds(_per_\w+|_left)?": [0-9.e-]+')
# A pattern of "command/file" -> why it differs between commit 40afb99, before the moves of November 2026, and later ones.
EXPECTED = {
    r"convert-.*/manifest\.json": "a conversion that makes no masks no longer loads a segmenter and names none",
    r"(predict|propagate).*/(predictions|propagation)\.json": "hold the hash of such a manifest",
    r"train-.*/training\.json": "likewise; and all tasks name their datasets alike (data.sources with weights)",
    r"evaluate-.*/index\.html": "the comments and local names of the embedded script table.js changed, nothing shown",
    r".*/overlay\.(mp4|png)": "pictures: an outline and a light fill, drawn at the size of the picture",
    r"(inspect|compare|evaluate).*/index\.html": "likewise",
    r"export-.*/problems\.jsonl": "plainer words: 'this format does not support them'",
    r"propagate.*/result\.json": "plainer words: negative points 'are ignored'",
}


@dataclass(frozen=True)
class Command:
    """One command: its name among the hashes, and its words."""

    name: str
    words: tuple[str, ...]


def read_commands(path: Path = COMMANDS) -> list[Command]:
    """The commands, in order."""
    repeated: dict[str, str] = {}
    commands = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("$"):
            name, _, words = line[1:].partition(" = ")
            repeated[name] = words
        elif line and not line.startswith("#"):
            name, _, words = line.partition(": ")
            commands.append(Command(name, tuple(shlex.split(Template(words).substitute(repeated)))))
    return commands


def run(out: Path, only: Sequence[str] = ()) -> dict[str, str]:
    """Run the commands in `out`, a new folder; {command/file: first 16 digits of its SHA-256}.

    `only` names the commands to run; those they build on must have run in `out`.
    """
    from benchmarks.small_world import write_small_world

    if not only:
        out.mkdir(parents=True)
        write_small_world(out / "small")
    hashes: dict[str, str] = {}
    with contextlib.chdir(out):
        for command in read_commands():
            if not only or command.name in only:
                hashes |= _run(command)
    return hashes


def _run(command: Command) -> dict[str, str]:
    from vng.cli import main

    before, started, printed = _files(), time.perf_counter(), io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = main([*command.words, "--quiet"])
    written = [path for path, stamp in _files().items() if before.get(path) != stamp]
    seconds = time.perf_counter() - started
    print(f"{command.name:28} status {status}  {len(written):4} files  {seconds:5.1f} s", flush=True)
    if status:
        raise SystemExit(f"{printed.getvalue()}{command.name}: exit status {status}")
    hashes = {f"{command.name}/stdout": _hash(printed.getvalue().encode())}
    return hashes | {f"{command.name}/{path}": _hash(Path(path).read_bytes()) for path in sorted(written)}


def _files() -> dict[str, tuple[int, int]]:
    stats = {str(path): path.stat() for path in Path().rglob("*") if path.is_file()}
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}


def _hash(data: bytes) -> str:
    return hashlib.sha256(SECONDS.sub(b"", data)).hexdigest()[:16]


def compare(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """A line a difference that `EXPECTED` does not explain."""
    return [
        f"{key}: {before.get(key, 'not there')} -> {after.get(key, 'not there')}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not any(re.fullmatch(pattern, key) for pattern in EXPECTED)
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/outputs"), help="folder to run in; it is deleted first")
    parser.add_argument("--json", type=Path, help="write the hashes to this file")
    parser.add_argument("--only", nargs="+", default=[], metavar="COMMAND", help="run these again in --out as it is")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="compare two such files")
    arguments = parser.parse_args()
    if arguments.compare:
        before, after = (json.loads(path.read_text()) for path in arguments.compare)
        differences = compare(before, after)
        print(*differences, f"{len(differences)} of {len(before)} differ without an explanation", sep="\n")
        sys.exit(bool(differences))
    if not arguments.only:
        shutil.rmtree(arguments.out, ignore_errors=True)
    text = json.dumps(run(arguments.out, arguments.only), indent=1)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
