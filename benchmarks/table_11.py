"""Counts of Point-VOS's Table 11 for the validation set of PV-Oops, from simulated raw annotations.

    python -m benchmarks.table_11

The raw annotations of the validation videos are not published. Here they are drawn with the statistics of the published
training points of Oops (12K objects): 7.75 frames with points an object, 40.3 % of the objects with a positive in all
ten, 45 positives, 100 negatives and 1.5 ambiguous points an object. The benchmark's rules then choose reference and
evaluation frames. How alike the frames of one object are is not known; it is a parameter here (`spread`).
"""

from __future__ import annotations

import argparse

import numpy as np

from conversion.point_benchmark import place
from vng.points import AMBIGUOUS, NEGATIVE, POINT_FRAMES, POSITIVE, Points

PUBLISHED = {"objects": 991, "object-frames": 3500, "positives": 7300, "negatives": 9900, "ambiguous": 91}
IN_ALL_FRAMES = 0.403
FOREGROUND, UNCERTAIN, BACKGROUND = 7, 3, 10  # candidates of a frame
POSITIVES_A_FRAME, NEGATIVES_A_FRAME, AMBIGUOUS_A_FRAME = 45 / 7.75, 100 / 7.75, 1.5 / 7.75


def raw_annotation(rng: np.random.Generator, spread: float) -> Points:
    """Points of one object, on a run of the ten annotated frames."""
    count = POINT_FRAMES if rng.random() < IN_ALL_FRAMES else int(rng.integers(3, POINT_FRAMES))
    start = int(rng.integers(0, POINT_FRAMES - count + 1))
    # A share of the candidates that are on the object, for the object; `spread` is its standard deviation.
    mean = POSITIVES_A_FRAME / (FOREGROUND + UNCERTAIN)
    strength = mean * (1 - mean) / spread**2 - 1
    share = rng.beta(mean * strength, (1 - mean) * strength)
    frames, labels = [], []
    for t in range(start, start + count):
        positives = int(rng.binomial(FOREGROUND + UNCERTAIN, share))
        ambiguous = int(rng.poisson(AMBIGUOUS_A_FRAME))
        negatives = FOREGROUND + UNCERTAIN + BACKGROUND - positives - ambiguous
        negatives = round(negatives * NEGATIVES_A_FRAME / (20 - POSITIVES_A_FRAME - AMBIGUOUS_A_FRAME))
        own = [POSITIVE] * positives + [NEGATIVE] * max(0, negatives) + [AMBIGUOUS] * ambiguous
        frames += [t] * len(own)
        labels += own
    return Points(np.array(frames), np.zeros((len(frames), 2)), np.array(labels))


def counts(spread: float, seed: int = 0) -> dict[str, int]:
    """Counts of Table 11 over as many objects as are published."""
    rng = np.random.default_rng(seed)
    total = dict.fromkeys(PUBLISHED, 0)
    while total["objects"] < PUBLISHED["objects"]:
        points = raw_annotation(rng, spread)
        placement = place(points, None)
        if isinstance(placement, str):
            continue
        here = points.in_frame(placement.reference)
        total["objects"] += 1
        total["object-frames"] += 1 + len(placement.evaluation)
        for name, label in (("positives", POSITIVE), ("negatives", NEGATIVE), ("ambiguous", AMBIGUOUS)):
            total[name] += len(here.of(label))
    return total


def main() -> None:
    """Print the counts for several spreads beside the published ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spread", type=float, nargs="+", default=[0.05, 0.1, 0.15, 0.2])
    print(f"{'':14}" + "".join(f"{name:>15}" for name in PUBLISHED))
    print(f"{'published':14}" + "".join(f"{value:>15,}" for value in PUBLISHED.values()))
    for spread in parser.parse_args().spread:
        print(f"spread {spread:<7}" + "".join(f"{value:>15,}" for value in counts(spread).values()))


if __name__ == "__main__":
    main()
