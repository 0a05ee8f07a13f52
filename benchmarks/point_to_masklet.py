"""Every engine that turns points of one frame into masklets, on the same clips and the same points.

DAVIS validation clips at 240 rows, 1, 2, 5 and 10 positive points an object in the first frame (the first points of a
larger number are the smaller one), no negatives. J&F without the first and last frame; J over the course of the video,
in tenths, from one point; processor time a frame, and peak memory, each engine in a process of its own.

`python -m benchmarks.point_to_masklet [--engines NAME ...] [--points 1 2 5 10] [--seeds 0] [--out DIR] [--json FILE]`

Engines with weights that somebody downloaded: `--engine "sam_pt:segmenter=sam,segmenter_checkpoint=facebook/sam-vit-huge"`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.davis import DEFAULT_ROOT, Clip, clips
from benchmarks.propagators import ClipFrames
from vng.evaluation.metrics import boundary_f, jaccard
from vng.points import PointPrompts, sample_in_mask
from vng.propagators import FramePrompts, load

# title -> (propagator, settings)
ENGINES: dict[str, tuple[str, dict[str, str]]] = {
    "watershed + flow": ("flow", {"segmenter": "classical"}),
    "embedded + flow": ("flow", {"segmenter": "embedded"}),
    "Point-STCN, network alone": ("stcn", {"points": "model"}),
    "STCN on pseudo-masks": ("stcn", {"points": "segmenter"}),
    "SAM-PT, Lucas-Kanade": ("sam_pt", {"tracker": "lucas_kanade"}),
    "SAM-PT, STCN features": ("sam_pt", {"tracker": "stcn"}),
    "SAM-PT, Lucas-Kanade, reinit": ("sam_pt", {"tracker": "lucas_kanade", "reinit": "median-area"}),
    "ABS": ("abs", {}),
    "PointVIS, embedded proposals": ("proposals", {"source": "grid"}),
}
COUNTS = (1, 2, 5, 10)
PARTS = 10


def points_of(clip: Clip, count: int, seed: int) -> tuple[list[int], FramePrompts]:
    """The objects of the first frame, and `count` points of each; fewer points are the first of more."""
    first = clip.labels(0)
    ids = [int(k) for k in np.unique(first) if k not in (0, 255)]
    points = []
    for k in ids:
        rng = np.random.default_rng([seed, k, zlib.crc32(clip.name.encode())])
        points.append(PointPrompts(sample_in_mask(first == k, max(COUNTS), 10, rng)[:count], np.empty((0, 2))))
    return ids, FramePrompts(points=tuple(points))


def score(clip: Clip, engine: Any, count: int, seed: int) -> tuple[float, list[float]]:
    """Mean J&F over the objects of a clip, and mean J in tenths of all frames."""
    ids, prompt = points_of(clip, count, seed)
    found = {}
    for t, probabilities in engine(ClipFrames(clip), {0: prompt}):
        winner = probabilities.argmax(0)
        found[t] = np.stack([(winner == k) & (p > 0.5) for k, p in enumerate(probabilities)])
    truth = np.stack([[clip.labels(t) == k for t in range(len(clip))] for k in ids])
    pred = np.stack([found[t] for t in range(len(clip))], 1)
    j = np.stack([jaccard(a, b) for a, b in zip(truth, pred, strict=True)])
    f = np.stack([boundary_f(a, b) for a, b in zip(truth[:, 1:-1], pred[:, 1:-1], strict=True)])
    course = [float(part.mean()) for part in np.array_split(j, PARTS, axis=1)]
    return float((j[:, 1:-1].mean() + f.mean()) / 2), course


def measure(title: str, counts: list[int], seeds: list[int], root: Path) -> dict[str, Any]:
    """The figures of one engine, in this process."""
    name, settings = ENGINES.get(title, (title, {}))
    if ":" in title:
        name, _, rest = title.partition(":")
        settings = dict(word.split("=", 1) for word in rest.split(",") if word)
    engine = load(name, **({"settings": settings} if settings else {}))
    result: dict[str, Any] = {"JF": {}, "clips": {}}
    frames, seconds = 0, 0.0
    for count in counts:
        values = []
        for seed in seeds:
            start = time.process_time()
            per_clip = {clip.name: score(clip, engine, count, seed) for clip in clips(root)}
            seconds += time.process_time() - start
            frames += sum(len(clip) for clip in clips(root))
            values.append(float(np.mean([value for value, _ in per_clip.values()])))
            if count == min(counts) and seed == seeds[0]:
                result["course"] = np.mean([course for _, course in per_clip.values()], axis=0).tolist()
                result["clips"] = {name: value for name, (value, _) in per_clip.items()}
        result["JF"][str(count)] = float(np.mean(values))
    result["ms"] = 1000 * seconds / frames
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Two plots side by side: J&F over the number of points, J over the video from one point."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    for title, own in results.items():
        counts = sorted(map(int, own["JF"]))
        left.plot(counts, [100 * own["JF"][str(c)] for c in counts], marker="o", label=title)
        right.plot(np.arange(PARTS) + 0.5, [100 * v for v in own["course"]], label=title)
    left.set(xlabel="points an object in the first frame", ylabel="J&F, %", title="Points in, masklets out")
    right.set(xlabel="tenth of the video", ylabel="J, %", title="From the least number of points, over the video")
    left.set_xticks(COUNTS)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=8)
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure each engine in a process of its own, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), help="titles, or NAME:KEY=VALUE,...")
    parser.add_argument("--points", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT)
    parser.add_argument("--out", type=Path, default=Path("out/point-to-masklet"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.points, arguments.seeds, arguments.root)))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "results.json"
    results: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for title in arguments.engines:
        if title in results:
            continue
        words = ["--one", title, "--points", *map(str, arguments.points), "--seeds", *map(str, arguments.seeds)]
        command = [sys.executable, "-m", "benchmarks.point_to_masklet", *words, "--root", str(arguments.root)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[title] = json.loads(done.stdout.splitlines()[-1])
        kept.write_text(json.dumps(results))
    counts = [str(c) for c in arguments.points]
    print(f"{'':32}" + "".join(f"{c:>7}" for c in counts) + f"{'first':>8}{'last':>7}{'ms':>7}{'MiB':>7}")
    for title in arguments.engines:
        own = results[title]
        cells = "".join(f"{100 * own['JF'][c]:7.1f}" if c in own["JF"] else f"{'':7}" for c in counts)
        ends = f"{100 * own['course'][0]:8.1f}{100 * own['course'][-1]:7.1f}"
        print(f"{title:32}{cells}{ends}{own['ms']:7.0f}{own['peak']:7.0f}")
    plot({title: results[title] for title in arguments.engines}, arguments.out / "point-to-masklet.png")
    if arguments.json:
        flat = {f"{t}_{c}": results[t]["JF"][c] for t in arguments.engines for c in counts if c in results[t]["JF"]}
        arguments.json.write_text(json.dumps(flat))


if __name__ == "__main__":
    main()
