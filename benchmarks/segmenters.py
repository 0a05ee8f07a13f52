"""Mean J of a segmenter on DAVIS clips from random points.

Five frames a clip, evenly spread; per object P positive and P negative random points at least 10 pixels apart; mean over
objects and frames, then over clips. `python -m benchmarks.segmenters [--points 10 5 1] [--seeds 0 1 2] [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.davis import DEFAULT_ROOT, Clip, clips
from vng.points import PointPrompts, sample_in_mask
from vng.segmenters import DEFAULT, Segmenter, load

FRAMES, DISTANCE = 5, 10


def score_clip(clip: Clip, segmenter: Segmenter, count: int, seed: int) -> tuple[list[float], float]:
    """J of every object in every frame looked at, and the seconds the segmenter took."""
    rng = np.random.default_rng(seed)
    scores, seconds = [], 0.0
    for index in np.linspace(0, len(clip) - 1, FRAMES).round().astype(int):
        image, labels = clip.frame(int(index)), clip.labels(int(index))
        truth = [labels == k for k in np.unique(labels) if k not in (0, 255)]
        prompts = [
            PointPrompts(sample_in_mask(m, count, DISTANCE, rng), sample_in_mask(~m, count, DISTANCE, rng))
            for m in truth
        ]
        start = time.perf_counter()
        masks = segmenter(image, prompts) > 0.5
        seconds += time.perf_counter() - start
        scores += [float((m & t).sum() / (m | t).sum()) for m, t in zip(masks, truth, strict=True)]
    return scores, seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segmenter", default=DEFAULT)
    parser.add_argument("--checkpoint", help="weights of the segmenter: a folder or hub id")
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT)
    parser.add_argument("--points", type=int, nargs="+", default=[10, 5, 1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    options = {} if arguments.checkpoint is None else {"checkpoint": arguments.checkpoint}
    segmenter, figures = load(arguments.segmenter, **options), {}
    for count in arguments.points:
        rows: dict[str, list[float]] = {}
        seconds, objects = 0.0, 0
        for clip in clips(arguments.root):
            for seed in arguments.seeds:
                scores, spent = score_clip(clip, segmenter, count, seed)
                rows.setdefault(clip.name, []).append(float(np.mean(scores)))
                seconds, objects = seconds + spent, objects + len(scores)
        per_seed = np.mean(list(rows.values()), axis=0)
        print(
            f"\n{count} + {count} points: mean J {per_seed.mean():.3f}  (seeds {', '.join(f'{v:.3f}' for v in per_seed)})"
        )
        for name, values in rows.items():
            print(f"  {name:16}{np.mean(values):.3f}")
        print(f"  {seconds / objects:.3f} s an object and frame")
        figures[f"mean_J_{count}"] = float(per_seed.mean())
        figures[f"seconds_per_object_{count}"] = seconds / objects
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
