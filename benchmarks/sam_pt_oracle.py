"""SAM-PT with a perfect segmenter in SAM's place: what the tracked points alone allow.

The oracle returns the true mask of the object that most of the visible positives lie on, and nothing where none lies on an
object. Positives of the true first mask, by k-medoids; DAVIS validation clips at 240 rows.

`python -m benchmarks.sam_pt_oracle [--trackers lucas_kanade stcn] [--positives 16] [--root DIR] [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.davis import DEFAULT_ROOT, Clip, clips
from benchmarks.propagators import ClipFrames
from vng.evaluation.metrics import boundary_f, jaccard
from vng.points import PointPrompts, read_at
from vng.propagators import FramePrompts
from vng.propagators.sam_pt import SamPtPropagator, SamPtSettings
from vng.segmenters import Segmenter
from vng.trackers import load


class Oracle(Segmenter):
    """True masks; counts the prompts whose positives all lie on one object."""

    takes_boxes = False

    def __init__(self, clip: Clip) -> None:
        self._labels = {clip.frame(t).tobytes(): clip.labels(t) for t in range(len(clip))}
        self.asked, self.pure = 0, 0

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """See `Segmenter`."""
        labels = self._labels[image.tobytes()]
        found = np.zeros((len(prompts), *labels.shape), np.float32)
        for k, prompt in enumerate(prompts):
            under = read_at(labels, prompt.positive) if len(prompt.positive) else np.empty(0, int)
            on = under[(under != 0) & (under != 255)]
            self.asked += 1
            self.pure += bool(len(under)) and len(set(under.tolist())) == 1 and len(on) == len(under)
            if len(on):
                found[k] = labels == np.bincount(on).argmax()
        return found


def measure(clip: Clip, tracker: str, positives: int) -> tuple[float, float]:
    """J&F over a clip's objects, and the share of prompts whose positives all lie on one object."""
    first = clip.labels(0)
    ids = [int(k) for k in np.unique(first) if k not in (0, 255)]
    oracle = Oracle(clip)
    engine = SamPtPropagator(settings=SamPtSettings(positives=positives), tracker=load(tracker), segmenter=oracle)
    found = dict(engine(ClipFrames(clip), {0: FramePrompts(masks=tuple(first == k for k in ids))}))
    inner = range(1, len(clip) - 1)
    truth = np.stack([[clip.labels(t) == k for t in inner] for k in ids])
    pred = np.stack([found[t] > 0.5 for t in inner], 1)
    scores = [(jaccard(a, b).mean() + boundary_f(a, b).mean()) / 2 for a, b in zip(truth, pred, strict=True)]
    return float(np.mean(scores)), oracle.pure / max(oracle.asked, 1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trackers", nargs="+", default=["lucas_kanade", "stcn"])
    parser.add_argument("--positives", type=int, default=16)
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = {}
    for tracker in arguments.trackers:
        rows = {clip.name: measure(clip, tracker, arguments.positives) for clip in clips(arguments.root)}
        jf, pure = np.mean(list(rows.values()), axis=0)
        print(
            f"{tracker}: J&F {100 * jf:.1f}, all positives on one object in {100 * pure:.1f} % of the prompts",
            flush=True,
        )
        for name, (own, share) in rows.items():
            print(f"  {name:14}{100 * own:6.1f}{100 * share:7.1f}", flush=True)
        figures |= {f"{tracker}_JF": float(jf), f"{tracker}_pure": float(pure)}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
