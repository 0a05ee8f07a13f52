"""Counts of Point-VOS's Table 11 for the validation set of PV-Oops, from simulated raw annotations.

    python -m benchmarks.table_11

The raw annotations of the validation videos are not published. Here they are drawn with the statistics of the published
training points of Oops (Table 11, Figures 9 and 10; 12K objects):

- Ten annotated frames; in 3 to 10 of them the object has a positive point, with the shares of Figure 9.
- 541K positives on 93K frames with the object; 100 negatives an object, which are its 10 background candidates in each of
  ten frames; 18K ambiguous points, among the candidates that are neither. Where the object is absent, only uncertain
  candidates are proposed for it.
- The mouse trace lies on a frame with the object.

The benchmark's rules then choose reference and evaluation frames. A frame counts where the object is in it. Not known,
and parameters here: how alike the frames of one object are (`spread`), and how many of the three uncertain candidates
are confirmed (`--confirmed`).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from conversion.benchmark_rules import place
from vng.points import AMBIGUOUS, NEGATIVE, POINT_FRAMES, POSITIVE, Points

PUBLISHED = {"objects": 991, "object-frames": 3500, "positives": 7300, "negatives": 9900, "ambiguous": 91}
FRAMES_SEEN = {3: 7.9, 4: 8.6, 5: 8.3, 6: 7.7, 7: 8.0, 8: 8.1, 9: 11.0, 10: 40.3}  # per cent of the objects, Figure 9
FOREGROUND, UNCERTAIN, BACKGROUND = 7, 3, 10  # candidates of a frame
POSITIVES_A_FRAME = 541 / 93  # of the frames with the object
SEEN = sum(count * share for count, share in FRAMES_SEEN.items()) / sum(FRAMES_SEEN.values())
UNCONFIRMED = SEEN * (FOREGROUND + UNCERTAIN - POSITIVES_A_FRAME) + (POINT_FRAMES - SEEN) * UNCERTAIN  # an object
AMBIGUOUS_SHARE = 18 / 12 / UNCONFIRMED


@dataclass(frozen=True, kw_only=True)
class RawAnnotation:
    """Verified points of one object, the frames that show it, and the frame with its mouse trace."""

    points: Points
    seen: np.ndarray  # bool [POINT_FRAMES]
    trace: int


def raw_annotation(rng: np.random.Generator, spread: float, confirmed: float) -> RawAnnotation:
    """Draw the annotation of one object.

    Args:
        rng: source of the draws.
        spread: standard deviation, over objects, of the share of foreground candidates that are confirmed.
        confirmed: share of the uncertain candidates that are confirmed.
    """
    shares = np.array(list(FRAMES_SEEN.values()))
    count = int(rng.choice(list(FRAMES_SEEN), p=shares / shares.sum()))
    start = int(rng.integers(0, POINT_FRAMES - count + 1))
    seen = np.isin(np.arange(POINT_FRAMES), np.arange(start, start + count))
    mean = (POSITIVES_A_FRAME - UNCERTAIN * confirmed) / FOREGROUND
    strength = mean * (1 - mean) / spread**2 - 1
    share = rng.beta(mean * strength, (1 - mean) * strength)
    frames, labels = [], []
    for t in range(POINT_FRAMES):
        proposed = FOREGROUND + UNCERTAIN if seen[t] else UNCERTAIN
        positives = int(rng.binomial(FOREGROUND, share) + rng.binomial(UNCERTAIN, confirmed)) if seen[t] else 0
        own = [POSITIVE] * positives + [NEGATIVE] * BACKGROUND
        own += [AMBIGUOUS] * int(rng.binomial(proposed - positives, AMBIGUOUS_SHARE))
        frames += [t] * len(own)
        labels += own
    points = Points(np.array(frames), np.zeros((len(frames), 2)), np.array(labels))
    return RawAnnotation(points=points, seen=seen, trace=int(rng.choice(np.flatnonzero(seen))))


def counts(spread: float, confirmed: float, seed: int = 0) -> dict[str, int]:
    """Counts of Table 11 over as many objects as are published."""
    rng = np.random.default_rng(seed)
    total = dict.fromkeys(PUBLISHED, 0)
    while total["objects"] < PUBLISHED["objects"]:
        raw = raw_annotation(rng, spread, confirmed)
        placement = place(raw.points, raw.trace).placement
        if placement is None:
            continue
        here = raw.points.in_frame(placement.reference)
        total["objects"] += 1
        total["object-frames"] += 1 + int(raw.seen[list(placement.evaluation)].sum())
        for name, label in (("positives", POSITIVE), ("negatives", NEGATIVE), ("ambiguous", AMBIGUOUS)):
            total[name] += len(here.of(label))
    return total


def main() -> None:
    """Print the counts for several spreads beside the published ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spread", type=float, nargs="+", default=[0.05, 0.1, 0.15, 0.2])
    parser.add_argument("--confirmed", type=float, default=0.15, help="share of uncertain candidates (default: 0.15)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{'':14}" + "".join(f"{name:>15}" for name in PUBLISHED))
    print(f"{'published':14}" + "".join(f"{value:>15,}" for value in PUBLISHED.values()))
    for spread in args.spread:
        found = counts(spread, args.confirmed, args.seed)
        print(f"spread {spread:<7}" + "".join(f"{value:>15,}" for value in found.values()))


if __name__ == "__main__":
    main()
