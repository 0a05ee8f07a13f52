"""Time and memory of reading a points file record by record, compared with `json.load` of the whole file.

Writes a random file in the Oops format (15 points per frame, 10 frames per object; the published file has 12K objects)
and reads it with each reader in a separate process. `python -m benchmarks.annotations [--objects 12000] [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from conversion.formats.point_vos import AnnotatedPoint, PointRecord, write_points
from vng.points import NEGATIVE, POSITIVE

READERS = {
    "json.load": "import json; items = json.load(open(path))",
    "read_points": "from conversion.formats.points import read_points as f; items = (r.points for r in f(path))",
    "inspect": "from conversion.inspection import inspect_annotations as i; i(path, progress=False); items = []",
}
PROGRAM = """
import resource, sys, time; from pathlib import Path
path = Path(sys.argv[1]); start = time.perf_counter()
{code}
count = sum(1 for _ in items) if hasattr(items, "__iter__") else len(items)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def random_records(count: int, seed: int = 0) -> Iterator[PointRecord]:
    """`count` records with 150 points each, two records per video."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        xy = rng.integers(0, (854, 480), (150, 2)).tolist()
        labels = rng.choice((POSITIVE, NEGATIVE, NEGATIVE), 150).tolist()
        points = tuple(
            AnnotatedPoint(x, y, f"{7 * (i // 15):06d}", label, label == POSITIVE)
            for i, ((x, y), label) in enumerate(zip(xy, labels, strict=True))
        )
        yield PointRecord(
            key=f"{index:032x}",
            object_name="ball",
            video_name=f"train/video {index // 2}",
            points=points,
            question="What rolls?",
            question_hash=f"{index:032x}",
        )


def main() -> None:
    """Print the seconds and the peak memory of every reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=12_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.json"
        write_points(random_records(arguments.objects), path)
        print(f"{arguments.objects:,} objects, {path.stat().st_size / 1e6:.0f} MB")
        for name, code in READERS.items():
            command = [sys.executable, "-c", PROGRAM.format(code=code), str(path)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, peak = map(float, output.split())
            result[name] = {"seconds": seconds, "peak_mib": peak}
            print(f"{name:12} {seconds:6.1f} s  peak {peak:6.0f} MiB", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
