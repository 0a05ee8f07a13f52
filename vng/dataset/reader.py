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

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from vng.dataset.rows import ParquetRows, Rows, TableRows
from vng.dataset.video import Video, video_from_row
from vng.errors import DataError, DataErrors
from vng.manifest import file_hash

DATA_FOLDER, CARD, MANIFEST = "data", "README.md", "manifest.json"
PARTIAL = ".partial"  # parts of an unfinished dataset
CHECK_PATH = "check the path, or make one with `vng convert`"
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
        self._rows = _open_rows(self.path, split)
        self.video_ids: list[str] = [row["video_id"] for row in self._rows.columns("video_id")]

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
        opened._rows = TableRows(dataset, opened.path)
        opened.video_ids = [row["video_id"] for row in opened._rows.columns("video_id")]
        return opened

    @property
    def content(self) -> str:
        """A hash that changes with the rows: that of the manifest, else of the files' names, sizes and times."""
        manifest = self.path / MANIFEST
        if manifest.is_file():
            return file_hash(manifest)
        rows = self._rows
        if isinstance(rows, TableRows):
            return rows.fingerprint
        assert isinstance(rows, ParquetRows)
        files = [f"{file.name} {file.stat().st_size} {changed}" for file, changed in rows.files]
        return hashlib.sha256("\n".join(files).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.video_ids)

    def __getitem__(self, index: int) -> Video:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return video_from_row(self._rows.row(index), self.path, self._frames_root)

    def __iter__(self) -> Iterator[Video]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def expression_counts(self) -> list[int]:
        """Number of expressions of each video, without reading masks or frames."""
        return [len(row["expressions"] or ()) for row in self._rows.columns("expressions")]

    @cached_property
    def descriptions(self) -> list[str]:
        """The text of every narrative, without reading masks or frames."""
        rows = self._rows.columns("narratives")
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


def _open_rows(path: Path, split: str | None) -> Rows:
    """The rows of a dataset's folder, read where they lie; those of a hub id, from the cache of `datasets`."""
    files = _local_files(path, split)
    if files is not None:
        return ParquetRows(files)
    from datasets import concatenate_datasets, disable_progress_bars

    disable_progress_bars()
    splits = _on_hub(path, "load_dataset")
    return TableRows(concatenate_datasets([splits[name] for name in splits if split in (None, name)]), path)
