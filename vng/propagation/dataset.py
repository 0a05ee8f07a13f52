"""Propagation over a whole dataset, as benchmarks of video object segmentation ask for it; resumable video by video.

    RESULTS/<video>/<frame>.png                       from masks
    RESULTS/points-<n>/seed-<s>/<video>/<frame>.png   from n points an object

An object is told of in its first frame alone, and is nowhere before it. Layout: `vng/evaluation/vos/runs.py`.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vng.dataset import Video, VideoObject, VngDataset, reference_frame
from vng.errors import DataError, Problem, one_of
from vng.frames import inside
from vng.label_maps import NUMBERS_FILE, exclusive, object_numbers, write_label_map
from vng.manifest import check_folder, check_same, file_hash, to_json, versions, write_atomic
from vng.masks import RLE, area, decode
from vng.points import POSITIVE, PointPrompts, sample_in_mask
from vng.processes import Processes, current_processes, limited_threads
from vng.propagators import FramePrompts, Propagator

RESULTS_MANIFEST = "propagation.json"
STARTS = ("points", "masks")
DISTANCE, ROWS = 20.0, 480  # least distance of simulated points, pixels at this height (Point-VOS, Sec. 3.1)


@dataclass(frozen=True)
class Benchmark:
    """How videos begin; raises UsageError for an unknown start."""

    start: str = "points"
    points: tuple[int, ...] = (10,)  # positive points an object; of each number a run
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        one_of(self.start, STARTS, "start")

    def runs(self, out: Path) -> Iterator[tuple[Path, int, int]]:
        """(folder, points, seed) of each run; points are 0 where masks begin."""
        if self.start == "masks":
            yield out, 0, 0
            return
        for count in sorted(set(self.points)):
            for seed in sorted(set(self.seeds)):
                yield out / f"points-{count}" / f"seed-{seed}", count, seed


@dataclass
class DatasetPropagation:
    """What this process did; totals are of all runs, an earlier run's videos included."""

    totals: dict[str, int] = field(default_factory=lambda: {"videos": 0, "runs": 0, "made": 0})
    notes: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Start:
    """What is told of one object, in its first frame t."""

    frame: int
    mask: RLE | None = None
    xy: np.ndarray | None = None  # float32 [P, 2]


def propagate_dataset(
    engine: Propagator,
    dataset: VngDataset,
    out: Path,
    benchmark: Benchmark,
    settings: Mapping[str, Any],
    threads: int = 1,
    progress: bool = True,
) -> DatasetPropagation:
    """Propagate every video of a dataset, dealt out over the processes that a launcher started.

    A video's folder appears when all its frames are written, so a stopped run goes on with the next video. Further numbers
    of points and seeds may be added to the same results later.

    Args:
        settings: what made the engine; results of other settings or another dataset are refused.

    Raises:
        DataError: `out` holds results of something else, or a video that cannot be read.
    """
    processes = current_processes()
    processes.on_main(lambda: _begin(dataset, out, benchmark, settings))
    result = DatasetPropagation()
    runs = list(benchmark.runs(out))
    result.totals |= {"videos": len(dataset), "runs": len(runs)}
    mine = range(processes.index, len(dataset), processes.count)
    with limited_threads(threads), _bar(processes, len(mine) * len(runs), progress) as bar:
        for index in mine:
            if all(inside(folder, dataset.video_ids[index]).exists() for folder, _, _ in runs):
                bar.update(len(runs))
                continue
            video = dataset[index]
            for folder, count, seed in runs:
                result.totals["made"] += _propagate_video(engine, video, folder, benchmark, count, seed, result.notes)
                bar.update()
    processes.wait()
    return result


def _bar(processes: Processes, total: int, progress: bool) -> Any:
    hidden = not progress or not processes.is_main
    return tqdm(total=total, desc="propagate", unit="video", disable=hidden)


def _begin(dataset: VngDataset, out: Path, benchmark: Benchmark, settings: Mapping[str, Any]) -> None:
    check_folder(out)
    manifest = out / RESULTS_MANIFEST
    if out.exists() and any(out.iterdir()) and not manifest.exists():
        raise DataError(out, reason="this folder holds something else", cure="choose another --out")
    source = dataset.path / "manifest.json"
    made_by = dict(settings)
    made_by["settings"] = {key: value for key, value in settings.get("settings", {}).items() if key != "device"}
    if "weights" in made_by:  # by content: a folder may be trained on, or lie elsewhere
        made_by.pop("checkpoint", None)
    made_by |= {"dataset": file_hash(source) if source.is_file() else str(dataset.path), "start": benchmark.start}
    check_same(manifest, made_by, out)
    asked = asdict(benchmark) | {"distance": DISTANCE, "rows": ROWS}
    write_atomic(manifest, to_json({"settings": made_by, "asked": asked, "versions": versions()}))


def _propagate_video(
    engine: Propagator, video: Video, folder: Path, benchmark: Benchmark, count: int, seed: int, notes: list[Problem]
) -> bool:
    """Write one video of one run; False where it is there already, or nothing is known of any of its objects."""
    target = inside(folder, video.video_id)
    if target.exists():
        return False
    begin: Callable[[VideoObject], Start | None] = (
        first_mask if benchmark.start == "masks" else lambda item: first_points(video, item, count, seed)
    )
    starts = {item.object_id: start for item in video.objects if (start := begin(item)) is not None}
    for item in video.objects:
        if item.object_id not in starts:
            reason = f"no frame to start from: neither {'a mask' if count == 0 else 'positive points nor a mask'}"
            notes.append(
                Problem(
                    video.dataset, record=video.video_id, field=f"objects.{item.object_id}", reason=reason, kind="note"
                )
            )
    if not starts:
        return False
    temporary = target.with_name(target.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    _write_video(engine, video, starts, temporary)
    os.replace(temporary, target)
    return True


def _write_video(engine: Propagator, video: Video, starts: Mapping[str, Start], folder: Path) -> None:
    numbers = object_numbers(video)
    known = [numbers[name] for name in starts]
    begins = np.array([start.frame for start in starts.values()])
    for t, probabilities in engine(video.opened_frames(), prompts_of(list(starts.values()))):
        # Before its first frame nobody knows of an object; an engine that carries it backwards would use the future.
        there = probabilities * (begins <= t)[:, None, None]
        write_label_map(folder / f"{video.frame_names[t]}.png", exclusive(there), known)
    if any(str(number) != name for name, number in numbers.items()):
        write_atomic(folder / NUMBERS_FILE, to_json(numbers))


def prompts_of(starts: list[Start]) -> dict[int, FramePrompts]:
    """What engines are told: in each first frame the objects that begin there, nothing of the others."""
    found = {}
    for t in sorted({start.frame for start in starts}):
        here = [start if start.frame == t else None for start in starts]
        masks = tuple(None if s is None or s.mask is None else decode(s.mask) for s in here)
        points = tuple(None if s is None or s.xy is None else PointPrompts(s.xy, np.empty((0, 2))) for s in here)
        found[t] = FramePrompts(masks, points)
    return found


def first_mask(item: VideoObject) -> Start | None:
    """An object's first mask that is not empty; None where it has none."""
    seen = ((t, rle) for t, rle in enumerate(item.segmentations) if rle is not None and area(rle))
    return next((Start(t, mask=rle) for t, rle in seen), None)


def first_points(video: Video, item: VideoObject, count: int, seed: int) -> Start | None:
    """Up to `count` positive points of an object in its first frame: its verified ones, or drawn from its first mask.

    Drawn points are at least 20 pixels apart at 480 rows, in proportion at other heights. What is chosen depends on
    the seed and the names of video and object alone; fewer points are the first ones of more. None where an object has
    neither points nor a mask.
    """
    rng = np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in (video.video_id, item.object_id))])
    t = reference_frame(item)
    if t is not None:
        verified = item.points.in_frame(t).of(POSITIVE).xy
        return Start(t, xy=verified[rng.permutation(len(verified))[:count]])
    start = first_mask(item)
    if start is None or start.mask is None:
        return None
    return Start(start.frame, xy=sample_in_mask(decode(start.mask), count, DISTANCE * video.height / ROWS, rng))
