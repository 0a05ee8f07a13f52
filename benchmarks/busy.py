"""Speed of training beside other work: steps a second of the demo's pre-training, idle and beside busy loops.

OpenMP's threads spin while they wait for one another. Where a core is taken by other work, they spin for nothing, and a
step takes many times as long. `vng` bounds the spinning (`vng.threads`); this measures what that costs and gains.

    python -m benchmarks.busy --dataset out/demo/pseudo
    python -m benchmarks.busy --dataset out/demo/pseudo --set GOMP_SPINCOUNT=1000 --set OMP_WAIT_POLICY=PASSIVE

Each `--set NAME=VALUE` is measured beside the default; `--set default=` is the library's own behaviour. Run it on an
otherwise idle machine: the runs of one condition follow one another.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = "demo/pretrain.yaml"
WARM_UP = 3  # steps
BUSY = "while True: pass"
KNOBS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
LIBRARY = "default"  # as `vng` sets it
SPINNING = "GOMP_SPINCOUNT=30000000000"  # GNU OpenMP's own default where no more threads than cores run: without end


def steps_a_second(dataset: Path, setting: str, seconds: float) -> float:
    """Steps a second of a fresh run, after its first `WARM_UP` steps."""
    environment = {name: value for name, value in os.environ.items() if name not in KNOBS}
    if setting != LIBRARY:
        environment |= dict(pair.split("=", 1) for pair in setting.split(","))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        settings = [f"data.path={dataset}", f"out={out}", "optimizer.steps=100000", "log_every=1", "save_every=100000"]
        command = [sys.executable, "-m", "vng.cli", "train", RECIPE, *settings, "--quiet"]
        run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            start, at_start = _when(run, out, WARM_UP)
            end, at_end = _when(run, out, WARM_UP + 1, until=start + seconds)
        finally:
            run.send_signal(signal.SIGKILL)
            run.wait()
    return (at_end - at_start) / (end - start)


def _when(run: subprocess.Popen[bytes], out: Path, least: int, until: float = 0.0) -> tuple[float, int]:
    """The time of the first logged step from `least` on and after `until`, and its number."""
    seen = 0
    while run.poll() is None:
        log = out / "log.jsonl"
        now, lines = time.monotonic(), log.read_bytes().count(b"\n") if log.exists() else 0
        if lines > seen:
            seen = lines
            if lines >= least and now >= until:
                return now, lines
        time.sleep(0.02)
    raise SystemExit(f"the run ended with status {run.returncode}")


def main() -> None:
    """Measure, and print one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--loops", type=int, nargs="+", default=[0, 2, 8], help="busy loops beside the training")
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    print(f"{'setting':40}" + "".join(f"{count:>4} loops" for count in arguments.loops) + "   steps a second")
    for setting in [LIBRARY, SPINNING, *arguments.set]:
        speeds = []
        for count in arguments.loops:
            loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
            try:
                speeds.append(steps_a_second(arguments.dataset, setting, arguments.seconds))
            finally:
                for loop in loops:
                    loop.kill()
                    loop.wait()
        print(f"{setting:40}" + "".join(f"{speed:10.2f}" for speed in speeds), flush=True)


if __name__ == "__main__":
    main()
