"""Writing a VNG dataset part by part, by one or several processes; interrupted runs resume with identical output."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vng.dataset import CARD, DATA_FOLDER, MANIFEST, PARTIAL, SHARD_NAME, Video, features
from vng.errors import PROBLEMS_FILE, DataError, Problem, as_lines
from vng.frames import inside
from vng.manifest import (
    check_folder,
    check_same,
    claim_folder,
    file_hash,
    read_manifest,
    to_json,
    versions,
    write_atomic,
)
from vng.processes import Processes

COUNTED = ("videos", "narratives", "expressions", "objects", "masks", "points")
COMPRESSION = "zstd"
GROUP_BYTES = 256 << 10  # of a row group in memory: the least that is read to get one row
DECISIONS_FILE = "decisions.jsonl"
PARTS_IN_FOLDER = 1000  # a folder of too many files is slow on shared disks
Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """The record of one written part; its file beside the rows marks the part as complete."""

    sha256: str
    size: int  # bytes
    rows: dict[str, int]  # split -> number of rows
    totals: dict[str, int]
    problems: list[dict[str, str]]
    decisions: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Shard:
    """One file of the dataset: the rows of one split in parts first..last, in order."""

    file: str
    split: str
    first: int
    last: int
    sha256: str = ""  # set once it is written

    @property
    def parts(self) -> range:
        """Indices of its parts, including any without rows of its split."""
        return range(self.first, self.last + 1)


class DatasetWriter:
    """Writes a dataset; an interrupted run resumes with identical output, whatever the number of processes.

    Each video is first written as a part below `OUT/.partial/`, with its hash beside it; `finish` joins the parts, in
    order, into shards and moves them into place at the end. Parts of a run with other settings are refused;
    a truncated or damaged part is not `done` and is written again.

    Args:
        out: the dataset folder.
        settings: everything the result depends on; saved in `manifest.json`.
        shard_bytes: size from which a shard is closed and a new one started.
        processes: this process among all; each creates a writer and calls `finish`.
        read_only: inspect the folder only, write nothing.

    Raises:
        DataError: `out` is a file, holds the result of other settings, or is being written by another run.
    """

    def __init__(
        self,
        out: Path,
        settings: dict[str, Any],
        shard_bytes: int = 256 << 20,
        processes: Processes | None = None,
        read_only: bool = False,
    ) -> None:
        self.out, self.settings, self.shard_bytes = out, settings, shard_bytes
        self.processes = processes or Processes()
        self.partial = out / PARTIAL
        check_folder(out)
        if not read_only:
            self.processes.on_main(lambda: claim_folder(out))
        self.complete = (out / DATA_FOLDER).exists()
        if self.complete and not (out / MANIFEST).exists():
            raise DataError(out, reason="this folder holds a dataset without a manifest", cure="choose another --out")
        check_same(out / MANIFEST, settings, out)
        check_same(self.partial / MANIFEST, settings, out)
        if read_only:
            return
        self.processes.wait()  # no process changes the folder before all have checked it
        if self.processes.is_main:
            if self.complete:
                shutil.rmtree(self.partial, ignore_errors=True)  # left by a run killed in its last step
            else:
                write_atomic(self.partial / MANIFEST, to_json({"settings": settings}))
        self.processes.wait()

    def _rows(self, index: int) -> Path:
        return self.partial / f"{index // PARTS_IN_FOLDER:05d}" / f"{index:08d}.parquet"

    def _part(self, index: int) -> Part | None:
        """The record of a complete part; None if it is missing or unreadable."""
        try:
            return Part(**json.loads(self._rows(index).with_suffix(".json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def done(self, index: int) -> bool:
        """Whether part `index` exists and is undamaged.

        A part with errors only is tried again: their cause, such as missing frames, may have been fixed.
        """
        part, rows = self._part(index), self._rows(index)
        if part is None or not rows.exists() or rows.stat().st_size != part.size:
            return False
        if not part.rows and any(problem["kind"] == "error" for problem in part.problems):
            return False
        return file_hash(rows) == part.sha256

    def size(self, index: int) -> int:
        """Bytes of part `index`; 0 if it does not exist."""
        part = self._part(index)
        return 0 if part is None else part.size

    def write(self, index: int, rows: Rows, problems: Sequence[Problem] = (), decisions: Rows = ()) -> None:
        """Write part `index`: zero or more rows of the schema, the problems found with it, and lines of decisions."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._rows(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = path.with_suffix(".json")
        record.unlink(missing_ok=True)  # a part without its record counts as missing
        # A unique name: a process that outlived its launcher may be writing the same part.
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        table = pa.Table.from_pylist(list(rows), schema=features().arrow_schema)
        pq.write_table(table, temporary, compression=COMPRESSION)
        part = Part(
            file_hash(temporary),
            temporary.stat().st_size,
            _count(row["split"] for row in rows),
            _totals(rows),
            [asdict(problem) for problem in problems],
            list(decisions),
        )
        os.replace(temporary, path)
        write_atomic(record, json.dumps(asdict(part), ensure_ascii=False))

    def finish(self, count: int, title: str, description: str) -> dict[str, int]:
        """Join parts 0..count-1 into shards, each by one of the processes; returns the totals of the dataset."""
        self.processes.wait()
        shards, totals = self._plan(count)
        final = self.partial / "final" / DATA_FOLDER
        if self.processes.is_main and final.exists():  # an earlier run may have planned other shards
            planned = {shard.file for shard in shards}
            for path in final.iterdir():
                if path.with_suffix(".parquet").name not in planned:
                    path.unlink()
        self.processes.wait()
        for shard in shards[self.processes.index :: self.processes.count]:
            self._join(shard, final / shard.file)
        self.processes.wait()
        self.processes.on_main(lambda: self._seal(shards, count, totals, title, description))
        self.complete = True
        return totals

    def _plan(self, count: int) -> tuple[list[Shard], dict[str, int]]:
        """Assign parts to shards, and sum their totals; depends on the parts only, so all processes agree."""
        totals = dict.fromkeys((*COUNTED, "problems"), 0)
        filled: dict[str, list[list[int]]] = {}  # split -> parts of each shard
        sizes: dict[str, int] = {}
        missing = 0
        for index in range(count):
            part = self._part(index)
            if part is None:
                missing += 1
                continue
            for name, value in part.totals.items():
                totals[name] += value
            totals["problems"] += len(part.problems)
            for split in part.rows:
                if split not in filled or sizes[split] >= self.shard_bytes:
                    filled.setdefault(split, []).append([])
                    sizes[split] = 0
                filled[split][-1].append(index)
                sizes[split] += part.size
        if missing:
            raise DataError(self.out, reason=f"{missing} of {count} parts are not written yet")
        shards = [
            Shard(SHARD_NAME.format(split=split, index=i, count=len(parts)), split, own[0], own[-1])
            for split, parts in filled.items()
            for i, own in enumerate(parts)
        ]
        return shards, totals

    def _join(self, shard: Shard, path: Path) -> None:
        """Write one shard, unless an earlier run completed it from the same parts."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        record, source_hash = path.with_suffix(".sha256"), self._source_hash(shard)
        if path.exists() and record.exists() and record.read_text().split() == [file_hash(path), source_hash]:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        # No statistics: the footer, held in memory until the end, would contain images as minima and maxima.
        options = {"compression": COMPRESSION, "write_statistics": False, "use_dictionary": False}
        with pq.ParquetWriter(temporary, features().arrow_schema, write_page_checksum=True, **options) as writer:
            group: list[Any] = []
            size = 0
            for index in shard.parts:
                part = self._part(index)
                if part is None or shard.split not in part.rows:
                    continue
                table = pq.read_table(self._rows(index))
                table = table.filter(pc.equal(table["split"], shard.split))
                if group and size + table.nbytes > GROUP_BYTES:
                    writer.write_table(pa.concat_tables(group))
                    group, size = [], 0
                group.append(table)
                size += table.nbytes
            if group:
                writer.write_table(pa.concat_tables(group))
        os.replace(temporary, path)
        write_atomic(record, f"{file_hash(path)} {source_hash}")

    def _source_hash(self, shard: Shard) -> str:
        """A hash of the parts of a shard: parts that failed are tried again, and may change."""
        digest = hashlib.sha256()
        for index in shard.parts:
            part = self._part(index)
            if part is not None and shard.split in part.rows:
                digest.update(part.sha256.encode())
        return digest.hexdigest()

    def _seal(self, shards: list[Shard], count: int, totals: dict[str, int], title: str, description: str) -> None:
        """Write the files beside the shards, then move the shards into place, which completes the dataset."""
        self._write_lines(count)
        if not totals["videos"]:
            raise DataError(
                self.out / PROBLEMS_FILE, reason="no video could be converted", cure="see the reasons there"
            )
        final = self.partial / "final" / DATA_FOLDER
        hashes = [(final / shard.file).with_suffix(".sha256") for shard in shards]
        entries = [
            asdict(replace(shard, sha256=path.read_text().split()[0]))
            for shard, path in zip(shards, hashes, strict=True)
        ]
        manifest = {"settings": self.settings, "totals": totals, "versions": versions(), "shards": entries}
        write_atomic(self.out / MANIFEST, to_json(manifest))
        content = hashlib.sha256("".join(entry["sha256"] for entry in entries).encode()).hexdigest()
        card = dataset_card(title, description, totals, _count(s.split for s in shards), content)
        write_atomic(self.out / CARD, card)
        for path in hashes:
            path.unlink()
        os.replace(final, self.out / DATA_FOLDER)
        shutil.rmtree(self.partial, ignore_errors=True)

    def _write_lines(self, count: int) -> None:
        """Write problems and decisions of all parts, in order; a file without lines is removed."""
        parts = [part for index in range(count) if (part := self._part(index)) is not None]
        problems = as_lines(Problem(**problem) for part in parts for problem in part.problems)
        decisions = "".join(json.dumps(item, ensure_ascii=False) + "\n" for part in parts for item in part.decisions)
        for name, lines in ((PROBLEMS_FILE, problems), (DECISIONS_FILE, decisions)):
            (self.out / name).unlink(missing_ok=True)
            if lines:
                write_atomic(self.out / name, lines)

    def broken_shards(self, progress: bool = False) -> Iterator[Shard]:
        """The shards of a finished dataset that are missing or differ from their hash in the manifest."""
        entries = read_manifest(self.out / MANIFEST).get("shards", ())
        for entry in tqdm(entries, desc="verify", unit="shard", disable=not progress):
            try:
                shard = Shard(**entry)
                path = inside(self.out / DATA_FOLDER, shard.file)
            except (TypeError, AttributeError) as error:
                cure = "delete the folder or choose another one"
                raise DataError(self.out / MANIFEST, field="shards", reason="damaged", cure=cure) from error
            if not path.exists() or file_hash(path) != shard.sha256:
                yield shard

    def mend(self, shard: Shard, parts: Iterable[tuple[int, Sequence[dict[str, Any]], Sequence[Problem]]]) -> None:
        """Repair a broken shard of a finished dataset from its parts: (index, rows, problems) as `write` takes them.

        Raises DataError where its hash differs afterwards: its sources have changed meanwhile.
        """
        shutil.rmtree(self.partial, ignore_errors=True)  # of an earlier attempt
        self.partial.mkdir()
        for index, rows, problems in parts:
            self.write(index, rows, problems)
        rewritten = self.partial / shard.file
        self._join(shard, rewritten)
        if file_hash(rewritten) != shard.sha256:
            reason = (
                "this shard is damaged, and written again it differs from the original: "
                "frames or programs have changed, or linked frames lie elsewhere"
            )
            raise DataError(self.out / DATA_FOLDER / shard.file, reason=reason, cure="convert into another --out")
        (self.out / DATA_FOLDER).mkdir(exist_ok=True)
        os.replace(rewritten, self.out / DATA_FOLDER / shard.file)
        shutil.rmtree(self.partial)

    @property
    def totals(self) -> dict[str, int]:
        """The totals of a finished dataset."""
        totals = read_manifest(self.out / MANIFEST)["totals"]
        return {name: totals[name] for name in (*COUNTED, "problems")}


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _totals(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    objects = [item for row in rows for item in row["objects"]]
    return {
        "videos": len(rows),
        "narratives": sum(len(row["narratives"]) for row in rows),
        "expressions": sum(len(row["expressions"]) for row in rows),
        "objects": len(objects),
        "masks": sum(rle is not None for item in objects for rle in item["segmentations"]),
        "points": sum(len(item["points"]) for item in objects),
    }


def dataset_card(title: str, description: str, totals: dict[str, int], shards: dict[str, int], content: str) -> str:
    """The dataset card: the YAML header that `load_dataset` reads, then contents and usage.

    The header holds a hash of the content: `datasets` keeps a copy of a folder that it has opened, and makes a new one
    only where the header has changed.
    """
    files = "".join(f"  - split: {split}\n    path: {DATA_FOLDER}/{split}-*.parquet\n" for split in sorted(shards))
    figures = "\n".join(f"| {name} | {value:,} |" for name, value in totals.items())
    return f"""---
pretty_name: {json.dumps(title)}
task_categories:
- image-segmentation
tags:
- video-narrative-grounding
- video-object-segmentation
configs:
- config_name: default
  description: "content {content[:16]}"
  data_files:
{files}---

# {title}

{description}

| what | number |
| --- | --- |
{figures}

One row is one video. `expressions` tie a noun span of a narrative (`description[start:end]`) to an object;
`objects[].segmentations` holds one COCO RLE per entry of `frame_names`, **null where the frame is not annotated**; an RLE
without foreground means the object is absent from that frame. `manifest.json` says how the dataset was made,
`problems.jsonl` what was left out and why.

```python
from datasets import load_dataset
rows = load_dataset("parquet", data_files="{DATA_FOLDER}/*.parquet", split="train")
```
"""


def write_dataset(
    out: Path, videos: Sequence[Video], title: str, settings: dict[str, Any] | None = None
) -> dict[str, int]:
    """Write records held in memory as one dataset; for small sets, tests and the demo."""
    writer = DatasetWriter(out, settings or {})
    if not writer.complete:
        for index, video in enumerate(videos):
            writer.write(index, [video.as_row()])
        writer.finish(len(videos), title, "Written from records in memory.")
    return writer.totals
