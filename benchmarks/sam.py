"""Seconds of the SAM engine for 1 and for 20 objects of a frame: SAM 2.1 hiera-tiny at full size, random weights.

`python -m benchmarks.sam [--objects 20] [--points 10] [--repeats 3] [--device cpu] [--json FILE]`

On two shared cores, run it under `taskset -c 0` with OMP_NUM_THREADS=1. The best of the repeats counts; 1 and K objects
take turns. On a busy machine, processor time is more reliable than wall time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import Sam2Config, Sam2Model

from vng.points import PointPrompts
from vng.segmenters import Segmenter, load
from vng.segmenters.sam import SamSettings

HEIGHT, WIDTH = 480, 854


def prompts_of(count: int, points: int, rng: np.random.Generator) -> list[PointPrompts]:
    """Prompts of `count` objects, each with 1 to `points` positives and as many negatives anywhere in the frame."""
    size = [WIDTH - 1, HEIGHT - 1]
    counts = rng.integers(1, points + 1, count) if count > 1 else [points]
    return [PointPrompts(rng.random((n, 2)) * size, rng.random((n, 2)) * size) for n in counts]


def seconds(segmenter: Segmenter, image: np.ndarray, prompts: list[PointPrompts]) -> tuple[float, float]:
    """Wall and processor seconds of one call; the result is in host memory, so work on a GPU is included."""
    wall, processor = time.perf_counter(), time.process_time()
    segmenter(image, prompts)
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--refinements", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        Sam2Model(Sam2Config()).save_pretrained(folder)
        settings = SamSettings(refinements=arguments.refinements)
        segmenter = load("sam2", checkpoint=folder, settings=settings, device=arguments.device)
    one, many = prompts_of(1, arguments.points, rng), prompts_of(arguments.objects, arguments.points, rng)
    seconds(segmenter, image, many)  # warms up
    times = [(seconds(segmenter, image, one), seconds(segmenter, image, many)) for _ in range(arguments.repeats)]
    best = np.min(times, axis=0)  # [1 or K objects, wall or processor]
    print(f"SAM 2.1 hiera-tiny, {WIDTH}x{HEIGHT}, {arguments.device}, {torch.get_num_threads()} threads")
    print(f"{'':12}{'1 object':>10}{f'{arguments.objects} objects':>12}{'ratio':>8}")
    figures = {}
    for name, one_object, all_objects in zip(("wall", "processor"), *best.tolist(), strict=True):
        print(f"{name:12}{one_object:8.2f} s{all_objects:10.2f} s{all_objects / one_object:8.2f}")
        suffix = "" if name == "wall" else "_processor"
        figures |= {f"seconds_1{suffix}": one_object, f"seconds_{arguments.objects}{suffix}": all_objects}
        figures[f"ratio{suffix}"] = all_objects / one_object
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
