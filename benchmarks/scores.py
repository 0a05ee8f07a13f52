"""Speed and memory of evaluators, compared on one set of files in one run.

    python -m benchmarks.scores --davis DIR --vos-benchmark DIR --vidln DIR [--rounds 3] [--json FILE]

DIRs are unedited checkouts of davisvideochallenge/davis2017-evaluation, hkchengrex/vos-benchmark and
google/video-localized-narratives; without a checkout, its rows are left out. The set is the metric set of the goldens:
20 videos x 40 frames x 3 objects, 480x854. Every row is a separate process, rows take turns, and the best of the rounds
counts. Time is that of the call, without imports; processor time and peak memory are those of all its processes.

Missing packages are replaced: `skimage.morphology.disk`, and `absl`, whose flags give VidLN's program its paths.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GENERATOR = ROOT.parent / "shared" / "data" / "goldens" / "metrics" / "gen_synth.py"
PEERS = {"davis": "davis2017-evaluation", "vos_benchmark": "vos-benchmark", "vidln": "video-localized-narratives"}
Masks = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """The result of one row: masks scored, time, memory, and the mean J and F, in which rows can be compared."""

    masks: int
    seconds: float
    processor: float
    megabytes: float
    j: float
    f: float


@dataclass(frozen=True)
class Row:
    """A call to measure, the peer whose code it runs (None: ours), and the number of processes."""

    run: Callable[[Path, int], tuple[int, float, float]]  # folder, processes -> masks scored, mean J, mean F
    peer: str | None
    processes: int = 1


# ---- the peers, called as their own command lines call them


def _davis(folder: Path, task: str, sequences: Any = "all") -> tuple[int, float, float]:
    import numpy as np
    from davis2017.evaluation import DAVISEvaluation

    evaluation = DAVISEvaluation(str(folder / "davis"), task, "val", sequences)
    results = evaluation.evaluate(str(folder / "pred"))
    frames = len(list((folder / "gt").glob("*/*.png")))
    videos = len(list((folder / "gt").iterdir()))
    masks = 9 * frames if task == "unsupervised" else 3 * (frames - 2 * videos)
    return masks, float(np.mean(results["J"]["M"])), float(np.mean(results["F"]["M"]))


def davis_semi(folder: Path, processes: int) -> tuple[int, float, float]:
    """DAVISEvaluation, which runs in one process; several processes each score a share of the sequences."""
    if processes == 1:
        return _davis(folder, "semi-supervised")
    from multiprocessing import Pool

    names = sorted(path.name for path in (folder / "gt").iterdir())
    with Pool(processes) as pool:
        shares = pool.starmap(_davis, [(folder, "semi-supervised", names[i::processes]) for i in range(processes)])
    return shares[0][0], *(sum(share[i] for share in shares) / processes for i in (1, 2))  # type: ignore[return-value]


def davis_unsupervised(folder: Path, _processes: int) -> tuple[int, float, float]:
    """DAVISEvaluation on every pair of a true and a predicted object."""
    return _davis(folder, "unsupervised")


def davis_memory(folder: Path, _processes: int) -> tuple[int, float, float]:
    """The metrics of DAVIS alone, on arrays in memory."""
    import numpy as np
    from davis2017.metrics import db_eval_boundary, db_eval_iou

    values = [
        (db_eval_iou(gt == k, pred == k), db_eval_boundary(gt == k, pred == k))
        for gt, pred in _arrays(folder)
        for k in (1, 2, 3)
    ]
    return _means(values, np)


def vos_benchmark(folder: Path, processes: int) -> tuple[int, float, float]:
    """hkchengrex/vos-benchmark on the two folders."""
    from vos_benchmark.benchmark import benchmark

    _, j, f, _ = benchmark([str(folder / "gt")], [str(folder / "pred")], False, processes, verbose=False)
    frames, videos = len(list((folder / "gt").glob("*/*.png"))), len(list((folder / "gt").iterdir()))
    return 3 * (frames - 2 * videos), j[0] / 100, f[0] / 100


def vidln(folder: Path, processes: int) -> tuple[int, float, float]:
    """VidLN's eval_vng on the official trio of files and one PNG per object and frame."""
    from video_localized_narratives.video_narrative_grounding import eval_vng, vng_dataset

    eval_vng._WORKER_COUNT = processes
    dataset = vng_dataset.VNGDataset(
        meta_filename=str(folder / "trio" / "meta_expressions.json"),
        extra_masks_filename=str(folder / "trio" / "extra_masks.json"),
        orig_masks_filename=str(folder / "trio" / "orig_masks.json"),
        frames_path=None,
    )
    _, j, f, _, _ = eval_vng.evaluate(dataset, str(folder / "vng"), processes > 1)
    return 3 * len(list((folder / "gt").glob("*/*.png"))), j, f


# ---- ours


def ours_vos(folder: Path, processes: int) -> tuple[int, float, float]:
    """`vng evaluate vos` on a dataset and label maps as PNGs."""
    from vng.dataset import VngDataset
    from vng.evaluation.vos.scores import Protocol, evaluate_vos, plain_run

    dataset = VngDataset(folder / "dataset")
    run = plain_run(folder / "pred", dataset.video_ids)
    (scores,) = evaluate_vos(dataset, [run], Protocol("davis"), processes=processes)
    summary = scores.summary()
    return sum(len(score.frames) for score in scores.objects), summary.j.mean, summary.f.mean


def ours_vng(folder: Path, processes: int) -> tuple[int, float, float]:
    """`vng evaluate vng` on a dataset and one PNG per object and frame."""
    from vng.dataset import VngDataset
    from vng.evaluation.narrative.scores import evaluate_narrative

    scores = evaluate_narrative(VngDataset(folder / "dataset"), folder / "vng", processes=processes)
    return sum(score.frames for score in scores.expressions), scores.j, scores.f


def ours_compact(folder: Path, processes: int) -> tuple[int, float, float]:
    """`vng evaluate vng` on a dataset and compact results, one file a video."""
    from vng.dataset import VngDataset
    from vng.evaluation.narrative.scores import evaluate_narrative

    scores = evaluate_narrative(VngDataset(folder / "dataset"), folder / "compact", processes=processes)
    return sum(score.frames for score in scores.expressions), scores.j, scores.f


def ours_pngs(folder: Path, _processes: int) -> tuple[int, float, float]:
    """`label_scores` with truth and predictions as PNGs."""
    import numpy as np

    from vng.evaluation.metrics import label_scores

    same = [(k, k) for k in (1, 2, 3)]
    return _means([label_scores(gt, pred, same) for gt, pred in _pngs(folder)], np)


def ours_pairs(folder: Path, _processes: int) -> tuple[int, float, float]:
    """`label_scores` on PNGs, for every pair of a true and a predicted object."""
    import numpy as np

    from vng.evaluation.metrics import label_scores

    pairs = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3)]
    return _means([label_scores(gt, pred, pairs, gt == 255) for gt, pred in _pngs(folder)], np)


def ours_rle(folder: Path, _processes: int) -> tuple[int, float, float]:
    """`frame_scores` on RLE in memory."""
    import numpy as np

    from vng.evaluation.metrics import frame_scores

    # `run_here` has loaded the masks before the clock starts
    return _means([frame_scores(gt, pred) for gt, pred in _rles(folder)], np)


def ours_arrays(folder: Path, _processes: int) -> tuple[int, float, float]:
    """Our metrics alone, on arrays in memory."""
    import numpy as np

    from vng.evaluation.metrics import boundary_f, jaccard

    pairs = ((gt == k, pred == k) for gt, pred in _arrays(folder) for k in (1, 2, 3))
    return _means([(jaccard(gt, pred), boundary_f(gt, pred)) for gt, pred in pairs], np)


ROWS = {
    "DAVIS evaluator, PNG": Row(davis_semi, "davis"),
    "vos-benchmark, PNG": Row(vos_benchmark, "vos_benchmark"),
    "VidLN eval_vng, PNG + RLE": Row(vidln, "vidln"),
    "vng evaluate vos, PNG + RLE": Row(ours_vos, None),
    "vng label_scores, PNG + PNG": Row(ours_pngs, None),
    "vng evaluate vng, PNG + RLE": Row(ours_vng, None),
    "vng evaluate vng, compact": Row(ours_compact, None),
    "DAVIS evaluator, 2 processes": Row(davis_semi, "davis", 2),
    "vos-benchmark, 2 processes": Row(vos_benchmark, "vos_benchmark", 2),
    "VidLN eval_vng, 2 processes": Row(vidln, "vidln", 2),
    "vng evaluate vos, 2 processes": Row(ours_vos, None, 2),
    "vng evaluate vng, 2 processes": Row(ours_vng, None, 2),
    "vng evaluate vng, compact, 2 proc.": Row(ours_compact, None, 2),
    "DAVIS metrics, arrays in memory": Row(davis_memory, "davis"),
    "vng metrics, arrays in memory": Row(ours_arrays, None),
    "vng metrics, RLE in memory": Row(ours_rle, None),
    "DAVIS unsupervised, pairs, PNG": Row(davis_unsupervised, "davis"),
    "vng label_scores, pairs, PNG": Row(ours_pairs, None),
}
IN_MEMORY = (davis_memory, ours_arrays, ours_rle)
_CACHE: dict[str, Any] = {}


def _means(values: Any, np: Any) -> tuple[int, float, float]:
    j, f = (np.concatenate([value[i] for value in values]) for i in (0, 1))
    return len(j), float(j.mean()), float(f.mean())


def _pngs(folder: Path) -> Any:
    from vng.label_maps import read_label_map

    for path in sorted((folder / "gt").glob("*/*.png")):
        yield (
            read_label_map(path, (480, 854)),
            read_label_map(folder / "pred" / path.parent.name / path.name, (480, 854)),
        )


def _arrays(folder: Path) -> Any:
    import numpy as np

    if "arrays" not in _CACHE:
        _CACHE["arrays"] = [(d["gt"], d["pred"]) for d in map(np.load, sorted(folder.glob("*.npz")))]
    return _CACHE["arrays"]


def _rles(folder: Path) -> Any:
    from vng.masks import encode

    if "rles" not in _CACHE:
        _CACHE["rles"] = [
            tuple([encode(labels == k) for k in (1, 2, 3)] for labels in frames)
            for gt, pred in _arrays(folder)
            for frames in zip(gt, pred, strict=True)
        ]
        del _CACHE["arrays"]
    return _CACHE["rles"]


# ---- the run


def make_set(folder: Path, videos: int, generator: Path) -> None:
    """Write the metric set as PNGs, arrays, a dataset, the official trio, and results in both layouts."""
    command = [sys.executable, str(generator), str(folder), "--videos", str(videos)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    import cv2
    import numpy as np

    from conversion.formats.official_export import write_trio
    from conversion.result_layouts import png_to_compact
    from vng.dataset import Video, VideoObject
    from vng.dataset_writer import write_dataset
    from vng.masks import encode
    from vng.narratives import Expression, Narrative

    def object_id(video: str, k: int) -> str:
        return f"{video}-{k}"  # the official trio requires ids that are unique over all videos

    records = []
    text = "a blob, a blob and a blob"
    spans = [i for i in range(len(text)) if text[i:].startswith("blob")]
    for path in sorted(folder.glob("*.npz")):
        gt, pred = (np.load(path)[name] for name in ("gt", "pred"))
        names = tuple(f"{t:05d}" for t in range(len(gt)))
        objects = tuple(
            VideoObject(object_id(path.stem, k), "blob", "orig_masks", tuple(encode(frame == k) for frame in gt))
            for k in (1, 2, 3)
        )
        expressions = tuple(Expression(0, at, at + 4, object_id(path.stem, k)) for k, at in enumerate(spans, 1))
        narratives = (Narrative("Blob", text),)
        records.append(
            Video(
                video_id=path.stem,
                dataset="synth",
                split="val",
                height=480,
                width=854,
                fps=0.0,
                frame_names=names,
                narratives=narratives,
                expressions=expressions,
                objects=objects,
            )
        )
        for k in (1, 2, 3):
            (folder / "vng" / path.stem / str(k - 1)).mkdir(parents=True)
            for name, frame in zip(names, pred, strict=True):
                cv2.imwrite(str(folder / "vng" / path.stem / str(k - 1) / f"{name}.png"), (frame == k) * np.uint8(255))
    write_dataset(folder / "dataset", records, "synth")
    write_trio(records, folder / "trio")
    png_to_compact(folder / "vng", folder / "compact", progress=False)


def run_here(name: str, folder: Path) -> None:
    """Measure one row in this process and print its result as JSON."""
    row = ROWS[name]
    import cv2

    from benchmarks.official_scores import stand_in_for_absl, stand_in_for_skimage

    cv2.setNumThreads(1)
    stand_in_for_skimage()
    stand_in_for_absl()
    sys.path[:0] = [path for path in os.environ.get("PEERS", "").split(os.pathsep) if path]
    if row.run in IN_MEMORY:
        (_rles if row.run is ours_rle else _arrays)(folder)
    if row.peer is None:
        from vng.evaluation.workers import prepare

        # the command starts its workers while it imports; imports are not timed
        prepare(row.processes)
        import datasets  # noqa: F401

        import vng.evaluation.narrative.scores
        import vng.evaluation.vos.scores  # noqa: F401
    peaks: list[float] = []
    if row.processes > 1:
        threading.Thread(target=_watch, args=(peaks,), daemon=True).start()
    before, began = _processor(), time.perf_counter()
    masks, j, f = row.run(folder, row.processes)
    seconds = time.perf_counter() - began
    used = _processor() - before
    print(json.dumps(asdict(Measured(masks, seconds, used, max([_own_peak(), *peaks]), j, f))))


def _processor() -> float:
    """Processor seconds of this process, of its finished children, and of its running children with theirs."""
    import psutil

    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    children = [child.cpu_times() for child in psutil.Process().children()]
    running = sum(t.user + t.system + t.children_user + t.children_system for t in children)
    return sum(u.ru_utime + u.ru_stime for u in usages) + float(running)


def _own_peak() -> float:
    """Peak memory of this process, MiB; getrusage would count that of the process that started it as well."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _watch(peaks: list[float]) -> None:
    """Record the MiB of this process and its descendants, ten times a second.

    Shared memory counts once (PSS, Linux only).
    """
    import psutil

    process = psutil.Process()
    while True:
        total = process.memory_full_info().pss
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += child.memory_full_info().pss
        peaks.append(total / 2**20)
        time.sleep(0.1)


def run_apart(name: str, folder: Path, peers: list[str]) -> Measured:
    """Measure one row in a separate process, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PEERS": os.pathsep.join(peers)}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "benchmarks.scores", "--row", name, "--set", str(folder)]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{name}: {ended.stderr[-2000:]}")
    return Measured(**json.loads(ended.stdout.strip().splitlines()[-1]))


def measure(folder: Path, names: list[str], peers: list[str], rounds: int) -> dict[str, Measured]:
    """The best round of each row; rows take turns."""
    best: dict[str, Measured] = {}
    for _ in range(rounds):
        for name in names:
            measured = run_apart(name, folder, peers)
            if name not in best or measured.seconds < best[name].seconds:
                best[name] = measured
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, name in PEERS.items():
        parser.add_argument(f"--{option.replace('_', '-')}", type=Path, metavar="DIR", help=f"checkout of {name}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""], help="rows whose name contains one of these")
    parser.add_argument("--generator", type=Path, default=GENERATOR, help="gen_synth.py of the goldens")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--set", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row is not None:
        run_here(arguments.row, arguments.set)
        return
    checkouts = {option: path for option in PEERS if (path := getattr(arguments, option)) is not None}
    peers = [str(path.resolve()) for path in checkouts.values()]
    available = [name for name, row in ROWS.items() if row.peer is None or row.peer in checkouts]
    if "vidln" in checkouts and "davis" not in checkouts:
        parser.error("VidLN's program calls DAVIS's metrics: give --davis too")
    names = [name for name in available if any(word in name for word in arguments.only)]
    with tempfile.TemporaryDirectory() as folder:
        make_set(Path(folder), arguments.videos, arguments.generator)
        best = measure(Path(folder), names, peers, arguments.rounds)
    print(f"{'':34}{'masks/s':>9}{'per CPU s':>11}{'s':>8}{'MiB':>7}  {'J':20}F")
    figures: dict[str, float] = {}
    for name, row in best.items():
        speed, per_processor = row.masks / row.seconds, row.masks / row.processor
        print(f"{name:34}{speed:9.0f}{per_processor:11.0f}{row.seconds:8.2f}{row.megabytes:7.0f}", end="")
        print(f"  {row.j:<20.16f}{row.f:.16f}")
        figures |= {f"{name}: {key}": value for key, value in asdict(row).items()} | {f"{name}: masks/s": speed}
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
