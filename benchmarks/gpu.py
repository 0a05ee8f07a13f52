"""Everything that a lent GPU should tell, in one command and in a few minutes: goldens, speed, training, conversion.

`python -m benchmarks.gpu --out DIR [--device cuda] [--tiny] [--minutes 6] [--data ../shared/data] [--only NAME ...]`

The cases, most valuable first (`benchmarks.gpu_cases`; the engines are in `gpu_engines`, what all share in `gpu_setup`):

* goldens: outputs of STCN, ReferFormer and DynaMITe against those of the authors' programs, with and without TF32.
* same-as-cpu: tiny engines on the device against the same engines on the CPU.
* speed: frames of 480 x 854 a second, 3 objects, in float32 (as torch sets TF32), in bfloat16, and compiled in bfloat16.
* train: steps a second of the recipes `grounder` and `point-vos/points`, and the share of the device's peak they reach.
* convert: points to masks, objects x frames a second.

A case starts only if the time that is left is enough for it, and is stopped when all time is over; one that fails is
recorded, and the others go on. DIR/gpu.json and DIR/index.html are written after every case. NAME is a case or the
beginning of its name, such as `speed` or `speed/embedded`. With `--tiny`, everything is small and random, which takes
half a minute on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # every model is made here

import torch

from benchmarks.gpu_cases import all_cases
from benchmarks.gpu_setup import SEED, Case, Figures, NotSupported, Setup, Skipped
from vng.manifest import to_json, versions, write_atomic
from vng.models.loading import device_named
from vng.pages import render_page

ROOT = Path(__file__).resolve().parent.parent
MEASURED, SKIPPED, NOT_SUPPORTED, FAILED = "measured", "skipped", "not supported", "failed"
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a case."""

    name: str
    state: str
    budget: float  # seconds
    seconds: float = 0.0
    reason: str = ""
    peak_bytes: int | None = None  # of the device's memory, held by tensors
    figures: Figures = field(default_factory=dict)


class OutOfTime(BaseException):
    """No time is left; not an `Exception`, so that no handler within a case takes it for a failure."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block after so many seconds, as soon as Python code runs."""

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(case: Case, setup: Setup, left: float) -> Outcome:
    """Run one case, if `left` seconds are enough for it, and stop it after them."""
    if left < case.seconds:
        return Outcome(name=case.name, state=SKIPPED, budget=case.seconds, reason="no time left")
    on_gpu, reason, figures = setup.device.type == "cuda", "", {}
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(setup.device)
    torch.manual_seed(SEED)
    start = time.perf_counter()
    try:
        with at_most(left):
            figures, state = case.measure(setup), MEASURED
            setup.wait()
    except OutOfTime:
        state, reason = SKIPPED, "stopped: no time left"
    except Skipped as problem:
        state, reason = SKIPPED, str(problem)
    except NotSupported as problem:
        state, reason = NOT_SUPPORTED, str(problem)
    except Exception as error:
        traceback.print_exc()
        state, reason = FAILED, one_line(error)
    outcome = Outcome(
        name=case.name,
        state=state,
        budget=case.seconds,
        seconds=time.perf_counter() - start,
        reason=reason,
        peak_bytes=torch.cuda.max_memory_allocated(setup.device) if on_gpu else None,
        figures=figures,
    )
    if state in (MEASURED, FAILED):
        clear(on_gpu)
    return outcome


def clear(on_gpu: bool) -> None:
    """Free what a case leaves, so that the next one starts with an empty device."""
    torch.compiler.reset()
    if on_gpu:
        gc.collect()
        with suppress(RuntimeError):  # of the failed case, which CUDA reports again
            torch.cuda.empty_cache()


def one_line(error: Exception) -> str:
    """The kind of an error, the first line of its text, and the place in this project where it came up."""
    steps = [step for step in traceback.extract_tb(error.__traceback__) if step.filename.startswith(str(ROOT))]
    steps = [step for step in steps if "site-packages" not in step.filename]
    place = f" ({Path(steps[-1].filename).relative_to(ROOT)}:{steps[-1].lineno})" if steps else ""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}{place}"


def output_of(*command: str) -> str | None:
    """The first line that a command prints; None if it is not here or fails."""
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (ended.stdout.splitlines() or [""])[0].strip() or None


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures depend on beside the code."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or platform.machine(),
        "device memory": torch.cuda.get_device_properties(device).total_memory if on_gpu else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "driver": output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "tf32": {
            "products": torch.backends.cuda.matmul.allow_tf32,
            "convolutions": torch.backends.cudnn.allow_tf32,
        },
        "hub kernels": find_spec("kernels") is not None,  # transformers' CUDA code of deformable attention
        "versions": versions(),
        "commit": output_of("git", "describe", "--always", "--dirty", "--abbrev=40"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def run(cases: Sequence[Case], setup: Setup, end: float, out: Path, record: dict[str, Any]) -> None:
    """Run cases one after another until the clock shows `end`.

    `out` holds at any moment what those that are done gave, should the machine be taken away.
    """
    outcomes: list[Outcome] = []
    for case in cases:
        outcome = measure(case, setup, end - time.perf_counter())
        outcomes.append(outcome)
        write_atomic(out / "gpu.json", to_json({**record, "cases": [asdict(item) for item in outcomes]}))
        write_page(out, record, outcomes)
        told = outcome.reason or ", ".join(f"{k} {text(v)}" for k, v in list(shown(outcome).items())[:3])
        print(f"{outcome.name:38}{outcome.state:14}{outcome.seconds:6.1f} s  {told}", flush=True)


def shown(outcome: Outcome) -> Figures:
    """The figures of a case that fit in a table."""
    return {name: value for name, value in outcome.figures.items() if not isinstance(value, dict)}


def text(value: Any) -> str:
    """A figure as it is shown; nothing for a missing one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else {True: "yes", False: "no"}.get(value, str(value))
    return f"{value:,}" if isinstance(value, int) and value < 1e9 else f"{value:.4g}"


def sections(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A table for each group of cases with figures, then one of all cases."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.state == MEASURED:
            groups.setdefault(outcome.name.split("/")[0], []).append(outcome)
    tables = []
    for group, members in groups.items():
        names = list(dict.fromkeys(name for member in members for name in shown(member)))
        rows = [
            (member.name.partition("/")[2], *(text(shown(member).get(name)) for name in names), memory(member))
            for member in sorted(members, key=lambda member: member.name)
        ]
        tables.append({"title": group, "header": ("case", *names, "peak memory, GiB"), "rows": rows})
    rows = [(o.name, o.state, f"{o.seconds:.1f}", f"{o.budget:g}", memory(o), o.reason) for o in outcomes]
    header = ("case", "state", "seconds", "budget, s", "peak memory, GiB", "reason")
    return [*tables, {"title": "All cases", "header": header, "rows": rows}]


def memory(outcome: Outcome) -> str:
    """The peak memory of a case, in GiB."""
    return "" if outcome.peak_bytes is None else f"{outcome.peak_bytes / GIB:.2f}"


def write_page(out: Path, record: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write the page."""
    here, settings = record["machine"], record["settings"]
    counts = {state: sum(o.state == state for o in outcomes) for state in (MEASURED, NOT_SUPPORTED, SKIPPED, FAILED)}
    lead = f"{here['date']}, commit {here['commit']}, torch {here['torch']}, CUDA {here['cuda']}, driver {here['driver']}. "
    size = "Tiny random models and clips. " if settings["tiny"] else ""
    lead += (
        size
        + "float32 is as torch sets it: TF32 "
        + " and ".join(f"{'on' if allowed else 'off'} for {kind}" for kind, allowed in here["tf32"].items())
    )
    figures = [(state, str(count)) for state, count in counts.items() if count]
    render_page(
        out / "index.html",
        title=f"vng on {here['device']}",
        lead=lead + ".",
        figures=[*figures, ("seconds", f"{sum(o.seconds for o in outcomes):.0f}")],
        sections=sections(outcomes),
        footer="python -m benchmarks.gpu",
    )


def chosen(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """The cases that are named, or whose names begin with what is named; all of them if nothing is."""
    return [c for c in cases if not only or any(f"{c.name}/".startswith(f"{word.rstrip('/')}/") for word in only)]


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu.json and index.html")
    parser.add_argument("--device", default="cuda", help="[cuda]")
    parser.add_argument("--tiny", action="store_true", help="tiny random models and clips")
    parser.add_argument("--minutes", type=float, default=6, help="within which no case starts that would not end [6]")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder that holds goldens/")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cases, or beginnings of their names")
    arguments = parser.parse_args(argv)
    end = time.perf_counter() + 60 * arguments.minutes
    cases = chosen(all_cases(), arguments.only)
    if not cases:
        parser.error(
            f"--only {' '.join(arguments.only)}: no such case; there are {', '.join(c.name for c in all_cases())}"
        )
    device = device_named(arguments.device)
    record = {"settings": {**vars(arguments), "seed": SEED}, "machine": machine(device)}
    with tempfile.TemporaryDirectory() as scratch:
        setup = Setup(device=device, tiny=arguments.tiny, data=arguments.data, scratch=Path(scratch))
        run(cases, setup, end, arguments.out, record)


if __name__ == "__main__":
    main()
