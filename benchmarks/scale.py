"""What grows with the size of a dataset: opening, reading, sampling, exporting, predicting; sizes are arguments.

`python -m benchmarks.scale [open rows train sampler seek keeping trio dry propagate objects page]`
`[--videos 10000] [--frames 300] [--folder DIR] [--json FILE]`

Every measure runs in a process of its own, whose peak memory is the kernel's (VmHWM). The data are made once in
`--folder` and kept there: some 8 GB with the sizes of the documentation (docs/scale.md).

* open: 80 embedded rows of 300 images of 64 KB, and `--videos` rows with linked frames, cold.
* rows: random access to rows of `--frames` linked frames.
* train: memory of `vng train` up to its first step, `--videos` against a tenth of them.
* sampler: 300 samples of linked 720p films: memory, threads, open files.
* seek: a sample of 5 frames of a 720p film, for three distances of key frames, beside decoding from the start.
* keeping: size, exactness and speed of ways to keep frames: JPEG files, embedded JPEGs, H.264 files.
* trio: `vng export --format official`, and `vng convert vng` back.
* dry: the estimate of a dry run against the conversion.
* propagate: 1, 8, 32 objects over `--propagated` frames. objects: 100 objects in one frame.
* page: `vng evaluate vng --html` of `--expressions` expressions.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DRAWS = 300  # samples
SHOWN = "print(json.dumps(result | {'peak_MiB': peak()}))"


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measures, and where their data lie."""

    folder: Path
    videos: int
    frames: int
    propagated: int
    propagator: str
    rows: int  # of the frames of a long video
    expressions: int


def peak() -> float:
    """The peak resident memory of this process, MiB; that of the process that started it does not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def apart(function: Callable[..., dict[str, Any]], *values: Any, **variables: str) -> dict[str, Any]:
    """Call a function of this module in a process of its own: its result, with the peak memory."""
    call = f"{function.__name__}(*{[str(v) if isinstance(v, Path) else v for v in values]!r})"
    program = f"import json\nfrom benchmarks.scale import {function.__name__}, peak\nresult = {call}\n{SHOWN}"
    environment = os.environ | {"PYTHONWARNINGS": "ignore"} | variables
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    if ran.returncode:
        raise SystemExit(f"{function.__name__}: {ran.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return result


def command(*words: Any) -> dict[str, Any]:
    """A `vng` command: its seconds, exit status, output, peak memory of its process."""
    program = (
        "import sys, json\nfrom vng.cli.app import main\nfrom benchmarks.scale import peak\n"
        "try:\n    status = main(sys.argv[1:])\nexcept SystemExit as error:\n    status = error.code\n"
        "print('\\n' + json.dumps({'status': status, 'peak_MiB': peak()}))"
    )
    start = time.perf_counter()
    ran = subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr[-2000:])
    *output, last = ran.stdout.splitlines()
    return json.loads(last) | {"seconds": time.perf_counter() - start, "output": "\n".join(output), "err": ran.stderr}


def made(path: Path, make: Callable[[], Any]) -> Path:
    """A folder or file of the benchmark, made where it is not there."""
    if not path.exists():
        make()
    return path


def linked(sizes: Sizes, videos: int, frames: int, objects: int = 4) -> Path:
    """A dataset of rows linked to one folder of small frames."""
    from benchmarks import scale_data as data

    size = (data.HEIGHT, data.WIDTH)
    jpegs = made(
        sizes.folder / f"jpegs-{frames}", lambda: data.write_jpegs(sizes.folder / f"jpegs-{frames}", frames, *size)
    )
    out = sizes.folder / f"linked-{videos}-{frames}-{objects}"
    return made(out / "data", lambda: data.write_linked(out, videos, frames, [jpegs], objects=objects)).parent


def film(sizes: Sizes, group: int) -> Path:
    """A 720p film of the benchmark."""
    from benchmarks import scale_data as data

    path = sizes.folder / f"film-{group}.mp4"
    return made(path, lambda: data.write_film(path, sizes.frames, 720, 1280, group))


# ---- opening and reading


def opened(path: str) -> dict[str, Any]:
    """Open a dataset and read one row."""
    start = time.perf_counter()
    from vng.dataset import VngDataset

    imported = time.perf_counter()
    dataset = VngDataset(path)
    seconds = time.perf_counter() - imported
    video = dataset[len(dataset) // 2]
    cache = Path(os.environ["HF_DATASETS_CACHE"])
    copied = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) if cache.exists() else 0
    result = {"import_s": imported - start, "open_s": seconds, "row_s": time.perf_counter() - imported - seconds}
    return result | {"videos": len(dataset), "images": len(video.frame_names), "cache_MiB": copied / 2**20}


def measure_open(sizes: Sizes) -> dict[str, Any]:
    from benchmarks import scale_data as data

    out = sizes.folder / "embedded"
    embedded = made(out / "data", lambda: data.write_embedded(out, 80, 300, 64 << 10)).parent
    results = {}
    for name, path in (("embedded", embedded), ("linked", linked(sizes, sizes.videos, 32))):
        with tempfile.TemporaryDirectory() as cache:
            results[name] = apart(opened, path, HF_DATASETS_CACHE=cache)
    return results


def accessed(path: str, draws: int) -> dict[str, Any]:
    """Random access to rows, each of another group."""
    import numpy as np

    from vng.dataset import VngDataset

    dataset = VngDataset(path)
    _ = dataset[0]
    times = []
    for index in np.random.default_rng(0).permutation(len(dataset))[:draws]:
        start = time.perf_counter()
        _ = dataset[int(index)]
        times.append(time.perf_counter() - start)
    return {"mean_ms": 1000 * float(np.mean(times)), "median_ms": 1000 * float(np.median(times))}


def measure_rows(sizes: Sizes) -> dict[str, Any]:
    return {f"{n} objects": apart(accessed, linked(sizes, 400, sizes.frames, n), 200) for n in (1, 4)}


def measure_train(sizes: Sizes) -> dict[str, Any]:
    results = {}
    for videos in (sizes.videos // 10, sizes.videos):
        with tempfile.TemporaryDirectory() as run:
            path = f"data.path={linked(sizes, videos, 32)}"
            ran = command("train", "tiny", path, f"out={run}/run", "optimizer.steps=1", "--quiet")
            results[f"{videos} videos"] = {key: ran[key] for key in ("status", "peak_MiB", "seconds")}
    return results


# ---- samples of films


def sampled(path: str, draws: int) -> dict[str, Any]:
    """Samples of the grounder's clips, as one worker draws them."""
    import numpy as np
    import psutil

    from vng.dataset import VngDataset
    from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer
    from vng.training.grounding.clips import ClipSampler
    from vng.training.grounding.recipe import DataSettings

    dataset = VngDataset(path)
    settings = DataSettings(path=path, frames=5)
    processor = ReferFormerProcessor(train_tokenizer(dataset.descriptions, 280, 64), short_side=360, long_side=640)
    sampler = ClipSampler([dataset], settings, processor, 0, draws)
    process, times, threads, files = psutil.Process(), [], 0, 0
    for index in range(draws):
        start = time.perf_counter()
        _ = sampler[index]
        times.append(time.perf_counter() - start)
        threads, files = max(threads, process.num_threads()), max(files, process.num_fds())
    return {"mean_s": float(np.mean(times)), "threads": threads, "open_files": files}


def measure_sampler(sizes: Sizes) -> dict[str, Any]:
    from benchmarks import scale_data as data

    films = sizes.folder / "films"
    made(films, lambda: data.copies(film(sizes, 60), films, 300))
    out = sizes.folder / "films-dataset"
    paths = sorted(films.iterdir())
    path = made(out / "data", lambda: data.write_linked(out, 300, sizes.frames, paths, 720, 1280)).parent
    shutil.rmtree(path / "frame_index", ignore_errors=True)
    first = apart(sampled, path, DRAWS)
    return {"no index yet": first, "index kept": apart(sampled, path, DRAWS)}


def sought(path: str, draws: int) -> dict[str, Any]:
    """Samples of 5 frames at random places of a film, held against decoding all of it."""
    import numpy as np

    from vng.frames import open_frames
    from vng.training.grounding.clips import sample_frames

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        frames = open_frames(Path(path), Path(folder))
        indexed = time.perf_counter() - start
        start = time.perf_counter()
        whole = [image[::2, ::2].copy() for image in frames]
        decoded = time.perf_counter() - start
        times, differ = [], 0
        for _ in range(draws):
            chosen = sample_frames(np.arange(len(frames)), 5, 5, rng)
            start = time.perf_counter()
            images = open_frames(Path(path), Path(folder)).read(chosen.tolist())
            times.append(time.perf_counter() - start)
            differ += sum((image[::2, ::2] != whole[i]).any() for i, image in zip(chosen, images, strict=True))
    result = {"sample_s": float(np.mean(times)), "worst_s": max(times), "index_s": indexed, "all_frames_s": decoded}
    return result | {"frames_that_differ": int(differ), "sample_of_all": result["sample_s"] / decoded}


def measure_seek(sizes: Sizes) -> dict[str, Any]:
    return {f"key frame every {group}": apart(sought, film(sizes, group), 40) for group in (250, 60, 12)}


def kept(path: str, kind: str, draws: int) -> dict[str, Any]:
    """Samples of 5 frames of a dataset's only row, read anew each time."""
    import numpy as np

    from vng.dataset import VngDataset
    from vng.training.grounding.clips import sample_frames

    dataset, rng, times = VngDataset(path), np.random.default_rng(0), []
    _ = dataset[0].opened_frames().read([0])
    for _ in range(draws):
        start = time.perf_counter()
        video = dataset[0]
        video.opened_frames().read(sample_frames(np.arange(len(video.frame_names)), 5, 5, rng).tolist())
        times.append(time.perf_counter() - start)
    return {"sample_s": float(np.mean(times))}


def in_a_row(path: str, draws: int) -> dict[str, Any]:
    """Samples of 5 frames of a film whose bytes are one value of a Parquet row, which this package does not write."""
    import io

    import av
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from vng.frames.video_file import film_index
    from vng.training.grounding.clips import sample_frames

    index, rng, times = film_index(Path(path)), np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/film.parquet"
        pq.write_table(pa.table({"film": pa.array([Path(path).read_bytes()], pa.binary())}), file, compression="zstd")
        for _ in range(draws):
            chosen = sample_frames(np.arange(len(index.times)), 5, 5, rng)
            start = time.perf_counter()
            data = pq.ParquetFile(file).read_row_group(0)["film"][0].as_py()
            with av.open(io.BytesIO(data)) as container:
                stream, last = container.streams.video[0], -1
                stream.thread_type = "AUTO"
                for wanted in map(int, index.times[chosen]):
                    if wanted != last:
                        container.seek(wanted, stream=stream)
                        next(f for f in container.decode(stream) if f.pts >= wanted).to_ndarray(format="rgb24")
                    last = wanted
            times.append(time.perf_counter() - start)
        return {"sample_s": float(np.mean(times)), "MiB": Path(file).stat().st_size / 2**20}


def measure_keeping(sizes: Sizes) -> dict[str, Any]:
    import numpy as np

    from benchmarks import scale_data as data
    from vng.dataset_writer import DatasetWriter
    from vng.frames import open_frames

    out, size, results = sizes.folder / "keeping", (720, 1280), {}
    shutil.rmtree(out, ignore_errors=True)
    truth = list(data.moving(sizes.frames, *size))
    data.write_jpegs(out / "jpegs", sizes.frames, *size)
    for name, source, embed in (
        ("JPEG files", out / "jpegs", False),
        ("embedded JPEGs", out / "jpegs", True),
        ("H.264, key frame every 12", film(sizes, 12), False),
        ("H.264, key frame every 250", film(sizes, 250), False),
    ):
        target = out / name.replace(" ", "-").replace(",", "")
        writer = DatasetWriter(target, {})
        from dataclasses import replace

        video = replace(data.record(0, sizes.frames, *size), frames=open_frames(source))
        writer.write(0, [video.as_row(embed=embed, frames_path=os.path.relpath(source, target))])
        writer.finish(1, name, "")
        files = [source] if source.is_file() else sorted(source.iterdir())
        stored = sum(f.stat().st_size for f in (list((target / "data").iterdir()) if embed else files))
        differences = [np.abs(a.astype(int) - b).mean() for a, b in zip(open_frames(source), truth, strict=True)]
        results[name] = apart(kept, target, name, 30) | {
            "MiB": stored / 2**20,
            "mean_difference_from_source": float(np.mean(differences)),
        }
    results["H.264 in a row, key frame every 12"] = apart(in_a_row, film(sizes, 12), 30)
    return results


# ---- commands on many videos


def measure_trio(sizes: Sizes) -> dict[str, Any]:
    source, out = linked(sizes, sizes.videos, 32), sizes.folder / "trio"
    for folder in (out, sizes.folder / "trio-dataset"):
        shutil.rmtree(folder, ignore_errors=True)
    exported = command("export", source, "--format", "official", "--out", out, "--quiet")
    files = ["--meta", out / "meta_expressions.json", "--extra-masks", out / "extra_masks.json"]
    files += ["--orig-masks", out / "orig_masks.json", "--out", sizes.folder / "trio-dataset", "--quiet"]
    converted = command("convert", "vng", *files)
    size = sum(f.stat().st_size for f in out.iterdir()) / 2**20
    keep = ("status", "seconds", "peak_MiB")
    return {"MiB": size, "export": {k: exported[k] for k in keep}, "convert": {k: converted[k] for k in keep}}


def measure_dry(sizes: Sizes) -> dict[str, Any]:
    world, results = sizes.folder / "world", {}
    made(world, lambda: command("synthesize", "--out", world, "--videos", 100, "--seed", 3, "--quiet"))
    for segmenter in ("classical", "embedded"):
        words = ["convert", "point-vos", "--points", world / "points.json", "--narratives", world / "vidln.jsonl"]
        words += ["--frames", world / "frames", "--segmenter", segmenter, "--out", sizes.folder / f"dry-{segmenter}"]
        shutil.rmtree(sizes.folder / f"dry-{segmenter}", ignore_errors=True)
        dry = json.loads(command(*words, "--dry-run", "--json", "--quiet")["output"])
        ran = command(*words, "--quiet")
        ratio = dry["seconds_left"] / ran["seconds"]
        results[segmenter] = {"estimate_s": dry["seconds_left"], "took_s": ran["seconds"], "ratio": ratio}
    missing = command(*words[:-2], "--out", sizes.folder / "dry-none", "--frames", sizes.folder / "none", "--dry-run")
    return results | {"no frames": {"status": missing["status"], "says": missing["err"][-400:]}}


def measure_propagate(sizes: Sizes) -> dict[str, Any]:
    import cv2
    import numpy as np

    from benchmarks import scale_data as data
    from vng.label_maps import write_label_map

    results = {}
    height, width = sizes.rows, 9 * sizes.rows // 5
    for frames in (sizes.propagated // 4, sizes.propagated):
        folder = sizes.folder / f"long-{frames}-{height}"
        made(folder, lambda folder=folder, frames=frames: data.write_jpegs(folder, frames, height, width))
        for objects in (1, 8, 32):
            if frames < sizes.propagated and objects > 1:
                continue
            masks = np.zeros((objects, height, width), np.uint8)
            for k in range(objects):
                centre = (width * (2 * (k % 8) + 1) // 16, height * (2 * (k // 8) + 1) // 8)
                cv2.circle(masks[k], centre, height // 13, 1, -1)
            mask = sizes.folder / f"first-{objects}.png"
            write_label_map(mask, masks.astype(bool), range(1, objects + 1))
            with tempfile.TemporaryDirectory() as out:
                words = ["--video", folder, "--masks", mask, "--propagator", sizes.propagator]
                ran = command("propagate", *words, "--out", f"{out}/r", "--quiet")
            key = f"{sizes.propagator}: {objects} objects, {frames} frames"
            results[key] = {"seconds": ran["seconds"], "peak_MiB": ran["peak_MiB"], "status": ran["status"]}
            print(key, results[key], flush=True)
    return results


def crowded(objects: int) -> dict[str, Any]:
    """Seconds and points of `objects` objects in one frame, by the embedded segmenter and the propagator."""
    import numpy as np

    from benchmarks import scale_data as data
    from vng.points import PointPrompts
    from vng.propagation.video import propagate
    from vng.propagators import FramePrompts
    from vng.segmenters import load

    image = next(data.moving(1, 480, 854))
    rng = np.random.default_rng(0)
    prompts = [PointPrompts(rng.uniform(0, (854, 480), (3, 2)), np.empty((0, 2))) for _ in range(objects)]
    segmenter = load("embedded")
    _ = segmenter(image, prompts[:1])
    start = time.perf_counter()
    masks = segmenter(image, prompts)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    frames = np.stack(list(data.moving(10, 240, 432)))
    first = {0: FramePrompts(points=tuple(PointPrompts(p.positive / 2, p.negative) for p in prompts))}
    for _ in propagate(frames, first, "stcn"):
        pass
    return {"segment_s": seconds, "masks": len(masks), "propagate_10_frames_s": time.perf_counter() - start}


def measure_objects(sizes: Sizes) -> dict[str, Any]:
    return {f"{count} objects": apart(crowded, count) for count in (1, 10, 100)}


def measure_page(sizes: Sizes) -> dict[str, Any]:
    import cv2

    from vng.dataset import VngDataset
    from vng.masks import decode

    results = {}
    for expressions in (sizes.expressions // 5, sizes.expressions):
        videos = expressions // 4
        dataset, predictions = linked(sizes, videos, 8), sizes.folder / f"predictions-{videos}"
        if not predictions.exists():
            for video in VngDataset(dataset):
                for number, expression in enumerate(video.expressions):
                    folder = predictions / video.video_id / str(number)
                    folder.mkdir(parents=True)
                    for name, rle in zip(
                        video.frame_names, video.object_by_id[expression.object_id].segmentations, strict=True
                    ):
                        assert rle is not None
                        cv2.imwrite(str(folder / f"{name}.png"), decode(rle) * 255)
        page = sizes.folder / f"page-{videos}"
        ran = command("evaluate", "vng", "--dataset", dataset, "--results", predictions, "--html", page, "--quiet")
        size = (page / "index.html").stat().st_size / 2**20
        results[f"{expressions} expressions"] = {k: ran[k] for k in ("status", "seconds", "peak_MiB")} | {
            "page_MiB": size
        }
    return results


MEASURES: dict[str, Callable[[Sizes], dict[str, Any]]] = {
    name.removeprefix("measure_"): function for name, function in list(globals().items()) if name.startswith("measure_")
}


def main() -> None:
    """Run the measures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", choices=[*MEASURES, []], default=list(MEASURES))
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--propagated", type=int, default=1600, help="frames of a long video")
    parser.add_argument("--propagator", default="stcn", help="of the long video")
    parser.add_argument("--rows", type=int, default=240, help="of the long video's frames")
    parser.add_argument("--expressions", type=int, default=5000)
    parser.add_argument("--folder", type=Path, default=Path("out/scale"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = ("videos", "frames", "propagated", "propagator", "rows", "expressions")
    sizes = Sizes(folder=arguments.folder.resolve(), **{name: getattr(arguments, name) for name in names})
    sizes.folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in arguments.measures:
        results[name] = MEASURES[name](sizes)
        print(name, json.dumps(results[name], indent=1), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
