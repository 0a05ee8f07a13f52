"""J&F of a propagator on DAVIS clips (without the first and last frame), from the true first mask or from points.

`python -m benchmarks.propagators [--propagator NAME] [--checkpoint DIR] [--points 10] [--negatives 0] [--seeds 0 1 2]
[--set KEY=VALUE ...] [--only mask|points] [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.davis import DEFAULT_ROOT, Clip, clips
from vng.evaluation.metrics import boundary_f, jaccard
from vng.frames import Frames
from vng.points import PointPrompts, sample_in_mask
from vng.propagators import DEFAULT, FramePrompts, Propagator, load


class ClipFrames(Frames):
    """The frames of a clip, as a propagator reads them."""

    def __init__(self, clip: Clip) -> None:
        super().__init__([path.stem for path in clip.images], clip.name)
        self._clip = clip

    def _read(self, index: int) -> np.ndarray:
        return self._clip.frame(index)


def score_clip(clip: Clip, propagator: Propagator, points: int, seed: int, negatives: int | None = None) -> float:
    """Mean J&F over the objects of a clip.

    The first frame has `points` positives and `negatives` (None: as many) per object; with 0 points, the true mask.
    """
    rng = np.random.default_rng(seed)
    first = clip.labels(0)
    ids = [k for k in np.unique(first) if k not in (0, 255)]
    masks = [first == k for k in ids]
    if points:
        off = points if negatives is None else negatives
        drawn = [PointPrompts(sample_in_mask(m, points, 10, rng), sample_in_mask(~m, off, 10, rng)) for m in masks]
        prompts = {0: FramePrompts(points=tuple(drawn))}
    else:
        prompts = {0: FramePrompts(masks=tuple(masks))}
    predicted: dict[int, np.ndarray] = dict.fromkeys(range(len(clip)), np.empty(0))
    for t, probabilities in propagator(ClipFrames(clip), prompts):
        winner = probabilities.argmax(0)
        predicted[t] = np.stack([(winner == k) & (p > 0.5) for k, p in enumerate(probabilities)])
    inner = range(1, len(clip) - 1)
    truth = np.stack([[clip.labels(t) == k for t in inner] for k in ids])
    pred = np.stack([predicted[t] for t in inner], 1)
    scores = [(jaccard(a, b).mean() + boundary_f(a, b).mean()) / 2 for a, b in zip(truth, pred, strict=True)]
    return float(np.mean(scores))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--propagator", default=DEFAULT)
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT)
    parser.add_argument("--checkpoint")
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--negatives", type=int, help="[as many as points]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the engine")
    parser.add_argument("--only", choices=("mask", "points"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures, options = {}, {"checkpoint": arguments.checkpoint} if arguments.checkpoint else {}
    if arguments.set:
        options["settings"] = dict(word.split("=", 1) for word in arguments.set)
    starts = {"mask": ("true first mask", 0), "points": (f"{arguments.points} points", arguments.points)}
    for kind, (name, points) in starts.items():
        if arguments.only not in (None, kind):
            continue
        start, frames, scores = time.perf_counter(), 0, {}
        for clip in clips(arguments.root):
            engine = load(arguments.propagator, **options)
            seeds = arguments.seeds if points else [0]
            scores[clip.name] = [score_clip(clip, engine, points, seed, arguments.negatives) for seed in seeds]
            frames += len(clip) * len(seeds)
        seconds = (time.perf_counter() - start) / frames
        per_seed = np.mean(list(scores.values()), axis=0)
        mean = float(per_seed.mean())
        listed = ", ".join(f"{100 * value:.1f}" for value in per_seed)
        print(f"\n{name}: J&F {100 * mean:.1f} (seeds {listed}), {1000 * seconds:.0f} ms a frame, scoring included")
        for clip_name, values in scores.items():
            print(f"  {clip_name:16}{100 * np.mean(values):.1f}")
        figures[f"JF_{'mask' if not points else 'points'}"] = mean
        figures[f"ms_per_frame_{'mask' if not points else 'points'}"] = 1000 * seconds
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
