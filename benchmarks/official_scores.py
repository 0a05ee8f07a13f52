"""J and F beside the official functions on random cases: `python -m benchmarks.official_scores --davis DIR [--cases 10000]`.

DIR is a checkout of davisvideochallenge/davis2017-evaluation, run unedited; where skimage is not installed its `disk` is
stood in for (x^2 + y^2 <= r^2). Each case goes through every way into the metrics: arrays, RLE, both, a label map. A
difference is any difference at all.
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
    """The one function of skimage that the programs use, where it is not installed."""
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
    """Flags that are never read and an app that is never run, as VidLN's program wants them when it is imported."""

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
    """An empty mask, a full one, a pixel, noise, a box (also at borders), a smooth shape: bool [H, W]."""
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


def near(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """A prediction: another random mask, or this one moved a little, or worn at its edge."""
    kind = rng.integers(4)
    if kind == 0:
        return random_mask(rng, *mask.shape)
    moved = np.roll(mask, rng.integers(-3, 4, 2), (0, 1))
    if kind == 1:
        return moved
    kernel = np.ones(rng.integers(1, 5, 2), np.uint8)
    return (cv2.erode if kind == 2 else cv2.dilate)(moved.view(np.uint8), kernel) > 0


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    """From one pixel to 300 x 500; small ones are frequent, and sides round a word's 64 bits."""
    most = ((12, 12), (70, 70), (130, 200), (300, 500))[rng.choice(4, p=(0.3, 0.4, 0.2, 0.1))]
    height, width = (int(rng.integers(1, side + 1)) for side in most)
    return (int(rng.integers(54, 70)), width) if rng.random() < 0.1 else (height, width)


def differences(official: Any, rng: np.random.Generator) -> list[str]:
    """One case: what is not the same, in words."""
    height, width = random_size(rng)
    gt = random_mask(rng, height, width)
    pred = near(rng, gt)
    void = random_mask(rng, height, width) if rng.random() < 0.3 else None
    j, f = official.db_eval_iou(gt, pred, void), official.db_eval_boundary(gt[None], pred[None], _one(void))[0]
    ways = {
        "arrays": frame_scores([gt], [pred], void),
        "RLE": frame_scores([encode(gt)], [encode(pred)], void),
        "both": frame_scores([encode(gt)], [pred], void),
        "pairs": pairwise_frame_scores([encode(gt), gt], [pred, pred], void),
        "labels": label_scores(gt.view(np.uint8) * 3, pred.view(np.uint8) * 7, [(3, 7)], void),
        "videos": (jaccard(gt[None], pred[None], _one(void)), boundary_f(gt[None], pred[None], _one(void))),
    }
    return [
        f"{height}x{width}, {way}: J {ours.tolist()} F {theirs.tolist()}, official {j} {f}"
        for way, (ours, theirs) in ways.items()
        if (ours != j).any() or (theirs != f).any()
    ]


def _one(void: np.ndarray | None) -> np.ndarray | None:
    return None if void is None else void[None]


def main() -> None:
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

    rng, found = np.random.default_rng(arguments.seed), []
    for case in range(arguments.cases):
        with np.errstate(invalid="ignore"):
            found += [f"case {case}, {line}" for line in differences(official, rng)]
    print("\n".join(found[:20]))
    print(f"{arguments.cases:,} cases, {len(found):,} differences")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"cases": arguments.cases, "differences": len(found)}))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
