"""Conversion at scale: processes, objects, memory, kills, storage.

`python -m benchmarks.conversion [processes objects memory kills storage] [--segmenter NAME] [--videos N] [--json FILE]`

* processes: the same videos by one process and by two (torchrun); whole commands are timed, output files compared.
* objects: videos with 20 objects with points against videos with one, in one process, engines loaded beforehand.
* memory: peak resident memory of `vng convert` on 2,000 tiny procedural videos against 50.
* kills: two processes killed (SIGKILL to all) at 20 random moments and restarted each time; output files compared.
* storage: masks of the 20-video metric set (PEERS.md, section 1) as a dataset against paletted PNGs.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from conversion.build import run_conversion
from conversion.formats import point_vos, vidln
from conversion.formats.point_vos import AnnotatedPoint, PointRecord
from conversion.formats.vidln import ActorNarrative, VidLN
from conversion.kinds import make_conversion
from conversion.synthetic.scene import PRESETS
from conversion.synthetic.world import make_world, write_world
from vng.dataset import Video, VideoObject
from vng.dataset_writer import write_dataset
from vng.frames import encode_jpeg
from vng.masks import encode
from vng.segmenters import DEFAULT

METRIC_SET = Path(__file__).resolve().parents[2] / "shared" / "data" / "goldens" / "metrics" / "gen_synth.py"


def command(folder: Path, out: Path, segmenter: str, processes: int = 1) -> list[str]:
    """The command line of `vng convert point-vos` on a synthesized folder."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    inputs = ["--points", folder / "points.json", "--narratives", folder / "vidln.jsonl", "--frames", folder / "frames"]
    convert = ["-m", "vng.cli", "convert", "point-vos", *inputs, "--out", out, "--segmenter", segmenter, "--quiet"]
    return [*launcher, *map(str, convert)]


def run(command_line: list[str]) -> float:
    """Run a command and return the seconds it took; its output is discarded."""
    start = time.perf_counter()
    subprocess.run(command_line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def files_of(folder: Path) -> dict[str, bytes]:
    """Relative path -> bytes of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def measure_processes(folder: Path, segmenter: str, videos: int = 24) -> dict[str, float]:
    """Seconds of one process and of two."""
    write_world(folder / "w", videos, 1, "hard", progress=True)
    one = run(command(folder / "w", folder / "one", segmenter))
    two = run(command(folder / "w", folder / "two", segmenter, 2))
    same = files_of(folder / "one") == files_of(folder / "two")
    print(f"processes: one {one:.1f} s, two {two:.1f} s: {one / two:.2f}x; identical: {same}")
    return {"one_process_s": one, "two_processes_s": two, "processes_ratio": one / two, "processes_identical": same}


def write_objects(folder: Path, count: int, videos: int = 2, frames: int = 8) -> None:
    """Write videos of 240x432 with `count` objects, each with its own noun and 10 + 10 random points per frame."""
    rng = np.random.default_rng(0)
    names = [f"thing{chr(97 + i)}" for i in range(count)]
    caption = " ".join(names)
    records, narratives = [], []
    for index in range(videos):
        world = make_world(index, 3, replace(PRESETS["hard"], height=240, width=432, frames=frames))
        target = folder / "frames" / f"v{index}"
        target.mkdir(parents=True, exist_ok=True)
        for t in range(frames):
            (target / f"{t:06d}.jpg").write_bytes(encode_jpeg(world.frames[t]))
        for number, name in enumerate(names):
            points = []
            for t in range(frames):
                centre = rng.uniform((40, 40), (390, 200))
                for label, spread in ((1, 15.0), (0, 90.0)):
                    xy = np.clip(centre + rng.normal(0, spread, (10, 2)), 0, (431, 239)).round()
                    points += [AnnotatedPoint(float(x), float(y), f"{t:06d}", label) for x, y in xy]
            key, video = f"{index}-{number}", f"train/v{index}"
            records.append(PointRecord(key=key, object_name=name, video_name=video, points=tuple(points)))
        spans = tuple((caption.index(name), caption.index(name) + len(name)) for name in names)
        narrative = ActorNarrative(
            actor_name="Thing",
            caption=caption,
            keyframe_selection_indices=(0,),
            recording_start_ms=0,
            traces_start_ms=0,
            recording_filename="",
            traces=(),
            noun_segments=spans,
            time_alignment=(),
        )
        narratives.append(
            VidLN(
                vidln_id=index,
                dataset_id="many",
                video_id=f"v{index}",
                annotator_id=0,
                keyframe_names=("000000",),
                narratives=(narrative,),
            )
        )
    point_vos.write_points(records, folder / "points.json")
    vidln.write_vidln(narratives, folder / "vidln.jsonl")


def measure_objects(folder: Path, segmenter: str) -> dict[str, float]:
    """Seconds with one object and with 20, each the best of three runs."""
    seconds = {}
    for count in (1, 20):
        write_objects(folder / str(count), count)
        source = folder / str(count)
        times = []
        # the first run only warms up
        for attempt in range(4):
            conversion, out = make_conversion(
                "point-vos",
                folder / f"out-{count}-{attempt}",
                points=source / "points.json",
                narratives=source / "vidln.jsonl",
                frames=source / "frames",
                segmenter=segmenter,
                nouns="noun_segments",
                progress=False,
            )
            start = time.perf_counter()
            run_conversion(conversion, out)
            times.append(time.perf_counter() - start)
        seconds[count] = min(times[1:])
    ratio = seconds[20] / seconds[1]
    print(f"objects ({segmenter}): one {seconds[1]:.2f} s, twenty {seconds[20]:.2f} s: {ratio:.2f}x")
    return {"one_object_s": seconds[1], "twenty_objects_s": seconds[20], "objects_ratio": ratio}


def measure_memory(folder: Path, segmenter: str) -> dict[str, float]:
    """Peak resident memory with 50 videos and with 2,000."""
    tiny = replace(PRESETS["easy"], height=48, width=64, frames=4, objects=(1, 2))
    peaks = {}
    for count in (50, 2000):
        target = folder / str(count)
        records, narratives = [], []
        for index in range(count):
            world = make_world(index, 5, tiny)
            frames = target / "frames" / world.record.video_id
            frames.mkdir(parents=True)
            for t, image in enumerate(world.frames):
                (frames / f"{world.record.frame_names[t]}.jpg").write_bytes(encode_jpeg(image))
            records += world.points
            narratives.append(world.vidln)
        point_vos.write_points(records, target / "points.json")
        vidln.write_vidln(narratives, target / "vidln.jsonl")
        program = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        program += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        watched = [sys.executable, "-c", program, *command(target, folder / f"out-{count}", segmenter)]
        output = subprocess.run(watched, check=True, capture_output=True, text=True).stdout
        peaks[count] = int(output.split()[-1]) / 1024
        size = (target / "points.json").stat().st_size + (target / "vidln.jsonl").stat().st_size
        print(f"memory: {count} videos, {size / 2**20:.1f} MiB of annotations: peak {peaks[count]:.0f} MiB")
    ratio = peaks[2000] / peaks[50]
    print(f"memory: {ratio:.3f}x")
    return {"peak_50_MiB": peaks[50], "peak_2000_MiB": peaks[2000], "memory_ratio": ratio}


def measure_kills(folder: Path, segmenter: str, kills: int = 20, seed: int = 0) -> dict[str, float]:
    """Kill at random moments and restart; the output must be identical to that of an uninterrupted run."""
    write_world(folder / "w", 30, 2, "easy", progress=True)
    whole = run(command(folder / "w", folder / "whole", segmenter, 2))
    expected, draw = files_of(folder / "whole"), random.Random(seed)
    killed = finished = differing = 0
    parts: list[int] = []
    while killed < kills or not finished:
        out = folder / f"broken-{finished}"
        convert = command(folder / "w", out, segmenter, 2)
        process = subprocess.Popen(convert, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=draw.uniform(0.1, 1) * whole if killed < kills else None)
            assert process.returncode == 0, "a run failed"
            finished, differing = finished + 1, differing + (files_of(out) != expected)
        except subprocess.TimeoutExpired:
            # torchrun starts its processes in sessions of their own, so each is killed by itself
            for member in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
                member.kill()
            process.wait()
            killed += 1
            parts.append(len(list((out / ".partial").rglob("*.json"))))
    print(f"kills: {killed} (parts there after each: {parts}); {finished} datasets finished, {differing} differ")
    return {"kills": killed, "datasets_finished": finished, "datasets_that_differ": differing}


def measure_storage(folder: Path, _segmenter: str) -> dict[str, float]:
    """Bytes of masks as RLE in Parquet and as paletted PNGs."""
    subprocess.run([sys.executable, str(METRIC_SET), str(folder)], check=True, stdout=subprocess.DEVNULL)
    videos = []
    for path in sorted(folder.glob("*.npz")):
        labels = np.load(path)["gt"]
        names = tuple(f"{t:05d}" for t in range(len(labels)))
        objects = tuple(
            VideoObject(str(k), "", "orig_masks", tuple(encode(frame == k) for frame in labels))
            for k in range(1, int(labels.max()) + 1)
        )
        height, width = labels.shape[1:]
        videos.append(
            Video(
                video_id=path.stem,
                dataset="metric",
                split="test",
                height=height,
                width=width,
                fps=0.0,
                frame_names=names,
                narratives=(),
                expressions=(),
                objects=objects,
            )
        )
    write_dataset(folder / "dataset", videos, "metric set")
    parquet = sum(p.stat().st_size for p in (folder / "dataset" / "data").iterdir())
    png = sum(p.stat().st_size for p in (folder / "gt").rglob("*.png"))
    print(f"storage: PNG {png / 2**20:.2f} MiB, dataset {parquet / 2**20:.2f} MiB: {parquet / png:.2f}x")
    return {"png_bytes": png, "parquet_bytes": parquet, "storage_ratio": parquet / png}


FIGURES: dict[str, Callable[[Path, str], dict[str, float]]] = {
    "processes": measure_processes,
    "objects": measure_objects,
    "memory": measure_memory,
    "kills": measure_kills,
    "storage": measure_storage,
}


def main() -> None:
    """Measure and print the figures asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", default=list(FIGURES), help=f"any of {', '.join(FIGURES)} [all]")
    parser.add_argument("--segmenter", default=DEFAULT)
    parser.add_argument("--videos", type=int, default=24, help="of the figure `processes`")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for name in arguments.figures:
        with tempfile.TemporaryDirectory() as folder:
            measure = partial(measure_processes, videos=arguments.videos) if name == "processes" else FIGURES[name]
            figures |= measure(Path(folder), arguments.segmenter)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
