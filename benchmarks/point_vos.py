"""Table 9 and Figure 2 of Point-VOS at toy size: minutes per row, from scratch.

The models are trained on DAVIS 2016's training clips and tested on `davis_val`. Table 9: the same network and number
of steps under four supervisions, three seeds. Figure 2: training with 1, 2, 5 and 10 points per object and frame,
testing with 1, 2, 5, 10 points or the true mask in the first frame, several seeds. Every run is `vng train
configs/toy-point-vos.yaml` with overrides; finished parts are not repeated. With `--static N` every run starts, as in
the paper, from a model trained for N steps on masks of still images, here of the procedural world; with `--start RUN`
from a model at hand, such as the first stage of the embedded Point-STCN (ImageNet, then still images that move).

`python -m benchmarks.point_vos [--out DIR] [--steps N] [--static N] [--start RUN] [--seeds 0 1 2] [--only table|figure]
[--json FILE]`
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.commands import Scores, run
from benchmarks.davis import DEFAULT_ROOT, clips
from benchmarks.propagators import score_clip
from vng.config_files import find_config
from vng.propagators import load
from vng.propagators.stcn import StcnSettings

TRAIN_ROOT = DEFAULT_ROOT.parent / "davis_train"
# makes the pseudo-masks; it has no weights, so it has not been trained on masks either
ENGINE = "classical"
COUNTS = (1, 2, 5, 10)
POINTS = 10  # per object, in the table
SHORT_SIDE = 120  # of a frame in the network's input
STILLS = 80  # procedural videos whose frames are the static images


@dataclass(frozen=True)
class Row:
    """One row of table 9."""

    title: str
    data: str  # folder of the dataset in --out
    supervision: str
    start: str  # "mask", "points", or "pseudo": a pseudo-mask of ENGINE from points
    paper: float  # J&F on DAVIS 2017 val, trained on DAVIS and YouTube-VOS after static images
    trained: str = ""  # the row whose model is used; "": its own

    @property
    def run(self) -> str:
        """Name of the training run."""
        return self.trained or self.title


TABLE = (
    Row("VOS", "masks", "masks", "mask", 85.3),
    Row("Point-VOS", "points-10", "points", "points", 67.7),
    Row("Point-VOS, pseudo-masks", "pseudo-10", "pseudo_masks", "pseudo", 76.9),
    Row("hybrid", "masks", "hybrid", "points", 78.3),
    Row("hybrid, pseudo-masks", "masks", "masks", "pseudo", 80.4, trained="VOS"),
)


def make_data(out: Path, root: Path) -> None:
    """Datasets of true masks, of points (on all frames for the figure, on ten for the table) and of pseudo-masks."""
    davis = ("convert", "davis", "--root", root, "--quiet")
    conversions: dict[str, tuple[object, ...]] = {"masks": davis}
    for count in COUNTS:
        conversions[f"points-{count}-all"] = (*davis, "--simulate", count, "--point-frames", "all")
    conversions[f"points-{POINTS}"] = (*davis, "--simulate", POINTS, "--point-frames", 10)
    pseudo = ("convert", "points", "--source", out / f"points-{POINTS}", "--segmenter", ENGINE, "--held-out", 0)
    conversions[f"pseudo-{POINTS}"] = (*pseudo, "--quiet")
    for name, arguments in conversions.items():
        if not (out / name / "data").exists():
            run(*arguments, "--out", out / name)


@dataclass(frozen=True)
class Schedule:
    """The number of steps of a run, and what it starts from."""

    steps: int
    static: int = 0  # steps on still images beforehand; 0: from scratch
    start: Path | None = None  # or a trained model

    @property
    def name(self) -> str:
        """The schedule in names of folders and keys of results."""
        after = self.start.name if self.start is not None else self.static
        return f"{self.steps}" + (f"-after-{after}" if after else "")

    def overrides(self, out: Path, seed: int) -> list[str]:
        """Overrides of a recipe that starts there."""
        if self.start is not None:
            return [f"model.init={self.start}", "optimizer.lr=3.0e-4", "optimizer.lr_backbone=1.0e-4"]
        return [f"model.init={train_static(out, seed, self.static)}"] if self.static else []


def train(out: Path, name: str, data: Path, supervision: str, seed: int, schedule: Schedule) -> Path:
    """Train a model unless its run is finished; returns the folder of the run."""
    folder = out / "runs" / name.lower().replace(", ", "-").replace(" ", "-") / f"seed-{seed}-steps-{schedule.name}"
    if not (folder / "config.json").exists():
        run(
            "train",
            find_config(Path("toy-point-vos.yaml")),
            f"data.sources=[{{path: {data}}}]",
            f"out={folder}",
            f"supervision={supervision}",
            f"seed={seed}",
            f"optimizer.steps={schedule.steps}",
            *schedule.overrides(out, seed),
            "--quiet",
        )
    return folder


def train_static(out: Path, seed: int, steps: int) -> Path:
    """Train the model that runs start from, on single frames of the procedural world; returns the folder of the run."""
    folder, world, data = out / "runs" / "static" / f"seed-{seed}-steps-{steps}", out / "world", out / "static"
    if not (world / "vng").exists():
        run("synthesize", "--out", world, "--videos", STILLS, "--seed", 21, "--preset", "hard", "--quiet")
    if not (data / "data").exists():
        trio = world / "vng"
        inputs = ["--meta", trio / "meta_expressions.json", "--extra-masks", trio / "extra_masks.json"]
        inputs += ["--orig-masks", trio / "orig_masks.json", "--frames", world / "frames"]
        run("convert", "vng", *inputs, "--out", data, "--split", "train", "--quiet")
    if not (folder / "config.json").exists():
        run(
            "train",
            find_config(Path("toy-point-vos.yaml")),
            f"data.sources=[{{path: {data}}}]",
            "data.stills=true",
            f"out={folder}",
            f"seed={seed}",
            f"optimizer.steps={steps}",
            "--quiet",
        )
    return folder


def score(model: Path, start: str, count: int, seed: int, root: Path) -> dict[str, float]:
    """Mean J&F of each clip, starting from the true first mask or from `count` positive points."""
    settings = StcnSettings(segmenter=ENGINE, short_side=SHORT_SIDE, points="model" if start == "points" else None)
    engine = load("stcn", checkpoint=str(model), settings=settings)
    if start == "pseudo":
        engine.model.config.takes_points = False  # type: ignore[attr-defined]
    points = 0 if start == "mask" else count
    progress = tqdm(clips(root), desc=f"{model.parent.name}, {start} {points or ''}", unit="clip", leave=False)
    return {clip.name: score_clip(clip, engine, points, seed, negatives=0) for clip in progress}


def table(out: Path, schedule: Schedule, seeds: list[int], root: Path, scores: Scores) -> dict[str, float]:
    """Train, score and print the rows of Table 9."""
    by_row: dict[str, list[float]] = {row.title: [] for row in TABLE}
    for seed in seeds:
        for row in TABLE:
            source = next(r for r in TABLE if r.title == row.run)
            model = train(out, row.run, out / source.data, source.supervision, seed, schedule)
            key = f"table/{row.title}/{seed}/{schedule.name}"
            measure = partial(score, model, row.start, POINTS, seed, root)
            by_row[row.title].append(scores.get(key, measure))
    print(f"\nTable 9, toy: {schedule.name} steps each, seeds {seeds}\n{'':28}{'J&F':>8}{'spread':>8}{'paper':>8}")
    for row in TABLE:
        values = by_row[row.title]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        print(f"{row.title:28}{np.mean(values):8.1f}{spread:8.1f}{row.paper:8.1f}")
    return {f"table_9_{title}": float(np.mean(values)) for title, values in by_row.items()}


def figure(out: Path, schedule: Schedule, seeds: list[int], root: Path, scores: Scores) -> dict[str, float]:
    """Train, score, print and plot the curves of Figure 2: means over seeds, and their standard deviations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    values: dict[int, list[list[float]]] = {trained_on: [] for trained_on in COUNTS}
    for seed in seeds:
        for trained_on in COUNTS:
            model = train(out, f"points {trained_on}", out / f"points-{trained_on}-all", "points", seed, schedule)
            values[trained_on].append(
                [
                    scores.get(
                        f"figure/{trained_on}/{count or 'mask'}/{seed}/{schedule.name}",
                        partial(score, model, "points" if count else "mask", count, seed, root),
                    )
                    for count in (*COUNTS, 0)
                ]
            )
    curves = {trained_on: np.mean(rows, axis=0).tolist() for trained_on, rows in values.items()}
    spreads = {n: np.std(rows, axis=0, ddof=1 if len(rows) > 1 else 0).tolist() for n, rows in values.items()}
    names = [*map(str, COUNTS), "mask"]
    print(f"\nFigure 2, toy: {schedule.name} steps each, seeds {seeds}")
    print(f"{'trained on':14}" + "".join(f"{name:>8}" for name in names))
    plot, axes = plt.subplots(figsize=(6, 4))
    for trained_on, means in curves.items():
        print(f"{trained_on:>2} points     " + "".join(f"{v:8.1f}" for v in means))
        print(f"{'':14}" + "".join(f"{f'({v:.1f})':>8}" for v in spreads[trained_on]))
        label = f"{trained_on} point{'s' * (trained_on > 1)} to train on"
        axes.errorbar(names, means, spreads[trained_on], marker="o", capsize=3, label=label)
    axes.set(xlabel="points in the first frame", ylabel="J&F, davis_val, %", title="Figure 2 of Point-VOS, toy")
    axes.grid(alpha=0.3)
    axes.legend()
    plot.tight_layout()
    plot.savefig(out / "figure-2.png", dpi=120)
    print(out / "figure-2.png")
    pairs = ((n, name, v) for n, means in curves.items() for name, v in zip(names, means, strict=True))
    return {f"figure_2_{n}_{name}": v for n, name, v in pairs}


def main() -> None:
    """Convert the data, train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/toy-point-vos"))
    parser.add_argument("--train-root", type=Path, default=TRAIN_ROOT)
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--static", type=int, default=0, help="steps on still images beforehand [0: from scratch]")
    parser.add_argument("--start", type=Path, help="a trained model that all runs start from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=("table", "figure"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    make_data(out, arguments.train_root)
    start = None if arguments.start is None else arguments.start.resolve()
    schedule = Schedule(arguments.steps, arguments.static, start)
    scores, figures = Scores(out / "scores.json"), {}
    if arguments.only != "figure":
        figures |= table(out, schedule, arguments.seeds, arguments.root, scores)
    if arguments.only != "table":
        figures |= figure(out, schedule, arguments.seeds, arguments.root, scores)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
