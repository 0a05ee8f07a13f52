"""The schema of a VNG dataset, one row per video, and a reader that yields typed records (writer: `dataset_writer`).

On disk:

    DATASET/
      README.md            dataset card (YAML header: splits and files)
      manifest.json        settings, versions and counts of the conversion
      problems.jsonl       records left out, with reasons (absent when there are none)
      data/<split>-00000-of-00003.parquet

`datasets.load_dataset("DATASET")` and `load_dataset("parquet", data_files="DATASET/data/*.parquet")` both open it.
`data/` appears only when everything is written, so a dataset is complete or absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vng.errors import DataError, DataErrors
from vng.frames import EncodedFrames, Frames, open_frames
from vng.manifest import file_hash
from vng.masks import RLE, from_json
from vng.narratives import Expression, Narrative, check_span
from vng.points import POSITIVE, Points

if TYPE_CHECKING:
    from datasets import Features

DATA_FOLDER, CARD, MANIFEST = "data", "README.md", "manifest.json"
PARTIAL = ".partial"  # parts of an unfinished dataset
CHECK_PATH = "check the path, or make one with `vng convert`"
SHARD_NAME = "{split}-{index:05d}-of-{count:05d}.parquet"


# The fields of an object's quality that are shares: in [0, 1], or null.
MEASURES = ("point_agreement", "mask_area", "stability", "conflict")


@lru_cache(maxsize=1)
def features() -> Features:
    """The schema as `datasets.Features`."""
    from datasets import Features, Image, List, Value

    string, int32, float32 = Value("string"), Value("int32"), Value("float32")
    point = {"frame": int32, "x": float32, "y": float32, "label": Value("int8")}
    quality = {
        "point_agreement": float32,  # share of held-out points on the right side; null without held-out points
        "n_points": int32,  # verified points of the object, including held-out ones; 0 for a trace
        "n_held_out": int32,
        "mask_area": float32,  # mean share of the frame; null if all masks are empty
        "stability": float32,  # mean ratio of smaller to larger area of consecutive masks; null for fewer than two
        "conflict": float32,  # mean share of a mask that other objects' masks also cover; null where not measured
        "link": string,  # how nouns were linked to the object: "name", "name+trace"; "" where the source links them
    }
    return Features(
        {
            "video_id": string,
            "dataset": string,
            "split": string,
            "height": int32,
            "width": int32,
            "fps": float32,
            "frame_names": List(string),
            "frames": List(Image()),
            "frames_path": string,
            "narratives": List({"actor_name": string, "description": string}),
            "expressions": List({"narrative": int32, "start": int32, "end": int32, "object_id": string}),
            "objects": List(
                {
                    "object_id": string,
                    "name": string,
                    "source": string,
                    "quality": quality,
                    "segmentations": List({"size": List(int32), "counts": string}),
                    "points": List(point),
                }
            ),
        }
    )


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Measures of how reliable an object's masks are; see `features` for the fields."""

    point_agreement: float | None = None
    n_points: int = 0
    n_held_out: int = 0
    mask_area: float | None = None
    stability: float | None = None
    conflict: float | None = None
    link: str = ""


@dataclass(frozen=True)
class VideoObject:
    """One object of a video: its masks over `frame_names` (None where unannotated) and its points."""

    object_id: str
    name: str
    source: str  # origin of the masks: "orig_masks", "extra_masks", "points/<segmenter>", "trace/<segmenter>"
    segmentations: tuple[RLE | None, ...]
    points: Points = field(default_factory=Points.none)
    quality: Quality = Quality()

    @property
    def has_pseudo_masks(self) -> bool:
        """Whether the masks were computed from points or a trace."""
        return self.source.startswith(("points/", "trace/"))


@dataclass(frozen=True, kw_only=True)
class Video:
    """One row of a VNG dataset, validated on construction."""

    video_id: str
    dataset: str
    split: str
    height: int
    width: int
    fps: float
    frame_names: tuple[str, ...]
    narratives: tuple[Narrative, ...]
    expressions: tuple[Expression, ...]
    objects: tuple[VideoObject, ...]
    frames: Frames | None = None  # None: a record without pixels

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            field, reason = problem
            raise DataError(self.dataset, record=self.video_id, field=field, reason=reason)

    def _problem(self) -> tuple[str, str] | None:
        for name in self.frame_names:  # prediction files are named by them
            if not name or name in (".", "..") or any(c in name for c in "/\\\0"):
                return "frame_names", f"frame name {name!r} is not a file name"
        if len(set(self.frame_names)) != len(self.frame_names):
            return "frame_names", "frame names repeat"
        if not re.fullmatch(r"\w+", self.split):
            return "split", f"{self.split!r} is not a split name: use letters, digits and _ only"
        ids = [item.object_id for item in self.objects]
        if len(set(ids)) != len(ids):
            return "objects", f"object ids repeat: {sorted({i for i in ids if ids.count(i) > 1})}"
        for item in self.objects:
            where = f"objects.{item.object_id}"
            if len(item.segmentations) != len(self.frame_names):
                return where, f"{len(item.segmentations)} segmentations for {len(self.frame_names)} frames"
            for name, rle in zip(self.frame_names, item.segmentations, strict=True):
                if rle is not None and rle.size != (self.height, self.width):
                    return f"{where}.{name}", f"mask of size {rle.size}, expected {(self.height, self.width)}"
            if len(item.points) and not 0 <= item.points.frame.min() <= item.points.frame.max() < len(self.frame_names):
                return f"{where}.points", f"a point in frame {item.points.frame.max()} of {len(self.frame_names)}"
        for index, expression in enumerate(self.expressions):
            where = f"expressions.{index}"
            if not 0 <= expression.narrative < len(self.narratives):
                return where, f"narrative {expression.narrative} of {len(self.narratives)}"
            try:
                check_span(self.narratives[expression.narrative].description, expression.start, expression.end)
            except ValueError as error:
                return where, str(error)
            if expression.object_id not in ids:
                return where, f"object {expression.object_id!r} is not among the video's objects"
        return None

    @cached_property
    def object_by_id(self) -> dict[str, VideoObject]:
        """Object id -> object."""
        return {item.object_id: item for item in self.objects}

    def noun(self, expression: Expression) -> str:
        """The marked words of an expression."""
        return expression.noun(self.narratives[expression.narrative].description)

    def opened_frames(self) -> Frames:
        """The frames; raises DataError for a record without pixels."""
        if self.frames is None:
            raise DataError(
                self.dataset,
                record=self.video_id,
                field="frames",
                reason="this video carries no frames",
                cure="convert it with --frames",
            )
        return self.frames

    def as_row(self, embed: bool = True, frames_path: str = "") -> dict[str, Any]:
        """The row as plain values of the schema; with `embed` it holds the images, otherwise `frames_path`."""
        images = []
        if embed and self.frames is not None:
            images = [{"bytes": self.frames.encoded(i), "path": None} for i in range(len(self.frames))]
        return {
            "video_id": self.video_id,
            "dataset": self.dataset,
            "split": self.split,
            "height": self.height,
            "width": self.width,
            "fps": self.fps,
            "frame_names": list(self.frame_names),
            "frames": images,
            "frames_path": "" if images else frames_path,
            "narratives": [vars(narrative) for narrative in self.narratives],
            "expressions": [vars(expression) for expression in self.expressions],
            "objects": [_object_row(item) for item in self.objects],
        }


def _object_row(item: VideoObject) -> dict[str, Any]:
    points = item.points
    return {
        "object_id": item.object_id,
        "name": item.name,
        "source": item.source,
        "quality": vars(item.quality),
        "segmentations": [None if rle is None else rle.as_dict() for rle in item.segmentations],
        "points": [
            {"frame": int(f), "x": float(x), "y": float(y), "label": int(label)}
            for f, (x, y), label in zip(points.frame, points.xy, points.label, strict=True)
        ],
    }


def video_from_row(row: dict[str, Any], folder: Path, frames_root: Path | None = None) -> Video:
    """The typed record of a row; `folder` is the dataset's, `frames_root` the folder of linked frames if they moved."""
    objects = tuple(
        VideoObject(
            item["object_id"],
            item["name"],
            item["source"],
            tuple(from_json(rle) for rle in item["segmentations"]),
            Points.of_lists(
                [p["frame"] for p in item["points"]],
                [(p["x"], p["y"]) for p in item["points"]],
                [p["label"] for p in item["points"]],
            ),
            Quality(**item["quality"]),
        )
        for item in row["objects"]
    )
    record = Video(
        **{key: row[key] for key in ("video_id", "dataset", "split", "height", "width", "fps")},
        frame_names=tuple(row["frame_names"]),
        narratives=tuple(Narrative(**narrative) for narrative in row["narratives"]),
        expressions=tuple(Expression(**expression) for expression in row["expressions"]),
        objects=objects,
    )
    return replace(record, frames=_frames_of(row, folder, frames_root))


def _frames_of(row: dict[str, Any], folder: Path, frames_root: Path | None) -> Frames | None:
    if row["frames"]:
        images = [image["bytes"] for image in row["frames"]]
        return EncodedFrames(images, row["frame_names"], f"{folder}: {row['video_id']}", row["fps"])
    if not row["frames_path"]:
        return None
    linked = (folder / row["frames_path"]).resolve()
    if frames_root is not None:
        linked = frames_root / linked.name
    if not linked.exists():
        raise DataError(
            folder,
            record=row["video_id"],
            field="frames_path",
            reason=f"linked frames are not at {linked}",
            cure="move them back, or convert again without --link-frames",
        )
    frames = open_frames(linked)
    places = {name: frames.index_of(name) for name in row["frame_names"]}
    missing = [name for name, place in places.items() if place is None]
    if missing:
        raise DataError(
            linked,
            record=row["video_id"],
            field="frame_names",
            reason=f"no frame {missing[0]!r} ({len(missing)} missing)",
        )
    return frames.subset([place for place in places.values() if place is not None])


class VngDataset(Sequence[Video]):
    """A VNG dataset on disk or on the hub: a sequence of `Video` records, read on access.

    Args:
        path: a folder written by `DatasetWriter`, or a hub id.
        split: only rows of this split; None: all rows.
        frames_root: folder of linked frames, if they moved.
    """

    def __init__(self, path: str | Path, split: str | None = None, frames_root: Path | None = None) -> None:
        self.path = Path(path)
        self._frames_root = frames_root
        self._table = _load_table(path, split)
        self.video_ids: list[str] = list(self._table["video_id"])

    @classmethod
    def from_dataset(cls, dataset: Any, name: str = "", frames_root: Path | None = None) -> VngDataset:
        """A VNG dataset from a `datasets.Dataset` of this schema, which may have been filtered, mapped or selected.

        Args:
            dataset: rows with the columns of `features()`; further columns are ignored.
            name: its name in messages; paths of linked frames are relative to the folder of this name.
            frames_root: folder of linked frames, if they lie elsewhere.

        Raises:
            DataError: columns are missing or have another type.
        """
        opened = cls.__new__(cls)
        opened.path, opened._frames_root = Path(name or "datasets.Dataset"), frames_root
        opened._table = _checked_table(dataset, opened.path)
        opened.video_ids = list(opened._table["video_id"])
        return opened

    @property
    def content(self) -> str:
        """A hash that changes with the rows: that of the manifest, or the fingerprint of a table without one."""
        manifest = self.path / MANIFEST
        return file_hash(manifest) if manifest.is_file() else str(self._table._fingerprint)

    def __len__(self) -> int:
        return len(self.video_ids)

    def __getitem__(self, index: int) -> Video:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return video_from_row(self._table[index], self.path, self._frames_root)

    def __iter__(self) -> Iterator[Video]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def expression_counts(self) -> list[int]:
        """Number of expressions of each video, without reading masks or frames."""
        return [len(row["expressions"]) for row in self._table.select_columns(["expressions"])]

    @cached_property
    def descriptions(self) -> list[str]:
        """The text of every narrative, without reading masks or frames."""
        rows = self._table.select_columns(["narratives"])
        return [narrative["description"] for row in rows for narrative in row["narratives"]]


def as_dataset(dataset: VngDataset | Any, split: str | None = None, frames_root: Path | None = None) -> VngDataset:
    """Open a dataset: a folder, a hub id, a `datasets.Dataset`, or a dataset that is open already.

    Raises:
        DataError: there is no dataset, or its rows have another schema.
    """
    if isinstance(dataset, VngDataset):
        return dataset
    if isinstance(dataset, (str, Path)):
        return VngDataset(dataset, split, frames_root)
    return VngDataset.from_dataset(dataset, frames_root=frames_root)


def check_datasets(paths: Iterable[Path]) -> None:
    """Raise DataErrors naming every dataset that is missing or unfinished; their contents are not read."""
    problems, offline = [], False
    for path in dict.fromkeys(paths):
        try:
            if _local_files(path, None) is None:
                if offline:  # each attempt of the hub's client takes half a minute
                    raise DataError(path, reason="no such dataset folder, and the hub is out of reach", cure=CHECK_PATH)
                _on_hub(path, "load_dataset_builder")
        except DataError as error:
            offline = offline or isinstance(error.__cause__, ConnectionError)
            problems.append(error.problem)
    if problems:
        raise DataErrors(problems)


def _local_files(folder: Path, split: str | None) -> list[Path] | None:
    """The Parquet files of a dataset's folder; None for a hub id; raises DataError for a path that is neither.

    A hub id is `owner/name`, provided there is no local folder `owner`.
    """
    if folder.exists():
        files = sorted((folder / DATA_FOLDER).glob(f"{split or '*'}-*.parquet"))
        if files:
            return files
        partial = (folder / PARTIAL).exists()
        raise DataError(
            folder,
            reason="its conversion has not finished"
            if partial
            else f"no VNG dataset (no data/{split or '*'}-*.parquet)",
            cure="run the same `vng convert` again" if partial else CHECK_PATH,
        )
    if len(folder.parts) == 2 and not folder.is_absolute() and not folder.parent.is_dir():
        return None
    raise DataError(folder, reason="no such dataset folder", cure=CHECK_PATH)


def _on_hub(path: Path, function: str) -> Any:
    """Call a function of `datasets` on a hub id; raises DataError where it fails."""
    import datasets

    try:
        return getattr(datasets, function)(str(path))
    except Exception as error:  # whatever the hub's client raises, there is no dataset for the user
        reason = f"no such dataset folder, and none on the hub ({type(error).__name__})"
        raise DataError(path, reason=reason, cure=CHECK_PATH) from error


def _checked_table(dataset: Any, path: Path) -> Any:
    """The table with the columns of the schema; images stay encoded."""
    from datasets import Dataset, Features, Image, List

    if not isinstance(dataset, Dataset):
        cure = "give a datasets.Dataset (a split of a DatasetDict), a folder or a hub id"
        raise DataError(path, reason=f"expected a datasets.Dataset, got {type(dataset).__name__}", cure=cure)
    schema = features()
    if missing := sorted(set(schema) - set(dataset.column_names)):
        raise DataError(
            path, field=missing[0], reason=f"columns are missing: {', '.join(missing)}", cure="see docs/formats.md"
        )
    table = dataset.select_columns(list(schema)).with_format(None)
    try:
        return table.cast(Features({**schema, "frames": List(Image(decode=False))}))
    except (TypeError, ValueError) as error:
        raise DataError(path, reason=f"columns of another type ({error})", cure="see docs/formats.md") from error


def _load_table(path: str | Path, split: str | None) -> Any:
    from datasets import Image, List, concatenate_datasets, disable_progress_bars, load_dataset

    disable_progress_bars()
    files = _local_files(Path(path), split)
    if files is None:
        splits = _on_hub(Path(path), "load_dataset")
        table = concatenate_datasets([splits[name] for name in splits if split in (None, name)])
    else:
        table = load_dataset("parquet", data_files=[str(file) for file in files], split="train", features=features())
    return table.cast_column("frames", List(Image(decode=False)))


def reference_frame(item: VideoObject) -> int | None:
    """The first frame in which an object has a positive point; None if it has none."""
    frames = item.points.frame[np.asarray(item.points.label) == POSITIVE]
    return int(frames.min()) if len(frames) else None
