"""VNG datasets on disk or on the hub, read row by row as typed records (a row: `video`; writer: `dataset_writer`).

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

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from vng.dataset.video import Video, features, video_from_row
from vng.errors import DataError, DataErrors
from vng.manifest import file_hash

DATA_FOLDER, CARD, MANIFEST = "data", "README.md", "manifest.json"
PARTIAL = ".partial"  # parts of an unfinished dataset
CHECK_PATH = "check the path, or make one with `vng convert`"
MEND = "run the same `vng convert` again, or fetch it again"
SHARD_NAME = "{split}-{index:05d}-of-{count:05d}.parquet"


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
        return [len(row["expressions"] or ()) for row in self._table.select_columns(["expressions"])]

    @cached_property
    def descriptions(self) -> list[str]:
        """The text of every narrative, without reading masks or frames."""
        rows = self._table.select_columns(["narratives"])
        texts = (narrative and narrative["description"] for row in rows for narrative in row["narratives"] or ())
        return [text for text in texts if isinstance(text, str)]  # a broken row is refused when it is read


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
        try:
            names = [str(file) for file in files]
            with _silent_datasets():
                table = load_dataset("parquet", data_files=names, split="train", features=features())
        except Exception as error:  # whatever `datasets` and Arrow raise for a damaged file
            raise _damaged(Path(path), files, error) from error
    return table.cast_column("frames", List(Image(decode=False)))


@contextmanager
def _silent_datasets() -> Iterator[None]:
    """Without the messages of `datasets` about files that it cannot read: our error follows."""
    from datasets.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _damaged(folder: Path, files: Sequence[Path], error: Exception) -> DataError:
    """The error for a dataset that cannot be opened: names the shard that is damaged or has other columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = features().arrow_schema
    for file in files:
        try:
            table = pq.read_table(file)
        except (OSError, pa.ArrowException) as cause:
            return DataError(file, reason=f"this shard is damaged ({type(cause).__name__})", cure=MEND)
        if missing := [name for name in schema.names if name not in table.column_names]:
            reason = f"columns are missing: {', '.join(missing)}"
            return DataError(file, field=missing[0], reason=reason, cure="see docs/formats.md")
        for name in schema.names:
            try:
                table.column(name).cast(schema.field(name).type)
            except (pa.ArrowException, NotImplementedError) as cause:
                reason = f"values of another type ({type(cause).__name__})"
                return DataError(file, field=name, reason=reason, cure="see docs/formats.md")
    reason = f"cannot be opened ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]})"
    return DataError(folder, reason=reason, cure=CHECK_PATH)
