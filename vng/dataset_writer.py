"""Writing a VNG dataset: part by part, resumable to the byte, whole or not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vng.dataset import CARD, DATA_FOLDER, MANIFEST, PARTIAL, SHARD_NAME, Video, features
from vng.errors import PROBLEMS_FILE, DataError, Problem, write_problems
from vng.manifest import check_folder, check_same, to_json, versions, write_atomic


class DatasetWriter:
    """Writes a dataset so that a killed run can go on and end in the same bytes.

    Each video is first a part of its own below `OUT/.partial/`; `finish` joins the parts, in order, into shards and
    moves them into place last. Parts of a run with other settings are refused, never mixed.

    Args:
        out: the dataset folder.
        settings: everything the result depends on; kept as `manifest.json`.
        shard_bytes: start a new shard once one holds this much.
    """

    def __init__(self, out: Path, settings: dict[str, Any], shard_bytes: int = 256 << 20) -> None:
        self.out, self.settings, self.shard_bytes = out, settings, shard_bytes
        self._partial = out / PARTIAL
        check_folder(out)
        self.complete = (out / DATA_FOLDER).exists()
        if self.complete and not (out / MANIFEST).exists():
            raise DataError(out, "", "", "this folder holds a dataset without manifest", "choose another --out")
        check_same(out / MANIFEST, settings, out)
        if self.complete:
            shutil.rmtree(self._partial, ignore_errors=True)  # killed in its very last step
        else:
            self._partial.mkdir(parents=True, exist_ok=True)
            check_same(self._partial / MANIFEST, settings, out)
            write_atomic(self._partial / MANIFEST, to_json({"settings": settings}))

    def _part(self, index: int) -> Path:
        return self._partial / f"{index:08d}.parquet"

    def done(self, index: int) -> bool:
        """Whether part `index` is there. A part that came to nothing but problems is tried again: its cause, frames
        that were missing, say, may be mended."""
        import pyarrow.parquet as pq

        part = self._part(index)
        return part.exists() and (pq.read_metadata(part).num_rows > 0 or not part.with_suffix(".jsonl").stat().st_size)

    def write(self, index: int, rows: Sequence[dict[str, Any]], problems: Sequence[Problem] = ()) -> None:
        """Write part `index`: zero or more rows of the schema, and the problems met on the way."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        write_problems(problems, self._part(index).with_suffix(".jsonl"))  # first: the part counts once its rows do
        schema = features().arrow_schema
        temporary = self._part(index).with_suffix(".tmp")
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary)
        os.replace(temporary, self._part(index))

    def finish(self, count: int, title: str, description: str) -> dict[str, int]:
        """Join parts 0..count-1 into shards; returns the totals of the dataset."""
        missing = [i for i in range(count) if not self._part(i).exists()]
        if missing:
            raise DataError(self.out, f"part {missing[0]}", "", f"{len(missing)} of {count} parts are not written yet")
        final = self._partial / "final"
        totals, shards = _join_parts([self._part(i) for i in range(count)], final / DATA_FOLDER, self.shard_bytes)
        problems = b"".join(self._part(i).with_suffix(".jsonl").read_bytes() for i in range(count))
        totals["problems"] = problems.count(b"\n")
        if not totals["videos"]:
            write_atomic(self.out / PROBLEMS_FILE, problems)
            raise DataError(self.out / PROBLEMS_FILE, "", "", "no video could be converted", "this file says why")
        manifest = {"settings": self.settings, "totals": totals, "versions": versions()}
        write_atomic(self.out / MANIFEST, to_json(manifest))
        write_atomic(self.out / CARD, dataset_card(title, description, totals, shards))
        (self.out / PROBLEMS_FILE).unlink(missing_ok=True)
        if problems:
            write_atomic(self.out / PROBLEMS_FILE, problems)
        os.replace(final / DATA_FOLDER, self.out / DATA_FOLDER)
        self.complete = True
        shutil.rmtree(self._partial)
        return totals

    @property
    def totals(self) -> dict[str, int]:
        """The totals of a finished dataset."""
        return json.loads((self.out / MANIFEST).read_text())["totals"]


def _join_parts(parts: Sequence[Path], folder: Path, shard_bytes: int) -> tuple[dict[str, int], dict[str, int]]:
    """Stream parts into shards of about `shard_bytes`; returns totals and the number of shards of each split."""
    import pyarrow.parquet as pq

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    totals = dict.fromkeys(("videos", "narratives", "expressions", "objects", "masks", "points"), 0)
    writers: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    for part in parts:
        table = pq.read_table(part)
        for row in range(table.num_rows):
            one = table.slice(row, 1)
            _count_row(one, totals)
            split = one["split"][0].as_py() or "train"
            if split not in writers or sizes[split] >= shard_bytes:
                if split in writers:
                    writers[split].close()
                counts[split] = counts.get(split, 0) + 1
                writers[split] = pq.ParquetWriter(folder / f"{split}.{counts[split] - 1}", table.schema)
                sizes[split] = 0
            writers[split].write_table(one)
            sizes[split] += part.stat().st_size // max(1, table.num_rows)
    for writer in writers.values():
        writer.close()
    for split, count in counts.items():
        for index in range(count):
            os.replace(folder / f"{split}.{index}", folder / SHARD_NAME.format(split=split, index=index, count=count))
    return totals, counts


def _count_row(table: Any, totals: dict[str, int]) -> None:
    totals["videos"] += 1
    totals["narratives"] += len(table["narratives"][0])
    totals["expressions"] += len(table["expressions"][0])
    for item in table["objects"][0]:
        totals["objects"] += 1
        totals["masks"] += sum(rle.is_valid for rle in item["segmentations"])
        totals["points"] += len(item["points"])


def dataset_card(title: str, description: str, totals: dict[str, int], shards: dict[str, int]) -> str:
    """The dataset card: YAML header that `load_dataset` reads, then what is inside and how to read it."""
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
