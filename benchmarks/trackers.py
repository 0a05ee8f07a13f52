"""Point trackers on the procedural world, where the true place of every point is known.

Points are drawn on objects and on the ground of frame 0. Errors are of points that are truly visible, in pixels at 240
rows; "occluded" is the share of truly hidden or absent points that a tracker calls invisible, "kept" the share of
visible ones that it calls visible.

`python -m benchmarks.trackers [--trackers lucas_kanade stcn] [--videos 12] [--points 12] [--seed 5] [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from conversion.synthetic.scene import PRESETS, Scene, make_scene, render
from vng.frames import ArrayFrames
from vng.points import sample_in_mask
from vng.trackers import load


def true_places(scene: Scene, thing: int, xy: np.ndarray) -> np.ndarray:
    """Where points [P, 2] of frame 0 lie in every frame, float [T, P, 2]; thing -1: points of the ground."""
    if thing < 0:
        return xy[None] + (scene.camera[0] - scene.camera)[:, None]
    own = scene.things[thing]
    local = (xy + scene.camera[0] - own.centre[0]) @ _turn(own.angle[0]).T
    return np.stack(
        [
            local @ _turn(angle) + centre - offset
            for angle, centre, offset in zip(own.angle, own.centre, scene.camera, strict=True)
        ]
    )


def _turn(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def draw(index: int, seed: int, count: int, preset: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A video uint8 [T, H, W, 3], queries [P, 3], true places [T, P, 2] and true visibility bool [T, P]."""
    rng = np.random.default_rng([seed, index])
    scene = make_scene(PRESETS[preset], rng)
    frames, masks = render(scene, rng)
    bare = ~masks.any(0)
    for left, width in scene.pillars:
        bare[:, :, int(left) : int(left + width) + 1] = False
    places, shown, queries = [], [], []
    for thing in range(-1, len(scene.things)):
        own = bare if thing < 0 else masks[thing]
        xy = sample_in_mask(own[0], count, 4, rng)
        if not len(xy):
            continue
        true = true_places(scene, thing, xy)
        cells = np.rint(true).astype(int)
        inside = (cells >= 0).all(2) & (cells[..., 0] < own.shape[2]) & (cells[..., 1] < own.shape[1])
        clipped = cells.clip(0, [own.shape[2] - 1, own.shape[1] - 1])
        visible = inside & own[np.arange(len(own))[:, None], clipped[..., 1], clipped[..., 0]]
        places.append(true), shown.append(visible)
        queries.append(np.concatenate([np.zeros((len(xy), 1)), xy], 1))
    return frames, np.concatenate(queries), np.concatenate(places, 1), np.concatenate(shown, 1)


def measure(name: str, videos: int, count: int, seed: int, preset: str) -> dict[str, float]:
    """The figures of one tracker."""
    tracker = load(name)
    errors, hidden, kept, seconds, frames_read = [], [], [], 0.0, 0
    for index in range(videos):
        frames, queries, places, shown = draw(index, seed, count, preset)
        start = time.process_time()
        tracks = list(tracker(ArrayFrames(frames), queries))
        seconds += time.process_time() - start
        frames_read += len(frames)
        for t, xy, visibility in tracks[1:]:
            visible = visibility > tracker.threshold
            both = shown[t] & visible
            errors.append(np.linalg.norm(xy - places[t], axis=1)[both])
            hidden.append(~visible[~shown[t]])
            kept.append(visible[shown[t]])
    error = np.concatenate(errors)
    return {
        "median_error": float(np.median(error)),
        "share_below_4_px": float((error < 4).mean()),
        "occluded": float(np.concatenate(hidden).mean()),
        "kept": float(np.concatenate(kept).mean()),
        "ms_a_frame": 1000 * seconds / frames_read,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trackers", nargs="+", default=["lucas_kanade", "stcn"])
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--points", type=int, default=12, help="on every object, and on the ground")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--preset", choices=tuple(PRESETS), default="hard")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = {}
    for name in arguments.trackers:
        own = measure(name, arguments.videos, arguments.points, arguments.seed, arguments.preset)
        print(f"{name:14}" + "".join(f"{key} {value:.3f}   " for key, value in own.items()))
        figures |= {f"{name}_{key}": value for key, value in own.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
