"""J and F compared with the official functions on random cases.

`python -m benchmarks.official_scores --davis DIR [--cases 10000]`

DIR is a checkout of davisvideochallenge/davis2017-evaluation, run unedited; where skimage is not installed, its `disk`
is replaced (x^2 + y^2 <= r^2). Each case goes through every entry point of the metrics: arrays, RLE, both, pairs, a
label map, videos. Any difference at all counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vng.evaluation.metrics import boundary_f, frame_scores, jaccard, label_scores, pairwise_frame_scores
from vng.masks import encode


def stand_in_for_skimage() -> None:
    """Replace the one function of skimage that the programs use, where skimage is not installed."""
    try:
        import skimage.morphology  # noqa: F401
    except ImportError:
        morphology = types.ModuleType("skimage.morphology")

        def disk(radius: float) -> np.ndarray:
            y, x = np.mgrid[-int(radius) : int(radius) + 1, -int(radius) : int(radius) + 1]
            return (x * x + y * y <= radius * radius).astype(np.uint8)

        morphology.disk = disk  # type: ignore[attr-defined]
        package = types.ModuleType("skimage")
        package.morphology = morphology  # type: ignore[attr-defined]
        sys.modules |= {"skimage": package, "skimage.morphology": morphology}


def stand_in_for_absl() -> None:
    """Replace absl, which VidLN's program imports: flags that are never read and an app that is never run."""

    class Flag:
        value = None

    flags = types.ModuleType("absl.flags")
    flags.DEFINE_string = flags.DEFINE_boolean = lambda *_, **__: Flag()  # type: ignore[attr-defined]
    app = types.ModuleType("absl.app")
    app.run, app.UsageError = None, ValueError  # type: ignore[attr-defined]
    package = types.ModuleType("absl")
    package.flags, package.app = flags, app  # type: ignore[attr-defined]
    sys.modules |= {"absl": package, "absl.flags": flags, "absl.app": app}


def random_mask(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random mask, bool [H, W]: empty, full, one pixel, noise, a box (also at borders) or a smooth shape."""
    kind = rng.integers(9)
    mask = np.zeros((height, width), bool)
    if kind == 1:
        mask[:] = True
    elif kind == 2:
        mask[rng.integers(height), rng.integers(width)] = True
    elif kind == 3:
        mask = rng.random((height, width)) > rng.random()
    elif kind in (4, 5):
        y, x = rng.integers(height), rng.integers(width)
        y, x = (0, x) if rng.random() < 0.2 else (y, x)
        mask[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)] = True
    elif kind > 5:
        cell = rng.integers(3, 20)
        small = rng.random((height // cell + 1, width // cell + 1))
        mask = cv2.resize(small, (width, height)) > rng.choice([0.2, 0.5, 0.8, 0.95])
    return mask


def random_prediction(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Another random mask, or the given mask shifted by a few pixels, and perhaps eroded or dilated."""
    kind = rng.integers(4)
    if kind == 0:
        return random_mask(rng, *mask.shape)
    shifted = np.roll(mask, rng.integers(-3, 4, 2), (0, 1))
    if kind == 1:
        return shifted
    kernel = np.ones(rng.integers(1, 5, 2), np.uint8)
    return (cv2.erode if kind == 2 else cv2.dilate)(shifted.view(np.uint8), kernel) > 0


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    """Height and width, from one pixel to 300 x 500; often small, or a height near 64, the bits of a word."""
    largest = ((12, 12), (70, 70), (130, 200), (300, 500))[rng.choice(4, p=(0.3, 0.4, 0.2, 0.1))]
    height, width = (int(rng.integers(1, side + 1)) for side in largest)
    return (int(rng.integers(54, 70)), width) if rng.random() < 0.1 else (height, width)


def differences(official: Any, rng: np.random.Generator) -> list[str]:
    """The differences from the official J and F in one random case, a line each."""
    height, width = random_size(rng)
    gt = random_mask(rng, height, width)
    pred = random_prediction(rng, gt)
    void = random_mask(rng, height, width) if rng.random() < 0.3 else None
    j, f = official.db_eval_iou(gt, pred, void), official.db_eval_boundary(gt[None], pred[None], _as_video(void))[0]
    scores = {
        "arrays": frame_scores([gt], [pred], void),
        "RLE": frame_scores([encode(gt)], [encode(pred)], void),
        "both": frame_scores([encode(gt)], [pred], void),
        "pairs": pairwise_frame_scores([encode(gt), gt], [pred, pred], void),
        "labels": label_scores(gt.view(np.uint8) * 3, pred.view(np.uint8) * 7, [(3, 7)], void),
        "videos": (jaccard(gt[None], pred[None], _as_video(void)), boundary_f(gt[None], pred[None], _as_video(void))),
    }
    return [
        f"{height}x{width}, {entry}: J {our_j.tolist()} F {our_f.tolist()}, official {j} {f}"
        for entry, (our_j, our_f) in scores.items()
        if (our_j != j).any() or (our_f != f).any()
    ]


def _as_video(void: np.ndarray | None) -> np.ndarray | None:
    return None if void is None else void[None]


def main() -> None:
    """Print the first differences and how many there are; exit status 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, required=True, help="checkout of davis2017-evaluation")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    stand_in_for_skimage()
    sys.path.insert(0, str(arguments.davis))
    import davis2017.metrics as official

    rng, lines = np.random.default_rng(arguments.seed), []
    for case in range(arguments.cases):
        with np.errstate(invalid="ignore"):
            lines += [f"case {case}, {line}" for line in differences(official, rng)]
    print("\n".join(lines[:20]))
    print(f"{arguments.cases:,} cases, {len(lines):,} differences")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"cases": arguments.cases, "differences": len(lines)}))
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
