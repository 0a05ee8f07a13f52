"""Self-healing (ClickVOS): J over the course of a video whose first mask is bad.

Objects start from one click. The mask that an engine makes of it loses the half to the right of its median column before
the engine remembers it; then nobody interferes. Engines: ABS, in which such a mask makes room for later ones, and Point-STCN
(network alone), which keeps it. Beside them the same without interference.

`python -m benchmarks.healing [--root DIR] [--checkpoint RUN] [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.davis import DEFAULT_ROOT, Clip, clips
from benchmarks.point_to_masklet import PARTS, points_of
from benchmarks.propagators import ClipFrames
from vng.evaluation.metrics import jaccard
from vng.propagators import load


def spoil(engine: Any) -> None:
    """Let the masks that points give lose their right half, in place."""
    make = engine._session

    def session(*values: Any) -> Any:
        made = make(*values)
        read = made._read_points

        def half(*arguments: Any) -> Tensor:
            probabilities = read(*arguments)
            for k, mask in enumerate(probabilities):
                columns = torch.nonzero(mask > 0.5)[:, 1]
                if len(columns):
                    probabilities[k, :, int(columns.median()) :] *= 0.02
            return probabilities

        made._read_points = half
        return made

    engine._session = session


def course(clip: Clip, engine: Any) -> list[float]:
    """Mean J in tenths of a clip, from one click."""
    ids, prompt = points_of(clip, 1, 0)
    found = dict(engine(ClipFrames(clip), {0: prompt}))
    truth = np.stack([[clip.labels(t) == k for t in range(len(clip))] for k in ids])
    pred = np.stack([found[t] > 0.5 for t in range(len(clip))], 1)
    j = np.stack([jaccard(a, b) for a, b in zip(truth, pred, strict=True)])
    return [float(part.mean()) for part in np.array_split(j, PARTS, axis=1)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT)
    parser.add_argument("--checkpoint", help="a run of the task abs [the shipped weights]")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for title, name, options in (
        ("ABS", "abs", {"checkpoint": arguments.checkpoint} if arguments.checkpoint else {}),
        ("Point-STCN", "stcn", {"settings": {"points": "model"}}),
    ):
        for bad in (False, True):
            engine = load(name, **options)
            if bad:
                spoil(engine)
            row = np.mean([course(clip, engine) for clip in clips(arguments.root)], axis=0)
            label = f"{title}{', bad first mask' if bad else ''}"
            print(f"{label:28}" + "".join(f"{100 * v:6.1f}" for v in row), flush=True)
            figures |= {f"{label}_{i}": float(v) for i, v in enumerate(row)}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
