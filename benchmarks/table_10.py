"""Table 10 of Point-VOS as a toy: the same rows on procedural stand-ins of its four sets, minutes a row, from scratch.

Static: a few stills with true masks (COCO-PNG). PV: many and varied videos with noisy points and traces, made into
pseudo-masks by `classical` (Kinetics-VNG). A: some videos with true masks (UVO-VNG). B: few videos with true masks of
another world, with more and smaller things, patterns and pillars in front (OVIS-VNG). Every training is `vng train
toy-table-10` with overrides, every score `vng predict` and `vng evaluate vng`; what is done already is not done again, so
calling it once more prints the table.
`--control` adds a row that is no row of the paper: static images again instead of PV, for the same number of steps.
`python -m benchmarks.table_10 --out DIR [--seeds 0 1 2] [--steps STATIC PV A B] [--control] [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.commands import Scores, run

STEPS = (320, 320, 100, 120)  # of a stage: static, PV, A, B
RATES = (1e-3, 7e-4, 4e-4, 5e-4)  # the peak of each stage's learning rate
WARMUP = (50, 50, 10, 10)  # steps to it
MORE: tuple[str, ...] = ()  # further overrides of every training
STAGES = {"static": ("static", 0), "pv": ("pv", 1), "a": ("a", 2), "b": ("b", 3), "more": ("static", 1)}
# ^ its data, and its place in the above; "more": the stills once more, as long as PV
COLUMNS = ("B", "B, fine-tuned", "A")  # OVIS-VNG without and with fine-tuning, UVO-VNG


@dataclass(frozen=True)
class Set:
    """A procedural set: how many videos of which world, and whether points or the truth are what is known of it."""

    videos: int
    preset: str
    seed: int
    points: bool = False


SETS = {
    "static": Set(40, "stills", 101),
    "pv": Set(160, "varied", 102, points=True),
    "a": Set(80, "easy", 103),
    "b": Set(30, "crowded", 104),
    "test-a": Set(20, "easy", 105),
    "test-b": Set(20, "crowded", 106),
}


@dataclass(frozen=True)
class Row:
    """One row: the stages before the OVIS fine-tuning, and the paper's numbers in the order of COLUMNS."""

    title: str
    stages: tuple[str, ...]
    paper: tuple[float, float, float]


TABLE = (
    Row("static", ("static",), (28.5, 32.4, 39.6)),
    Row("static + PV", ("static", "pv"), (33.9, 35.1, 51.8)),
    Row("static, UVO-FT", ("static", "a"), (32.0, 32.7, 46.4)),
    Row("static + PV, UVO-FT", ("static", "pv", "a"), (32.0, 35.0, 52.8)),
)
CONTROL = Row("static, as long as PV", ("static", "more"), (np.nan, np.nan, np.nan))


def make_data(out: Path) -> None:
    """The procedural sets as VNG datasets."""
    for name, made in SETS.items():
        world = out / "worlds" / name
        if (out / name / "data").exists():
            continue
        run(
            "synthesize",
            "--out",
            world,
            "--videos",
            made.videos,
            "--seed",
            made.seed,
            "--preset",
            made.preset,
            "--quiet",
        )
        trio = world / "vng"
        points = (
            "convert",
            "point-vos",
            "--points",
            world / "points.json",
            "--narratives",
            world / "vidln.jsonl",
            "--segmenter",
            "classical",
            "--held-out",
            0.4,
        )
        truth = (
            "convert",
            "vng",
            "--meta",
            trio / "meta_expressions.json",
            "--extra-masks",
            trio / "extra_masks.json",
            "--orig-masks",
            trio / "orig_masks.json",
            "--name",
            "procedural",
            "--split",
            "train",
        )
        run(*(points if made.points else truth), "--frames", world / "frames", "--out", out / name, "--quiet")


def train(out: Path, stages: tuple[str, ...], seed: int, steps: tuple[int, ...]) -> Path:
    """The model after these stages; its folder. Each stage goes on from the one before."""
    folder = out / "runs" / f"seed-{seed}" / "-".join(stages)
    if (folder / "config.json").exists():
        return folder
    start = [f"model.init={train(out, stages[:-1], seed, steps)}"] if len(stages) > 1 else []
    data, place = STAGES[stages[-1]]
    rates = [f"optimizer.{name}={RATES[place]}" for name in ("lr", "lr_backbone", "lr_text")]
    run(
        "train",
        "toy-table-10",
        f"data.path={out / data}",
        f"out={folder}",
        f"seed={seed * 10 + place}",
        f"optimizer.steps={steps[place]}",
        f"optimizer.warmup={WARMUP[place]}",
        *rates,
        *start,
        *MORE,
        "--quiet",
    )
    return folder


def score(out: Path, model: Path, test: str) -> dict[str, float]:
    """J&F of each expression of a test set, in [0, 1]."""
    results = out / "results" / model.parent.name / model.name / test
    run("predict", "--model", model, "--dataset", out / test, "--out", results, "--quiet")
    run("evaluate", "vng", "--dataset", out / test, "--results", results, "--json", f"{results}.json", "--quiet")
    scores = json.loads(Path(f"{results}.json").read_text(encoding="utf-8"))["expressions"]
    return {f"{one['video']}/{one['expression']}": (one["j"] + one["f"]) / 2 for one in scores}


def measure(out: Path, seed: int, row: Row, steps: tuple[int, ...], scores: Scores) -> tuple[float, ...]:
    """J&F of a row in the order of COLUMNS, per cent."""
    cells = ((row.stages, "test-b"), ((*row.stages, "b"), "test-b"), (row.stages, "test-a"))
    found = []
    for stages, test in cells:
        model = train(out, stages, seed, steps)
        found.append(scores.get(f"{'-'.join(stages)}/{test}/{seed}", partial(score, out, model, test)))
    return tuple(found)


def show(found: dict[str, np.ndarray], seeds: list[int], steps: tuple[int, ...]) -> None:
    """Print the table: mean and spread over the seeds, the paper's number, gains of PV over its row without."""
    print(f"\nTable 10, toy: seeds {seeds}, steps {dict(zip(('static', 'pv', 'a', 'b'), steps, strict=True))}")
    print(f"{'J&F':22}" + "".join(f"{column:>16}{'(paper)':>9}" for column in COLUMNS))
    for row in (*TABLE, CONTROL):
        if row.title not in found:
            continue
        values = found[row.title]
        spread = values.std(0, ddof=1) if len(values) > 1 else np.full(3, np.nan)
        papers = [f"({paper})" if np.isfinite(paper) else "" for paper in row.paper]
        cells = zip(values.mean(0), spread, papers, strict=True)
        print(f"{row.title:22}" + "".join(f"{mean:9.1f} ±{more:5.1f}{paper:>9}" for mean, more, paper in cells))
    for without, with_pv in zip(TABLE[::2], TABLE[1::2], strict=True):
        gain = found[with_pv.title] - found[without.title]
        cells = zip(gain.mean(0), gain.min(0), np.subtract(with_pv.paper, without.paper), strict=True)
        title = "gain of PV" + with_pv.title.removeprefix("static + PV")
        print(
            f"{title:22}" + "".join(f"{mean:+9.1f} >{least:+5.1f}{f'({told:+.1f})':>9}" for mean, least, told in cells)
        )


def main() -> None:
    """Make data, train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/toy-table-10"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, nargs=4, default=STEPS, metavar=("STATIC", "PV", "A", "B"))
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    make_data(out)
    steps, scores = tuple(arguments.steps), Scores(out / "scores.json")
    table = (*TABLE, CONTROL) if arguments.control else TABLE
    rows: dict[str, list[tuple[float, ...]]] = {row.title: [] for row in table}
    for seed in arguments.seeds:
        for row in table:
            rows[row.title].append(measure(out, seed, row, steps, scores))
            print(f"seed {seed}, {row.title}: {[round(value, 1) for value in rows[row.title][-1]]}", flush=True)
    found = {title: np.array(values) for title, values in rows.items()}
    show(found, arguments.seeds, steps)
    if arguments.json:
        arguments.json.write_text(json.dumps({title: values.tolist() for title, values in found.items()}))


if __name__ == "__main__":
    main()
