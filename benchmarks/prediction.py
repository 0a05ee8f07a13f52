"""Predictions on a dataset: files, processes, and kills.

    python -m benchmarks.prediction --model RUN [--figure files processes kills] [--videos 40] [--json FILE]

files: files and bytes of compact results of 100 videos x 6 expressions x 300 frames (480 x 854, drawn discs), and the time to
write them; no model is run.
processes: seconds of `vng predict --dataset` in one process and in two (`torchrun`), one thread each, in alternating rounds;
the results must be the same, byte for byte. Videos are of the easy procedural world.
kills: the same run killed (SIGKILL) at `--kills` moments and begun again each time; the end must be the same bytes.
RUN is any trained grounder, such as that of `vng demo`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.commands import run
from vng.compact_results import TrackResult, VideoResult, compact_path, write_compact
from vng.masks import RLE, encode

FIGURES = ("files", "processes", "kills")
ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 3


def files(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Write results at the size of a real set."""
    rng = np.random.default_rng(1)
    tracks = {str(k): TrackResult(masks=_discs(rng, 300), score=0.5) for k in range(6)}
    out, started = folder / "files", time.perf_counter()
    for number in range(100):
        video = VideoResult(
            video_id=f"video {number}",
            unit="expression",
            size=(480, 854),
            frame_names=tuple(f"{t:05d}" for t in range(300)),
            tracks=tracks,
        )
        write_compact(compact_path(out, video.video_id), video)
    seconds = time.perf_counter() - started
    written = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    print(
        f"files: {len(written)} with {sum(written) / 2**20:.0f} MiB, written in {seconds:.1f} s (as PNGs: 180,000 files)"
    )
    return {"files": float(len(written)), "MiB": sum(written) / 2**20, "seconds_to_write": seconds}


def _discs(rng: np.random.Generator, count: int) -> tuple[RLE, ...]:
    x, y = rng.uniform(100, 700), rng.uniform(100, 380)
    rles = []
    for _ in range(count):
        x, y = np.clip(x + rng.normal(0, 4), 60, 790), np.clip(y + rng.normal(0, 4), 60, 420)
        mask = cv2.ellipse(np.zeros((480, 854), np.uint8), (int(x), int(y)), (60, 40), 20, 0, 360, 1, -1)
        rles.append(encode(mask))
    return tuple(rles)


def _dataset(folder: Path, videos: int) -> Path:
    world, data = folder / "world", folder / "data"
    if not data.exists():
        run("synthesize", "--out", world, "--videos", videos, "--seed", 5, "--preset", "easy", "--quiet")
        trio = world / "vng"
        inputs = ["--meta", trio / "meta_expressions.json", "--extra-masks", trio / "extra_masks.json"]
        inputs += ["--orig-masks", trio / "orig_masks.json", "--frames", world / "frames"]
        run("convert", "vng", *inputs, "--out", data, "--name", "procedural", "--split", "train", "--quiet")
    return data


def _command(model: str, data: Path, out: Path, processes: int) -> list[str]:
    words = ["-m", "vng.cli", "predict", "--model", model, "--dataset", str(data), "--out", str(out), "--quiet"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), *words]


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def processes(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Time one process and two."""
    data = _dataset(folder, arguments.videos)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    best, found = {1: float("inf"), 2: float("inf")}, {}
    for _ in range(ROUNDS):
        for count in (1, 2):
            out = folder / f"results-{count}"
            shutil.rmtree(out, ignore_errors=True)
            started = time.perf_counter()
            subprocess.run(
                _command(arguments.model, data, out, count), env=environment, check=True, capture_output=True
            )
            best[count] = min(best[count], time.perf_counter() - started)
            found[count] = _contents(out)
    same = found[1] == found[2]
    ratio = best[1] / best[2]
    print(
        f"processes: {arguments.videos} videos, one {best[1]:.1f} s, two {best[2]:.1f} s, {ratio:.2f}x, same bytes: {same}"
    )
    return {"one_process_s": best[1], "two_processes_s": best[2], "speedup": ratio, "same_bytes": float(same)}


def kills(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Kill a run again and again, and compare what it ends with."""
    data, whole, out = _dataset(folder, arguments.videos), folder / "whole", folder / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    subprocess.run(_command(arguments.model, data, whole, 1), env=environment, check=True, capture_output=True)
    length, rng, done = time.perf_counter() - started, np.random.default_rng(3), 0
    while done < arguments.kills:
        process = subprocess.Popen(
            _command(arguments.model, data, out, 1), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            process.wait(rng.uniform(0.2, 0.5) * length)
            break  # it was done
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
    subprocess.run(_command(arguments.model, data, out, 1), env=environment, check=True, capture_output=True)
    same = _contents(whole) == _contents(out)
    print(f"kills: {done} kills, the same bytes in the end: {same}")
    return {"kills": float(done), "same_bytes_after_kills": float(same)}


def main() -> None:
    """Print the figures; write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="a trained grounder, for processes and kills")
    parser.add_argument("--figure", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    work = {"files": files, "processes": processes, "kills": kills}
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.figure:
            figures |= work[name](arguments, Path(folder))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
