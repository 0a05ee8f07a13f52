"""PointVIS in one command: pseudo-masks from points, training, and rounds of self-training.

Points (a VNG dataset) become pseudo-masks by the proposals of a COCO model (`engines/pointvis/coco.yaml`); a Mask2Former learns
them frame by frame (`configs/pointvis/p1.yaml`); in each further round its own proposals make the pseudo-masks. Parts that are
finished are not repeated.

`python -m benchmarks.pointvis --points DATA [--proposals ENGINE] [--recipe RECIPE] [--rounds 1] [--out DIR] [key=value ...]`
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.commands import run


def pseudo_masks(points: Path, engine: str, checkpoint: Path | None, out: Path) -> None:
    """One conversion, unless it is finished."""
    if (out / "data").exists():
        return
    weights = () if checkpoint is None else ("--propagator-checkpoint", checkpoint)
    words = ("convert", "points", "--source", points, "--segmenter", "classical", "--propagator", engine, *weights)
    run(*words, "--held-out", 0, "--out", out, "--quiet")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=Path, required=True, help="a VNG dataset with points")
    parser.add_argument("--proposals", default="engines/pointvis/coco.yaml", help="engine of the first pseudo-masks")
    parser.add_argument("--again", default="engines/pointvis/self-trained.yaml", help="engine of the later rounds")
    parser.add_argument("--recipe", default="pointvis/p1.yaml")
    parser.add_argument("--rounds", type=int, default=1, help="of self-training")
    parser.add_argument("--out", type=Path, default=Path("out/pointvis"))
    arguments, overrides = parser.parse_known_args()
    trained: Path | None = None
    for number in range(arguments.rounds + 1):
        pseudo, model = arguments.out / f"pseudo-{number}", arguments.out / f"model-{number}"
        pseudo_masks(arguments.points, arguments.again if trained else arguments.proposals, trained, pseudo)
        if not (model / "config.json").exists():
            run("train", arguments.recipe, f"data.sources=[{{path: {pseudo}}}]", f"out={model}", *overrides, "--quiet")
        trained = model
    print(trained)


if __name__ == "__main__":
    main()
