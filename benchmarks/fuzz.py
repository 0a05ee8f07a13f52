"""Every reader on mutated files: counts tracebacks, hangs, files outside the output folder, and peak memory.

    python -m benchmarks.fuzz                                  # all readers, 200 cases each
    python -m benchmarks.fuzz --only mevis --cases 20000 --minutes 10 --keep out/fuzz
    python -m benchmarks.fuzz --only mevis --case 244 --keep out/fuzz       # one case again; its files stay

A case is one file of the small world (`benchmarks.small_world`) with one to three mutations, drawn from the reader's name
and the case's number: bytes are flipped, cut, repeated; values of JSON, YAML and Parquet are replaced by hostile ones.
A reader passes a case if it ends with an exit status, or with an error of `vng`, within 20 seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.small_world import write_small_world

LIMIT = 20.0  # seconds of one case
TRIO = "--meta trio/meta_expressions.json --extra-masks trio/extra_masks.json --orig-masks trio/orig_masks.json"
FLOW = "--propagator flow --out o"
TOOL = "--segmenter classical --out o"


@dataclass(frozen=True)
class Target:
    """A reader: a command line, and the files of the world that are mutated (patterns)."""

    name: str
    command: str
    files: tuple[str, ...]


TARGETS = (
    Target("vng", f"convert vng {TRIO} --frames frames --out o", ("trio/*.json",)),
    Target("frames", f"convert vng {TRIO} --frames frames --out o", ("frames/*/*",)),
    Target(
        "point-vos",
        "convert point-vos --points points.json --narratives vidln.jsonl --frames frames --segmenter classical --out o",
        ("points.json", "vidln.jsonl"),
    ),
    Target("points-alone", "convert point-vos --points points.jsonl --frames frames --out o", ("points.jsonl",)),
    Target(
        "vidln",
        "convert vidln --narratives vidln.jsonl --frames frames --segmenter classical --out o",
        ("vidln.jsonl",),
    ),
    Target("davis", "convert davis --root davis --image-set 2017/val --out o", ("davis/Ann*/*/*/*", "davis/Im*/*/*")),
    Target("youtube-vos", "convert youtube-vos --root youtube --out o", ("youtube/meta.json", "youtube/Ann*/*/*")),
    Target("youtube-vis", "convert youtube-vis --masks vis.json --frames frames --out o", ("vis.json",)),
    Target("uvo", "convert uvo --masks vis.json --frames frames --out o", ("vis.json",)),
    Target(
        "ref-youtube-vos",
        "convert ref-youtube-vos --meta ref_youtube.json --annotations youtube/Annotations --frames frames --out o",
        ("ref_youtube.json",),
    ),
    Target(
        "mevis",
        "convert mevis --meta mevis.json --masks mask_dict.json --frames frames --out o",
        ("mevis.json", "mask_dict.json"),
    ),
    Target("ref-davis", "convert ref-davis --root davis --expressions ref_davis.json --out o", ("ref_davis.json",)),
    Target(
        "vicas",
        "convert vicas --annotations vicas --frames vicas_frames --split-lists vicas_splits/val.json --spans head --out o",
        ("vicas/*.json", "vicas_splits/*"),
    ),
    Target(
        "vicas-referrals",
        "convert vicas --annotations vicas --text referrals --masks all --out o",
        ("vicas/*.json",),
    ),
    Target(
        "coco-png",
        "convert coco-png --narratives png_coco.json --panoptic panoptic.json --panoptic-masks panoptic"
        " --images images --out o",
        ("png_coco.json", "panoptic.json", "panoptic/*", "images/*"),
    ),
    Target("parquet", "inspect ds --html h", ("ds/data/*.parquet",)),
    Target("dataset", "inspect ds --html h", ("ds/*.json", "ds/*.jsonl")),
    Target("point-prompts", f"propagate --video frames/dusk --points prompts.csv {FLOW}", ("prompts.csv",)),
    Target("json-prompts", f"propagate --video frames/dusk --points prompts.json {FLOW}", ("prompts.json",)),
    Target(
        "own-clips",
        "convert own --clips own.jsonl --segmenter classical --propagator flow --out o",
        ("own.jsonl", "own_mask.png"),
    ),
    Target("cvat", f"convert cvat --annotations cvat.xml --frames frames {TOOL}", ("cvat.xml",)),
    Target("label-studio", f"convert label-studio --annotations label_studio.json {TOOL}", ("label_studio.json",)),
    Target("coco", f"convert coco --annotations coco.json --frames frames {TOOL}", ("coco.json",)),
    Target("labelme", f"convert labelme --annotations labelme --frames frames {TOOL}", ("labelme/*/*",)),
    Target("mask-prompts", f"propagate --video frames/dusk --masks prompt_masks {FLOW}", ("prompt_masks/*",)),
    Target("video", f"propagate --video film.mp4 --points prompts.json {FLOW}", ("film.mp4",)),
    Target("matroska", f"propagate --video film.mkv --points prompts.json {FLOW}", ("film.mkv",)),
    Target(
        "instances",
        "evaluate instances --annotations vis.json --results results.json",
        ("vis.json", "results.json"),
    ),
    Target("recipe", "recipe recipe.yaml", ("recipe.yaml",)),
)
BY_NAME = {target.name: target for target in TARGETS}

# Values that readers must bound, refuse or skip.
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64 + 960, 10**30, -(10**30), 0.5, 1e308, float("nan"), float("inf"),
    "", " ", "x" * 3000, "../../evil", "/etc/passwd", "a\0b", "\ud800", "\x1b[31mred", "caf\u0065\u0301", "\U0001f389",
    "a\\b", ".", "..", "nan", [], {}, [[]], [None], [1, 2], {"": ""}, [0] * 1000, {"size": [24, 40], "counts": "0"},
    {"size": [2**31, 2**31], "counts": "1"}, {"size": [24, 40], "counts": [10**12, 1]}, {"size": [-24, 40], "counts": ""},
)  # fmt: skip


def write_world(root: Path) -> None:
    """The small world, a dataset, films, mask prompts, results and a recipe beside it."""
    from vng.frames import open_frames
    from vng.label_maps import write_label_map
    from vng.viewer import write_video

    write_small_world(root)
    frames = open_frames(root / "frames" / "dusk")
    for name in ("film.mp4", "film.mkv"):
        write_video((frame for _ in range(5) for frame in frames), root / "film.mp4")
        if name == "film.mkv":
            _remux(root / "film.mp4", root / name)
    (root / "prompt_masks").mkdir()
    import numpy as np

    from benchmarks.small_world import mask

    write_label_map(root / "prompt_masks" / "000000.png", np.stack([mask(0, 0), mask(0, 1)]), [1, 2])
    vis = json.loads((root / "vis.json").read_text())
    keys = ("video_id", "category_id", "segmentations")
    results = [{key: item[key] for key in keys} | {"score": 0.5} for item in vis["annotations"]]
    (root / "results.json").write_text(json.dumps(results))
    tiny = Path(__file__).resolve().parents[1] / "configs" / "tiny.yaml"
    (root / "recipe.yaml").write_text(tiny.read_text())
    _call(f"convert vng {TRIO} --frames frames --out ds --quiet", root)


def _remux(source: Path, target: Path) -> None:
    import av

    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)


def _call(command: str, folder: Path) -> int:
    """Run a command in a folder, quietly; an error of `vng` is a status, anything else is raised."""
    words = command.split()
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if words[0] == "recipe":
                return _load_recipe(Path(words[1]))
            from vng.cli import main

            return main([*words, "--quiet"] if words[0] != "evaluate" else words)
    finally:
        os.chdir(before)


def _load_recipe(path: Path) -> int:
    from vng.errors import VngError
    from vng.training.tasks import load_recipe

    try:
        load_recipe(path, [])
    except VngError as error:
        return error.exit_status
    return 0


class Mutator:
    """Mutations of one file, from a seed."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)

    def mutate(self, path: Path) -> None:
        """Mutate a file in place, one to three times, all by structure or all by bytes."""
        structured = {".json": self._json, ".jsonl": self._lines, ".parquet": self._rows, ".yaml": self._yaml}
        change = structured.get(path.suffix)
        data = path.read_bytes()
        path.unlink()  # it is a link to the world's own
        if change is not None and self.random.random() < 0.7:
            with contextlib.suppress(Exception):  # values that the format cannot hold
                for _ in range(self.random.randint(1, 3)):
                    data = change(data)
        else:
            for _ in range(self.random.randint(1, 3)):
                data = self._bytes(data)
        path.write_bytes(data)

    def _bytes(self, data: bytes) -> bytes:
        r, size = self.random, len(data)
        if not size:
            return r.randbytes(r.randint(1, 50))
        at, length = r.randrange(size), r.choice((1, 2, 4, 16, 150, size // 3))
        return {
            "flip": lambda: data[:at] + bytes([data[at] ^ (1 << r.randrange(8))]) + data[at + 1 :],
            "noise": lambda: data[:at] + r.randbytes(length) + data[at + length :],
            "zero": lambda: data[:at] + bytes(length) + data[at + length :],
            "cut": lambda: data[:at],
            "drop": lambda: data[:at] + data[at + length :],
            "repeat": lambda: data[:at] + data[at : at + length] * r.choice((2, 3)) + data[at:],
            "deep": lambda: data[:at] + b"[" * 100_000 + data[at:],
            "digits": lambda: data[:at] + b"9" * 5000 + data[at:],
        }[r.choice(("flip", "noise", "zero", "cut", "drop", "repeat", "deep", "digits"))]()

    def _json(self, data: bytes) -> bytes:
        return json.dumps(self.change(json.loads(data))).encode()

    def _lines(self, data: bytes) -> bytes:
        lines = data.splitlines()
        index = self.random.randrange(len(lines))
        lines[index] = self._json(lines[index])
        return b"\n".join(lines) + b"\n"

    def _yaml(self, data: bytes) -> bytes:
        import yaml

        return yaml.safe_dump(self.change(yaml.safe_load(data))).encode()

    def _rows(self, data: bytes) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pq.read_table(io.BytesIO(data))
        rows = self.change(table.to_pylist())
        try:
            made = pa.Table.from_pylist(rows, schema=table.schema)
        except (pa.ArrowException, TypeError, OverflowError, UnicodeError):
            made = pa.Table.from_pylist(rows)
        buffer = io.BytesIO()
        pq.write_table(made, buffer)
        return buffer.getvalue()

    def change(self, tree: Any) -> Any:
        """A tree with one place changed: another value, or a key that is gone, or one that is doubled."""
        places = list(_places(tree))
        if not places:
            return self.random.choice(HOSTILE)
        parent, key = self.random.choice(places)
        action = self.random.random()
        if action < 0.1:
            del parent[key]
        elif action < 0.2 and isinstance(parent, list):
            parent.insert(key, parent[key])
        elif action < 0.3:
            other, place = self.random.choice(places)
            parent[key] = copy.deepcopy(other[place])  # not the value itself, which may hold its new parent
        elif action < 0.4 and isinstance(parent[key], int) and not isinstance(parent[key], bool):
            parent[key] += self.random.choice((-1, 1, 1000))
        elif action < 0.45 and isinstance(parent, dict):
            parent[str(self.random.choice(HOSTILE))] = parent.pop(key)
        else:
            parent[key] = self.random.choice(HOSTILE)
        return tree


def _places(tree: Any, most: int = 20_000) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value of a tree."""
    stack = [tree]
    while stack and most:
        node = stack.pop()
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            yield node, key
            most -= 1
            if isinstance(node[key], (dict, list)):
                stack.append(node[key])


@dataclass
class Outcome:
    """Results of the cases of a reader."""

    cases: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)  # case and traceback, hang or death
    peak: int = 0  # bytes
    seconds: float = 0.0


def run_case(target: Target, world: Path, number: int, folder: Path) -> tuple[int, str]:
    """Run one case in a new folder; returns (exit status, "") or (-1, fault)."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world, folder / "in", copy_function=os.link)
    mutator = Mutator(f"{target.name} {number}")
    files = sorted(path for pattern in target.files for path in (folder / "in").glob(pattern))
    mutator.mutate(mutator.random.choice(files))
    before = _names(folder)
    try:
        status = _call(target.command, folder / "in")
    except BaseException:
        return -1, traceback.format_exc()
    strange = [name for name in _names(folder) - before if Path(name).parts[1] not in ("o", "h", "o.tmp")]
    return (-1, f"files outside the output: {strange[:3]}") if strange else (status, "")


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def run_target(
    target: Target, world: Path, cases: Sequence[int], minutes: float, scratch: Path, tell: Callable[[str], None]
) -> Outcome:
    """Run cases in child processes, each watched: a case that hangs or kills its process is a fault."""
    outcome, start, position = Outcome(), time.monotonic(), 0
    while position < len(cases) and time.monotonic() - start < 60 * minutes:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            _child(target, world, cases[position : position + 500], scratch, write)
        os.close(write)
        with os.fdopen(read, "rb", buffering=0) as pipe:
            while position < len(cases) and time.monotonic() - start < 60 * minutes:
                ready, _, _ = select.select([pipe], [], [], LIMIT)
                line = _line(pipe) if ready else b""
                if not line:
                    break
                status, fault = json.loads(line)
                if status is None:  # the child has done its share
                    break
                outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
                if fault:
                    outcome.faults.append(f"case {cases[position]}: {fault}")
                    tell(f"{target.name} {outcome.faults[-1]}")
                position += 1
            else:
                line = b"{}"
        os.kill(child, signal.SIGKILL)
        _, ended, usage = os.wait4(child, 0)
        outcome.peak = max(outcome.peak, usage.ru_maxrss * 1024)
        if not line and position < len(cases):
            why = "hangs" if not ready else f"ends its process ({ended})"
            outcome.faults.append(f"case {cases[position]}: {why}")
            tell(f"{target.name} {outcome.faults[-1]}")
            position += 1
    outcome.cases, outcome.seconds = position, time.monotonic() - start
    return outcome


def _line(pipe: Any) -> bytes:
    """A line of a pipe without read-ahead; b"" where it is closed."""
    line = b""
    while not line.endswith(b"\n"):
        byte = pipe.read(1)
        if not byte:
            return b""
        line += byte
    return line


def _child(target: Target, world: Path, cases: Sequence[int], scratch: Path, write: int) -> None:
    """The work of a child process; never returns."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    for number in cases:
        result: tuple[int | None, str] = run_case(target, world, number, scratch / target.name)
        os.write(write, json.dumps([result[0], result[1][-3000:]]).encode() + b"\n")
    os.write(write, b"[null, null]\n")
    time.sleep(LIMIT)  # the parent ends it, after it has read everything
    os._exit(0)


def main() -> int:
    """Run, print one line per reader, and return 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(BY_NAME), default=list(BY_NAME))
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument("--minutes", type=float, default=10.0, help="most time for a reader")
    parser.add_argument("--keep", type=Path, help="folder for the files of the last case of each reader")
    arguments = parser.parse_args()
    cases = range(arguments.first, arguments.first + arguments.cases)
    if arguments.case is not None:
        cases = range(arguments.case, arguments.case + 1)
    faults = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        world, scratch = Path(folder) / "world", arguments.keep or Path(folder) / "cases"
        write_world(world)
        if arguments.keep is not None and os.stat(folder).st_dev != os.stat(_made(arguments.keep)).st_dev:
            shutil.copytree(world, arguments.keep / "world", dirs_exist_ok=True)  # links need one file system
            world = arguments.keep / "world"
        for name in arguments.only:
            outcome = run_target(BY_NAME[name], world, cases, arguments.minutes, scratch.resolve(), _tell)
            faults += len(outcome.faults)
            ended = ", ".join(f"{count} x {status}" for status, count in sorted(outcome.statuses.items()))
            print(
                f"{name:16} {outcome.cases:6} cases {outcome.seconds:7.1f} s  {len(outcome.faults)} faults "
                f" peak {outcome.peak / 2**20:.0f} MiB  status {ended}",
                flush=True,
            )
    return 1 if faults else 0


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
