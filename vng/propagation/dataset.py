"""Propagation over a dataset, as in benchmarks of video object segmentation; resumable video by video.

    RESULTS/<video>/<frame>.png                       from masks
    RESULTS/points-<n>/seed-<s>/<video>/<frame>.png   from n points per object

An object is prompted in its first frame only, and absent before it. Layout: `vng/evaluation/vos/runs.py`.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vng.dataset import Video, VideoObject, VngDataset, reference_frame
from vng.errors import DataError, Problem, one_of
from vng.frames import inside
from vng.label_maps import NUMBERS_FILE, exclusive, object_numbers, write_label_map
from vng.manifest import check_folder, check_same, claimed_folder, file_hash, to_json, versions, write_atomic
from vng.masks import RLE, area, decode
from vng.points import DISTANCE_ROWS, POINT_DISTANCE, POSITIVE, PointPrompts, point_distance, sample_in_mask
from vng.processes import Processes, current_processes, limited_threads
from vng.propagators import FramePrompts, Propagator

RESULTS_MANIFEST = "propagation.json"
STARTS = ("points", "masks")


@dataclass(frozen=True)
class Benchmark:
    """The prompts of a benchmark; raises UsageError for an unknown `start`."""

    start: str = "points"
    points: tuple[int, ...] = (10,)  # numbers of positive points per object, one run for each
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        one_of(self.start, STARTS, "start")

    def runs(self, out: Path) -> Iterator[tuple[Path, int, int]]:
        """(folder, points, seed) of each run; 0 points if `start` is "masks"."""
        if self.start == "masks":
            yield out, 0, 0
            return
        for count in sorted(set(self.points)):
            for seed in sorted(set(self.seeds)):
                yield out / f"points-{count}" / f"seed-{seed}", count, seed


@dataclass
class DatasetPropagation:
    """Totals and notes: `videos` and `runs` of the whole benchmark, `made` of the videos written by this process."""

    totals: dict[str, int] = field(default_factory=lambda: {"videos": 0, "runs": 0, "made": 0})
    notes: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Start:
    """The prompt of one object, in its first frame."""

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
    """Propagate every video of a dataset, distributed over the processes of a launcher.

    A video's folder appears when all its frames are written, so an interrupted run resumes with the next video. More
    numbers of points and seeds may be added to the same results later.

    Args:
        settings: those of the engine; `out` must not hold results of other settings or another dataset.

    Raises:
        DataError: `out` holds other results, or a video cannot be read.
    """
    processes = current_processes()
    check_folder(out)
    with ExitStack() as stack:
        processes.on_main(lambda: stack.enter_context(claimed_folder(out)))
        processes.on_main(lambda: _begin(dataset, out, benchmark, settings))
        return _propagate_videos(engine, dataset, out, benchmark, processes, threads, progress)


def _propagate_videos(
    engine: Propagator,
    dataset: VngDataset,
    out: Path,
    benchmark: Benchmark,
    processes: Processes,
    threads: int,
    progress: bool,
) -> DatasetPropagation:
    result = DatasetPropagation()
    runs = list(benchmark.runs(out))
    result.totals |= {"videos": len(dataset), "runs": len(runs)}
    own_indices = range(processes.index, len(dataset), processes.count)
    with limited_threads(threads), _bar(processes, len(own_indices) * len(runs), progress) as bar:
        for index in own_indices:
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
    manifest = out / RESULTS_MANIFEST
    if out.exists() and any(out.iterdir()) and not manifest.exists():
        raise DataError(out, reason="this folder holds something else", cure="choose another --out")
    source = dataset.path / "manifest.json"
    identity = dict(settings)
    identity["settings"] = {key: value for key, value in settings.get("settings", {}).items() if key != "device"}
    if "weights" in identity:  # compared by content: a folder may be trained further or moved
        identity.pop("checkpoint", None)
    identity |= {"dataset": file_hash(source) if source.is_file() else str(dataset.path), "start": benchmark.start}
    check_same(manifest, identity, out)
    request = asdict(benchmark) | {"distance": POINT_DISTANCE, "rows": DISTANCE_ROWS}
    write_atomic(manifest, to_json({"settings": identity, "asked": request, "versions": versions()}))


def _propagate_video(
    engine: Propagator, video: Video, folder: Path, benchmark: Benchmark, count: int, seed: int, notes: list[Problem]
) -> bool:
    """Write one video of one run; False if it exists already, or none of its objects has a prompt."""
    target = inside(folder, video.video_id)
    if target.exists():
        return False
    find_start: Callable[[VideoObject], Start | None] = (
        first_mask if benchmark.start == "masks" else lambda item: first_points(video, item, count, seed)
    )
    starts = {item.object_id: start for item in video.objects if (start := find_start(item)) is not None}
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
    values = [numbers[name] for name in starts]
    first_frames = np.array([start.frame for start in starts.values()])
    for t, probabilities in engine(video.opened_frames(), prompts_of(list(starts.values()))):
        # An object is absent before its first frame: masks propagated backwards would use the future.
        visible = probabilities * (first_frames <= t)[:, None, None]
        write_label_map(folder / f"{video.frame_names[t]}.png", exclusive(visible), values)
    if any(str(number) != name for name, number in numbers.items()):
        write_atomic(folder / NUMBERS_FILE, to_json(numbers))


def prompts_of(starts: list[Start]) -> dict[int, FramePrompts]:
    """Prompts by frame: those of the objects that start in it, None for the others."""
    prompts = {}
    for t in sorted({start.frame for start in starts}):
        here = [start if start.frame == t else None for start in starts]
        masks = tuple(None if s is None or s.mask is None else decode(s.mask) for s in here)
        points = tuple(None if s is None or s.xy is None else PointPrompts(s.xy, np.empty((0, 2))) for s in here)
        prompts[t] = FramePrompts(masks, points)
    return prompts


def first_mask(item: VideoObject) -> Start | None:
    """An object's first non-empty mask; None if it has none."""
    masks = ((t, rle) for t, rle in enumerate(item.segmentations) if rle is not None and area(rle))
    return next((Start(t, mask=rle) for t, rle in masks), None)


def first_points(video: Video, item: VideoObject, count: int, seed: int) -> Start | None:
    """Up to `count` positive points of an object in its first frame: verified ones, else drawn from its first mask.

    Drawn points are at least 20 pixels apart at 480 rows, scaled for other heights. The choice depends only on the seed
    and the names of video and object; a smaller `count` gives the first points of a larger one. None if the object has
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
    return Start(start.frame, xy=sample_in_mask(decode(start.mask), count, point_distance(video.height), rng))
