"""Mean J of segmenters on DAVIS clips from random points, and a page that shows their masks.

Five frames per clip, evenly spaced; per object P positive and P negative random points at least 10 pixels apart; mean
over objects and frames, then over clips.

`python -m benchmarks.segmenters [--segmenter NAME ...] [--points 10 5 1] [--seeds 0 1 2] [--html DIR] [--json FILE]`

NAME is an engine, an engine with its weights (`sam2=facebook/sam2.1-hiera-tiny`), `watershed`, or one of
`dynamite-random` and `sam2-random`: these networks with random weights, for speed only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.baselines import make_segmenter
from benchmarks.davis import DEFAULT_ROOT, Clip, clips
from vng.label_maps import colour
from vng.pages import embed_image, render_page
from vng.points import NEGATIVE, POSITIVE, PointPrompts, Points, sample_in_mask
from vng.segmenters import DEFAULT, Segmenter
from vng.viewer import OBJECT_TILE, draw_points, grid, labelled, overlay

FRAMES, DISTANCE = 5, 10


@dataclass(frozen=True)
class Case:
    """One frame of a clip with the points of all its objects."""

    image: np.ndarray
    truth: list[np.ndarray]
    prompts: list[PointPrompts]


@dataclass
class Scores:
    """Scores and times of one segmenter with one number of points."""

    by_clip: dict[str, list[float]] = field(default_factory=dict)  # one value per seed
    seconds: float = 0.0
    frames: int = 0
    objects: int = 0

    @property
    def per_seed(self) -> np.ndarray:
        """Mean over clips, float [seeds]."""
        return np.mean(list(self.by_clip.values()), axis=0)


def cases(clip: Clip, count: int, seed: int) -> Iterator[Case]:
    """The evaluated frames of a clip, with their points."""
    rng = np.random.default_rng(seed)
    for index in np.linspace(0, len(clip) - 1, FRAMES).round().astype(int):
        image, labels = clip.frame(int(index)), clip.labels(int(index))
        truth = [labels == k for k in np.unique(labels) if k not in (0, 255)]
        prompts = [
            PointPrompts(sample_in_mask(m, count, DISTANCE, rng), sample_in_mask(~m, count, DISTANCE, rng))
            for m in truth
        ]
        yield Case(image, truth, prompts)


def jaccard(mask: np.ndarray, truth: np.ndarray) -> float:
    """J of two masks, bool [H, W]; the truth must not be empty."""
    return float((mask & truth).sum() / (mask | truth).sum())


def score(segmenter: Segmenter, root: Path, count: int, seeds: list[int], name: str) -> Scores:
    """J of every object in every evaluated frame, and the seconds that the segmenter took."""
    scores = Scores()
    for clip in tqdm(clips(root), desc=f"{name}, {count} + {count}", unit="clip"):
        for seed in seeds:
            values = []
            for case in cases(clip, count, seed):
                start = time.perf_counter()
                masks = segmenter(case.image, case.prompts) > 0.5
                scores.seconds += time.perf_counter() - start
                scores.frames, scores.objects = scores.frames + 1, scores.objects + len(masks)
                values += [jaccard(m, t) for m, t in zip(masks, case.truth, strict=True)]
            scores.by_clip.setdefault(clip.name, []).append(float(np.mean(values)))
    return scores


def report(name: str, count: int, scores: Scores) -> None:
    """Print one table."""
    seeds = ", ".join(f"{v:.3f}" for v in scores.per_seed)
    print(f"\n{name}, {count} + {count} points: mean J {scores.per_seed.mean():.3f}  (seeds {seeds})")
    for clip, values in scores.by_clip.items():
        print(f"  {clip:16}{np.mean(values):.3f}")
    per_frame, per_object = scores.seconds / scores.frames, scores.seconds / scores.objects
    print(f"  {per_frame:.3f} s a frame, {per_object:.3f} s an object and frame")


def write_page(
    folder: Path, root: Path, engines: dict[str, Segmenter], table: dict[tuple[str, int], Scores], counts: list[int]
) -> None:
    """Write a page with tables, and with the truth and each segmenter's masks (seed 0) on three frames of each clip."""
    rows = [
        (name, *(f"{table[name, n].per_seed.mean():.3f}" for n in counts), f"{1000 * s.seconds / s.frames:.0f}")
        for name, s in ((name, table[name, counts[0]]) for name in engines)
    ]
    header = ("segmenter", *(f"{n} + {n} points" for n in counts), "ms a frame")
    per_clip = [
        (clip, *(f"{np.mean(table[name, counts[0]].by_clip[clip]):.3f}" for name in engines))
        for clip in table[next(iter(engines)), counts[0]].by_clip
    ]
    sections: list[dict[str, Any]] = [
        {"title": "Mean J over clips", "header": header, "rows": rows},
        {"title": f"By clip, {counts[0]} + {counts[0]} points", "header": ("clip", *engines), "rows": per_clip},
        {"title": "Frames", "text": "Truth first, then each segmenter with its J.", "cards": []},
    ]
    for clip in clips(root):
        tiles = []
        for case in list(cases(clip, counts[0], 0))[:: FRAMES // 2]:
            tiles.append(_tile(case, case.truth, "truth"))
            for name, segmenter in engines.items():
                masks = list(segmenter(case.image, case.prompts) > 0.5)
                mean = np.mean([jaccard(m, t) for m, t in zip(masks, case.truth, strict=True)])
                tiles.append(_tile(case, masks, f"{name} {mean:.2f}"))
        image = embed_image(grid(tiles, 1 + len(engines)))
        sections[-1]["cards"].append({"title": clip.name, "image": image})
    lead = "Segmenters on DAVIS validation clips at 240 rows, from the same random points."
    render_page(
        folder / "index.html",
        title="Segmenters",
        lead=lead,
        figures=[],
        sections=sections,
        footer="python -m benchmarks.segmenters",
    )


def _tile(case: Case, masks: list[np.ndarray], label: str) -> np.ndarray:
    image = overlay(case.image, masks, width=OBJECT_TILE)
    factor = OBJECT_TILE / case.image.shape[1]
    for index, prompt in enumerate(case.prompts):
        for verdict, xy in ((POSITIVE, prompt.positive), (NEGATIVE, prompt.negative)):
            points = Points(np.zeros(len(xy)), (xy + 0.5) * factor - 0.5, np.full(len(xy), verdict))
            image = draw_points(image, points, positive=colour(index))
    return labelled(image, label)


def main() -> None:
    """Print the tables; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segmenter", nargs="+", default=[DEFAULT])
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT)
    parser.add_argument("--points", type=int, nargs="+", default=[10, 5, 1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--html", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    engines = {name: make_segmenter(name) for name in arguments.segmenter}
    table: dict[tuple[str, int], Scores] = {}
    figures: dict[str, float] = {}
    for name, segmenter in engines.items():
        for count in arguments.points:
            # masks from random weights are noise whatever the points, so one seed is enough to measure speed
            speed_only = name.endswith("-random")
            seeds = arguments.seeds[:1] if speed_only else arguments.seeds
            scores = table[name, count] = score(segmenter, arguments.root, count, seeds, name)
            report(name, count, scores)
            figures[f"{name}_mean_J_{count}"] = float(scores.per_seed.mean())
            figures[f"{name}_seconds_a_frame_{count}"] = scores.seconds / scores.frames
            figures |= {f"{name}_{clip}_J_{count}": float(np.mean(v)) for clip, v in scores.by_clip.items()}
    if arguments.html:
        write_page(arguments.html, arguments.root, engines, table, arguments.points)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
