"""Annotations in, a VNG dataset out: video by video, over processes, resumable, going on past bad records.

Annotation files are read once into a spool. Every video is one part of the dataset's writer, so that processes killed at
any moment go on where they were and end in the same bytes. What could not be used is a `Problem` in `problems.jsonl`.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from conversion import point_vos, vidln, youtube_vos
from conversion.nouns import noun_source
from conversion.official_vng import OVIS_LEAK, TrioFiles, read_trio, with_frames
from conversion.options import BuildOptions
from conversion.point_simulation import SimulationSettings, simulate_points
from conversion.spool import Item, Spool, SpoolWriter, make_spool, whole
from conversion.subsets import read_subset
from conversion.videos import point_vos_video, segmented_video, vidln_video
from conversion.vos_datasets import DavisSettings, davis_clips, image_set_file, listed_clips, read_davis_clip
from conversion.youtube_vos import YoutubeFolder, meta_videos, read_youtube_video
from vng.dataset import DATA_FOLDER, Video, VngDataset, video_from_row
from vng.dataset_writer import DatasetWriter
from vng.errors import PROBLEMS_FILE, DataError, Problem, read_problems
from vng.manifest import content_hash
from vng.processes import Processes, current_processes, limited_threads

SPOOL = "annotations.sqlite"
NARRATIVES, POINTS = "narratives", "points"  # kinds of records in a spool
SAMPLES = 4  # videos that a dry run converts to learn the pace


@dataclass(frozen=True)
class BuildResult:
    """Totals of the dataset and the problems met."""

    totals: dict[str, int]
    problems: list[Problem]


@dataclass(frozen=True)
class Estimate:
    """What a conversion would do."""

    videos: int
    records: int  # points or narratives records in the annotations
    done: int  # videos an earlier run has converted
    problems: int  # met while reading
    seconds_per_video: float | None  # on this machine, one process; None where nothing is left to do
    bytes_per_video: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain values, with what is left in seconds and bytes."""
        left = self.videos - self.done
        seconds = None if self.seconds_per_video is None else left * self.seconds_per_video
        size = None if self.bytes_per_video is None else left * self.bytes_per_video
        return asdict(self) | {"seconds_left": seconds, "bytes_left": size}


@dataclass(frozen=True)
class Conversion:
    """One kind of conversion: what it reads, and how the records of one video become rows."""

    kind: str
    title: str
    inputs: dict[str, Path]
    options: BuildOptions
    read: Callable[[SpoolWriter], None]
    make: Callable[[Spool, str, list[Problem]], list[Video]]
    nouns: str = ""
    having: str | None = None  # only videos with a record of this kind too
    with_frames: bool = True  # whether rows carry pixels
    segments: bool = True  # whether the masks are the segmenter's
    more: dict[str, Any] = field(default_factory=dict)  # settings of this kind alone

    def settings(self) -> dict[str, Any]:
        """Everything the result depends on but the frames, for the manifest: of inputs their content, not their paths."""
        hashes = {name: content_hash(path) for name, path in self.inputs.items()}
        what: dict[str, Any] = {
            "conversion": self.kind,
            "inputs": hashes,
            "nouns": self.nouns,
            "with_frames": self.with_frames,
        }
        return what | self.more | self.options.as_settings()

    def videos(self, spool: Spool) -> Iterator[str]:
        """The videos to convert, in order."""
        return spool.videos(NARRATIVES, self.having, self.options.limit)


def point_vos_conversion(points: Path, narratives: Path, frames: Path, options: BuildOptions) -> Conversion:
    """Point-VOS points and VidLN narratives -> a VNG dataset with pseudo-masks."""
    source = noun_source(options.nouns)

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        _spool_narratives(spool, narratives, wanted.video)
        _spool_points(spool, points, wanted)
        wanted.report_missing(spool, {NARRATIVES: narratives, POINTS: points})

    def make(spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        (video,) = spool.items(NARRATIVES, name)
        records = [point_vos.from_json(item.key, item.body, points, item.place) for item in spool.items(POINTS, name)]
        return point_vos_video(_video(video, narratives), records, frames, source, options, problems)

    inputs = {"points": points, "narratives": narratives}
    title = "Video Narrative Grounding from Point-VOS points"
    return Conversion("point-vos", title, inputs, options, read, make, source.name, having=POINTS)


def vidln_conversion(narratives: Path, frames: Path, options: BuildOptions) -> Conversion:
    """VidLN narratives alone -> a VNG dataset: each noun's mouse trace becomes an object of its own."""
    source = noun_source(options.nouns)

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        _spool_narratives(spool, narratives, lambda name: wanted.video(name) and wanted.listed_video(name))
        wanted.report_missing(spool, {NARRATIVES: narratives})

    def make(spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        (video,) = spool.items(NARRATIVES, name)
        return vidln_video(_video(video, narratives), frames, source, options, problems)

    title = "Video Narrative Grounding from mouse traces"
    return Conversion("vidln", title, {"narratives": narratives}, options, read, make, source.name)


def vng_conversion(files: TrioFiles, frames: Path | None, options: BuildOptions) -> Conversion:
    """The official VNG trio -> a VNG dataset with its true masks."""
    name, split = options.dataset or "VNG", options.split or "test"

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        if "ovis" in str(files.orig_masks).lower() or "ovis" in name.lower():
            spool.problem(Problem(str(files.orig_masks), "", "", OVIS_LEAK, kind="note"))
        for video in read_trio(files, name, split, spool.problem):
            if wanted.video(video.video_id) and wanted.listed_video(video.video_id):
                spool.add(NARRATIVES, video.video_id, Item(video.video_id, "", video.as_row(embed=False)))
        wanted.report_missing(spool, {NARRATIVES: files.meta})

    def make(spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        (item,) = spool.items(NARRATIVES, name)
        video = video_from_row(item.body, files.meta)
        return [video if frames is None else with_frames(video, frames)]

    inputs = {"meta": files.meta, "extra_masks": files.extra_masks, "orig_masks": files.orig_masks}
    return Conversion("vng", name, inputs, options, read, make, with_frames=frames is not None, segments=False)


def davis_conversion(
    root: Path,
    options: BuildOptions,
    simulation: SimulationSettings | None = None,
    davis: DavisSettings | None = None,
) -> Conversion:
    """DAVIS folders -> a VNG dataset with true masks, or points simulated from them; no narratives."""
    davis = davis or DavisSettings()
    name, split = options.dataset or "DAVIS", options.split or davis.split
    clips = davis_clips(root)
    image_set = image_set_file(root, davis.image_set) if davis.image_set else None

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        for clip in clips if image_set is None else listed_clips(image_set, clips, spool.problem):
            if wanted.video(clip) and wanted.listed_video(clip):
                spool.add(NARRATIVES, clip, Item(clip, "", None))
        wanted.report_missing(spool, {NARRATIVES: root})

    def make(spool: Spool, clip: str, problems: list[Problem]) -> list[Video]:
        video, void = read_davis_clip(root, clips[clip], name, split, davis)
        return [video if simulation is None else simulate_points(video, void, simulation)]

    more = _vos_settings(simulation, asdict(davis))
    return Conversion("davis", name, {"root": root}, options, read, make, more=more, segments=False)


def youtube_vos_conversion(
    folder: YoutubeFolder, options: BuildOptions, simulation: SimulationSettings | None = None
) -> Conversion:
    """YouTube-VOS folders -> a VNG dataset with true masks on annotated frames, or points simulated from them."""
    name, split = options.dataset or youtube_vos.NAME, options.split or folder.split

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        for video, entry in meta_videos(folder, spool.problem):
            if wanted.video(video) and wanted.listed_video(video):
                spool.add(NARRATIVES, video, Item(video, "", entry))
        wanted.report_missing(spool, {NARRATIVES: folder.root / youtube_vos.META})

    def make(spool: Spool, name_: str, problems: list[Problem]) -> list[Video]:
        (item,) = spool.items(NARRATIVES, name_)
        video, void = read_youtube_video(folder, name_, item.body, name, split, problems.append)
        return [video if simulation is None else simulate_points(video, void, simulation)]

    inputs = {"meta": folder.root / youtube_vos.META, "annotations": folder.root / "Annotations"}
    more = _vos_settings(simulation, {"first_only": folder.first_only})
    return Conversion("youtube-vos", name, inputs, options, read, make, more=more, segments=False)


def _vos_settings(simulation: SimulationSettings | None, settings: dict[str, Any]) -> dict[str, Any]:
    return settings | {"simulation": None if simulation is None else simulation.as_settings()}


def points_conversion(path: Path, options: BuildOptions) -> Conversion:
    """A VNG dataset whose objects have points (a point version) -> the same with pseudo-masks made from them."""
    dataset = VngDataset(path)
    places = {name: index for index, name in enumerate(dataset.video_ids)}

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        for name in places:
            if wanted.video(name) and wanted.listed_video(name):
                spool.add(NARRATIVES, name, Item(name, "", None))
        wanted.report_missing(spool, {NARRATIVES: path})

    def make(spool: Spool, name: str, problems: list[Problem]) -> list[Video]:
        return segmented_video(dataset[places[name]], options, problems)

    title = "Pseudo-masks from points"
    return Conversion("points", title, {"dataset": path / DATA_FOLDER}, options, read, make)


class Wanted:
    """Which videos and records of the annotations are asked for, by `--only` and `--subset`."""

    def __init__(self, options: BuildOptions) -> None:
        self._only = set(options.only)
        self._subset = None if options.subset is None else read_subset(options.subset)

    def video(self, name: str) -> bool:
        """Whether a video that the annotations tell of is asked for by name."""
        return not self._only or name in self._only

    def listed_video(self, name: str) -> bool:
        """Whether the subset list has a video, where there is a list."""
        return self._subset is None or self._subset.keeps_video(name)

    def listed_record(self, record: point_vos.PointRecord) -> bool:
        """Whether the subset list has a record or its video, where there is a list."""
        return self._subset is None or self._subset.keeps(record)

    def report_missing(self, spool: SpoolWriter, files: dict[str, Path]) -> None:
        """Note everything that was asked for and is not in a file; `files` says which kinds of records stand where."""
        reason = "asked for with --only, and not in this file"
        for name in sorted(self._only):
            missing = [file for kind, file in files.items() if not spool.has_video(kind, name)]
            if missing:
                spool.problem(Problem(str(missing[0]), repr(name), "video_id", reason))
        if self._subset is not None and not self._only:  # with --only, most of a list is passed over
            for problem in self._subset.check(list(files.values())[-1]):
                spool.problem(problem)


def _spool_narratives(spool: SpoolWriter, path: Path, wanted: Callable[[str], bool]) -> None:
    for video in vidln.read_vidln(path, spool.problem):
        if not wanted(video.video_id):
            continue
        if not spool.add(NARRATIVES, video.video_id, Item(video.video_id, video.line, vidln.as_json(video))):
            spool.problem(video.problem("video_id", "this video has a line already: the first one is used"))


def _spool_points(spool: SpoolWriter, path: Path, wanted: Wanted) -> None:
    for record in point_vos.read_points(path, spool.problem):
        if record.video_name is None:
            spool.problem(record.problem("video_name", "null: no video to take frames and narratives from"))
        elif not wanted.video(record.video_id) or not wanted.listed_record(record):
            continue
        elif not spool.has(NARRATIVES, record.video_id):
            spool.problem(record.problem("video_name", f"no narrative of video {record.video_id!r}"))
        elif not spool.add(POINTS, record.video_id, Item(record.key, record.place, point_vos.as_json(record))):
            spool.problem(record.problem("", "this key repeats: the first record of it is used"))


def _video(item: Item, file: Path) -> vidln.VidLN:
    return vidln.from_json(item.body, file, item.place)


def convert(conversion: Conversion, out: Path) -> BuildResult:
    """Run a conversion, or go on with a stopped one, or mend a finished one whose shards were damaged.

    Under `torchrun` or `accelerate launch` every process calls this and takes its share of the videos; the bytes of the
    result do not depend on their number.

    Raises:
        DataError: nothing could be converted, or `out` holds something else.
    """
    processes = current_processes()
    writer = DatasetWriter(out, conversion.settings(), processes=processes)
    with limited_threads(conversion.options.threads):
        if writer.complete:
            processes.on_main(lambda: _mend(conversion, writer))
        else:
            _convert(conversion, writer, processes)
    return BuildResult(writer.totals, read_problems(out / PROBLEMS_FILE))


def _convert(conversion: Conversion, writer: DatasetWriter, processes: Processes) -> None:
    spool_path = writer.partial / SPOOL

    def read() -> None:
        if not whole(spool_path):
            make_spool(spool_path, conversion.read)

    processes.on_main(read)
    options = conversion.options
    with Spool(spool_path) as spool:
        if processes.is_main:
            writer.write(0, [], spool.problems())
        count = 1 + sum(1 for _ in conversion.videos(spool))
        mine = range(1 + processes.index, count, processes.count)
        share = f" ({processes.index + 1} of {processes.count})" if processes.count > 1 else ""
        bar = tqdm(
            total=len(mine),
            desc=f"convert{share}",
            unit="video",
            disable=not (options.progress and processes.is_main),
        )
        for index, name in enumerate(conversion.videos(spool), 1):
            if index in mine:
                if not writer.done(index):
                    bar.set_postfix_str(name[:30], refresh=False)
                    writer.write(index, *_rows(conversion, spool, name, writer.out))
                bar.update()
        bar.close()
    masks = f"; masks by {options.segmenter}" if conversion.segments else ""
    description = f"Made by `vng convert {conversion.kind}`{masks}."
    writer.finish(count, conversion.title, description)


def _rows(conversion: Conversion, spool: Spool, name: str, out: Path) -> tuple[list[dict[str, Any]], list[Problem]]:
    """One video's rows, and the problems met on the way."""
    problems: list[Problem] = []
    rows = []
    embed = not conversion.options.link_frames
    try:
        for video in conversion.make(spool, name, problems):
            path = ""
            if not embed and video.frames is not None:
                path = os.path.relpath(Path(video.frames.source).resolve(), out.resolve())
            rows.append(video.as_row(embed=embed, frames_path=path))
    except DataError as error:
        problems.append(error.problem)
        rows = []
    return rows, problems


def _mend(conversion: Conversion, writer: DatasetWriter) -> None:
    """Make the damaged shards of a finished dataset again; where none is damaged, nothing is read but the shards."""
    broken = list(writer.broken_shards(progress=conversion.options.progress))
    if not broken:
        return
    with tempfile.TemporaryDirectory() as scratch, _scratch_spool(conversion, Path(scratch)) as spool:
        for shard in broken:
            bar = tqdm(shard.parts, desc=f"mend {shard.file}", unit="video", disable=not conversion.options.progress)
            names = {i: name for i, name in enumerate(conversion.videos(spool), 1) if i in shard.parts}
            writer.mend(shard, ((i, *_rows(conversion, spool, names[i], writer.out)) for i in bar))


@contextmanager
def _scratch_spool(conversion: Conversion, folder: Path) -> Iterator[Spool]:
    make_spool(folder / SPOOL, conversion.read)
    with Spool(folder / SPOOL) as spool:
        yield spool


def estimate(conversion: Conversion, out: Path) -> Estimate:
    """What `convert` would do, and how long it would take: a few videos are converted and thrown away.

    Writes nothing to `out`. Raises DataError as `convert` does.
    """
    writer = DatasetWriter(out, conversion.settings(), read_only=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        _scratch_spool(conversion, Path(scratch)) as spool,
        limited_threads(conversion.options.threads),
    ):
        left = [(i, name) for i, name in enumerate(conversion.videos(spool), 1)]
        total = len(left)
        broken = [shard.parts for shard in writer.broken_shards()] if writer.complete else []
        left = [
            (i, name)
            for i, name in left
            if (any(i in parts for parts in broken) if writer.complete else not writer.done(i))
        ]
        trial = DatasetWriter(Path(scratch) / "out", {})
        seconds, sizes = [], []
        for place in sorted({round(x) for x in np.linspace(0, len(left) - 1, SAMPLES)} if left else ()):
            index, name = left[place]
            start = time.perf_counter()
            trial.write(index, *_rows(conversion, spool, name, out))
            seconds.append(time.perf_counter() - start)
            sizes.append(trial.size(index))
        return Estimate(
            total,
            spool.count(conversion.having or NARRATIVES),
            total - len(left),
            len(spool.problems()),
            float(np.mean(seconds)) if seconds else None,
            float(np.mean(sizes)) if sizes else None,
        )
