"""Table 10 of Point-VOS at toy size: the same rows on procedural versions of its four sets, from scratch.

Each row takes minutes. Static: a few stills with true masks (for COCO-PNG). PV: many and varied videos with noisy
points and traces, turned into pseudo-masks by `classical` (for Kinetics-VNG). A: some videos with true masks (for
UVO-VNG). B: a few videos with true masks of another world, with more and smaller objects, patterns and pillars in front
(for OVIS-VNG).

Every training is `vng train toy-table-10` with overrides, every score `vng predict` and `vng evaluate vng`. Finished
parts are not repeated: a second call only prints the table. `--control` adds a row that is not in the paper: static
images again instead of PV, for the same number of steps.

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

STEPS = (320, 320, 100, 120)  # of each stage: static, PV, A, B
RATES = (1e-3, 7e-4, 4e-4, 5e-4)  # peak learning rate of each stage
WARMUP = (50, 50, 10, 10)  # steps before the peak
MORE: tuple[str, ...] = ()  # further overrides of every training
# stage -> its data, and its index in STEPS, RATES and WARMUP; "more": the stills again, for as long as PV
STAGES = {"static": ("static", 0), "pv": ("pv", 1), "a": ("a", 2), "b": ("b", 3), "more": ("static", 1)}
COLUMNS = ("B", "B, fine-tuned", "A")  # OVIS-VNG without and with fine-tuning, UVO-VNG


@dataclass(frozen=True)
class Set:
    """A procedural set: number of videos, preset of the world, and whether it has points or true masks."""

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
    for name, chosen in SETS.items():
        world = out / "worlds" / name
        if (out / name / "data").exists():
            continue
        size = ("--videos", chosen.videos, "--seed", chosen.seed)
        run("synthesize", "--out", world, *size, "--preset", chosen.preset, "--quiet")
        inputs: tuple[object, ...]
        if chosen.points:
            inputs = ("point-vos", "--points", world / "points.json", "--narratives", world / "vidln.jsonl")
            inputs += ("--segmenter", "classical", "--held-out", 0.4)
        else:
            trio = world / "vng"
            inputs = ("vng", "--meta", trio / "meta_expressions.json", "--extra-masks", trio / "extra_masks.json")
            inputs += ("--orig-masks", trio / "orig_masks.json", "--name", "procedural", "--split", "train")
        run("convert", *inputs, "--frames", world / "frames", "--out", out / name, "--quiet")


def train(out: Path, stages: tuple[str, ...], seed: int, steps: tuple[int, ...]) -> Path:
    """Train the model of these stages, each starting from the one before; returns the folder of the run."""
    folder = out / "runs" / f"seed-{seed}" / "-".join(stages)
    if (folder / "config.json").exists():
        return folder
    start = [f"model.init={train(out, stages[:-1], seed, steps)}"] if len(stages) > 1 else []
    data, index = STAGES[stages[-1]]
    rates = [f"optimizer.{name}={RATES[index]}" for name in ("lr", "lr_backbone", "lr_text")]
    run(
        "train",
        "toy-table-10",
        f"data.path={out / data}",
        f"out={folder}",
        f"seed={seed * 10 + index}",
        f"optimizer.steps={steps[index]}",
        f"optimizer.warmup={WARMUP[index]}",
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
    return {f"{row['video']}/{row['expression']}": (row["j"] + row["f"]) / 2 for row in scores}


def measure(out: Path, seed: int, row: Row, steps: tuple[int, ...], scores: Scores) -> tuple[float, ...]:
    """J&F of a row in the order of COLUMNS, per cent."""
    cells = ((row.stages, "test-b"), ((*row.stages, "b"), "test-b"), (row.stages, "test-a"))
    values = []
    for stages, test in cells:
        model = train(out, stages, seed, steps)
        values.append(scores.get(f"{'-'.join(stages)}/{test}/{seed}", partial(score, out, model, test)))
    return tuple(values)


def show(scores: dict[str, np.ndarray], seeds: list[int], steps: tuple[int, ...]) -> None:
    """Print the table: mean and spread over the seeds, the paper's number, and the gain of each row with PV."""
    print(f"\nTable 10, toy: seeds {seeds}, steps {dict(zip(('static', 'pv', 'a', 'b'), steps, strict=True))}")
    print(f"{'J&F':22}" + "".join(f"{column:>16}{'(paper)':>9}" for column in COLUMNS))
    for row in (*TABLE, CONTROL):
        if row.title not in scores:
            continue
        values = scores[row.title]
        spread = values.std(0, ddof=1) if len(values) > 1 else np.full(3, np.nan)
        papers = [f"({paper})" if np.isfinite(paper) else "" for paper in row.paper]
        cells = zip(values.mean(0), spread, papers, strict=True)
        print(f"{row.title:22}" + "".join(f"{mean:9.1f} ±{std:5.1f}{paper:>9}" for mean, std, paper in cells))
    for without, with_pv in zip(TABLE[::2], TABLE[1::2], strict=True):
        gain = scores[with_pv.title] - scores[without.title]
        cells = zip(gain.mean(0), gain.min(0), np.subtract(with_pv.paper, without.paper), strict=True)
        title = "gain of PV" + with_pv.title.removeprefix("static + PV")
        texts = (f"{mean:+9.1f} >{least:+5.1f}{f'({paper:+.1f})':>9}" for mean, least, paper in cells)
        print(f"{title:22}" + "".join(texts))


def main() -> None:
    """Convert the data, train, score and print."""
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
    show({title: np.array(values) for title, values in rows.items()}, arguments.seeds, steps)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
