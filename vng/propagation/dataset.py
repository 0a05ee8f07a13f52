"""Propagation over a dataset, as in benchmarks of video object segmentation; resumable video by video.

    RESULTS/<video>.parquet                       from masks
    RESULTS/points-<n>/seed-<s>/<video>.parquet   from n points per object

or, in the layout "png", `<video>/<frame>.png`. An object is prompted in its first frame only, and absent before it.
Layouts: `vng/evaluation/vos/runs.py`.
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

from vng.compact_results import LAYOUTS, Layout, TrackResult, VideoResult, compact_path, write_compact
from vng.dataset import Video, VideoObject, VngDataset, reference_frame
from vng.errors import DataError, DataErrors, Problem, one_of
from vng.frames import inside
from vng.label_maps import exclusive, object_numbers, write_label_map, write_numbers
from vng.manifest import check_folder, check_same, claimed_folder, file_hash, to_json, versions, write_atomic
from vng.masks import RLE, area, decode, empty, encode
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
    problems: list[Problem] = field(default_factory=list)  # videos that could not be read


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
    *,
    layout: Layout = "compact",
) -> DatasetPropagation:
    """Propagate every video of a dataset, distributed over the processes of a launcher.

    A video's file (or folder) appears when all its frames are written, so an interrupted run resumes with the next
    video. More numbers of points and seeds may be added to the same results later. A video that cannot be read is left
    out, and the others go on.

    Args:
        settings: those of the engine; `out` must not hold results of other settings or another dataset.
        layout: "compact", one file a video, or "png", a label map a frame.

    Raises:
        DataError: `out` holds other results.
        DataErrors: videos that could not be read, after all others have been written.
        UsageError: an unknown layout.
    """
    one_of(layout, LAYOUTS, "layout")
    processes = current_processes()
    check_folder(out)
    with ExitStack() as stack:
        processes.on_main(lambda: stack.enter_context(claimed_folder(out)))
        processes.on_main(lambda: _begin(dataset, out, benchmark, {**settings, "layout": layout}))
        result = _propagate_videos(engine, dataset, out, benchmark, layout, processes, threads, progress)
    if result.problems:
        raise DataErrors(result.problems)
    return result


def _propagate_videos(
    engine: Propagator,
    dataset: VngDataset,
    out: Path,
    benchmark: Benchmark,
    layout: Layout,
    processes: Processes,
    threads: int,
    progress: bool,
) -> DatasetPropagation:
    result = DatasetPropagation()
    runs = list(benchmark.runs(out))
    result.totals |= {"videos": len(dataset), "runs": len(runs)}

    def work(index: int) -> None:
        if all(_target(folder, dataset.video_ids[index], layout).exists() for folder, _, _ in runs):
            return
        video = dataset[index]
        for folder, count, seed in runs:
            made = _propagate_video(engine, video, folder, benchmark, count, seed, layout, result.notes)
            result.totals["made"] += made

    with limited_threads(threads):
        result.problems += processes.each(len(dataset), work, "propagate", progress)
    processes.wait()
    return result


def _target(folder: Path, video_id: str, layout: Layout) -> Path:
    return compact_path(folder, video_id) if layout == "compact" else inside(folder, video_id)


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
    engine: Propagator,
    video: Video,
    folder: Path,
    benchmark: Benchmark,
    count: int,
    seed: int,
    layout: Layout,
    notes: list[Problem],
) -> bool:
    """Write one video of one run; False if it exists already, or none of its objects has a prompt."""
    target = _target(folder, video.video_id, layout)
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
    masks = _propagated(engine, video, starts)
    (_write_compact if layout == "compact" else _write_pngs)(video, list(starts), masks, target)
    return True


def _propagated(engine: Propagator, video: Video, starts: Mapping[str, Start]) -> Iterator[tuple[int, np.ndarray]]:
    """(frame, disjoint masks bool [K, H, W] of the objects that have a start)."""
    first_frames = np.array([start.frame for start in starts.values()])
    for t, probabilities in engine(video.opened_frames(), prompts_of(list(starts.values()))):
        # An object is absent before its first frame: masks propagated backwards would use the future.
        yield t, exclusive(probabilities * (first_frames <= t)[:, None, None])


def _write_compact(video: Video, ids: list[str], masks: Iterator[tuple[int, np.ndarray]], path: Path) -> None:
    absent = empty(video.height, video.width)
    numbers = object_numbers(video)  # raises for more objects than a label map holds, as the other layout
    tracks: dict[str, list[RLE | None]] = {name: [None] * len(video.frame_names) for name in numbers}
    for t, objects in masks:
        here = dict(zip(ids, objects, strict=True))
        for name, track in tracks.items():
            track[t] = encode(here[name]) if name in here else absent
    write_compact(
        path,
        VideoResult(
            video_id=video.video_id,
            unit="object",
            size=(video.height, video.width),
            frame_names=tuple(video.frame_names),
            tracks={name: TrackResult(masks=tuple(track)) for name, track in tracks.items()},
        ),
    )


def _write_pngs(video: Video, ids: list[str], masks: Iterator[tuple[int, np.ndarray]], folder: Path) -> None:
    numbers = object_numbers(video)
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for t, objects in masks:
        write_label_map(temporary / f"{video.frame_names[t]}.png", objects, [numbers[name] for name in ids])
    write_numbers(temporary, numbers)
    os.replace(temporary, folder)


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
