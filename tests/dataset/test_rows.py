"""Rows of Parquet files and of a `datasets.Dataset`: read where they lie, row by row."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers import make_video
from vng.dataset import VngDataset, arrow_schema, features
from vng.dataset.linked_frames import LinkedFrames
from vng.dataset.packed import PackedMasks, PackedPoints
from vng.dataset.rows import ParquetRows, TableRows, plain
from vng.dataset_writer import DatasetWriter
from vng.errors import DataError


def write(out: Path, count: int, embed: bool = True) -> Path:
    writer = DatasetWriter(out, {})
    for number in range(count):
        writer.write(number, [make_video(f"v{number}").as_row(embed=embed)])
    writer.finish(count, "t", "")
    return out


def shard(out: Path) -> Path:
    (path,) = (out / "data").iterdir()
    return path


def table_of(**columns: list[object]) -> pa.Table:
    """Two rows of the schema, some of whose columns are replaced."""
    rows = [make_video(f"v{i}").as_row() for i in range(2)]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return pa.Table.from_pylist(rows, schema=arrow_schema())


class TestParquet:
    def test_a_row_group_holds_few_bytes_and_checksums(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from vng import dataset_writer

        monkeypatch.setattr(dataset_writer, "GROUP_BYTES", 4000)
        out = write(tmp_path / "d", 7)
        metadata = pq.ParquetFile(shard(out)).metadata
        assert metadata.num_row_groups == 7 and metadata.num_rows == 7
        rows = ParquetRows([shard(out)])
        assert len(rows) == 7 and [rows.row(i)["video_id"] for i in (6, 0, 3)] == ["v6", "v0", "v3"]

    def test_rows_that_share_a_group(self, tmp_path: Path) -> None:
        out = write(tmp_path / "d", 5, embed=False)
        assert pq.ParquetFile(shard(out)).metadata.num_row_groups < 5
        dataset = VngDataset(out)
        assert [dataset[i].video_id for i in (4, 1, 0, 3, 2)] == ["v4", "v1", "v0", "v3", "v2"]
        again = pickle.loads(pickle.dumps(dataset))  # workers of a data loader
        assert again[2].objects[1].segmentations == dataset[2].objects[1].segmentations

    def test_nothing_is_copied_to_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets

        out = write(tmp_path / "d", 2)
        monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("made a copy"))
        assert VngDataset(out)[1].opened_frames()[0].shape == (20, 30, 3)

    @pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
    def test_a_flipped_byte_is_named(self, tmp_path: Path, place: float) -> None:
        path = shard(write(tmp_path / "d", 3))
        group = pq.ParquetFile(path).metadata.row_group(0)
        (column,) = (c for c in map(group.column, range(group.num_columns)) if c.path_in_schema.endswith("bytes"))
        data = bytearray(path.read_bytes())
        data[column.data_page_offset + int(column.total_compressed_size * place)] ^= 0x55
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"\.parquet: this shard is damaged .*; run the same `vng convert` again"):
            list(VngDataset(tmp_path / "d"))

    def test_columns_of_another_type_or_missing(self, tmp_path: Path) -> None:
        whole = table_of()
        for name, table, words in (
            ("type", whole.set_column(3, "height", pa.array(["a", "b"])), "height: values of another type"),
            ("missing", whole.drop_columns(["video_id"]), "columns are missing: video_id"),
        ):
            pq.write_table(table, tmp_path / f"{name}.parquet")
            with pytest.raises(DataError, match=words):
                ParquetRows([tmp_path / f"{name}.parquet"])

    def test_a_file_that_was_rewritten_is_read_anew(self, tmp_path: Path) -> None:
        for name in ("first", "second"):
            row = make_video(name).as_row()
            pq.write_table(pa.Table.from_pylist([row], schema=features().arrow_schema), tmp_path / "a.parquet")
            assert ParquetRows([tmp_path / "a.parquet"]).row(0)["video_id"] == name


class TestPlainValues:
    def test_as_pylist(self) -> None:
        """Column by column, with nulls and empty lists everywhere."""
        kind = pa.struct(
            [("a", pa.int32()), ("b", pa.list_(pa.string())), ("c", pa.list_(pa.struct([("d", pa.float64())])))]
        )
        values = [
            [{"a": 1, "b": ["x", None], "c": [{"d": 1.5}, None]}, None],
            None,
            [],
            [{"a": None, "b": None, "c": []}, {"a": 3, "b": [], "c": None}],
        ]
        array = pa.array(values, pa.list_(kind))
        assert plain(array) == values == array.to_pylist()
        assert (
            plain(array.slice(1, 3)) == values[1:]
            and plain(pa.chunked_array([array, array[2:]])) == values + values[2:]
        )
        assert plain(pa.array([], pa.list_(kind))) == [] and plain(array[2:3]) == [[]]

    def test_masks_and_points_are_packed(self) -> None:
        table = table_of()
        (first, second) = plain(table.column("objects"))
        expected = table.column("objects").to_pylist()
        for item, value in zip(first + second, expected[0] + expected[1], strict=True):
            masks, points = item["segmentations"], item["points"]
            assert isinstance(masks, PackedMasks) and isinstance(points, PackedPoints)
            assert list(masks) == [m and m["counts"] for m in value["segmentations"]]
            assert list(masks.size) == next(m["size"] for m in value["segmentations"] if m)
            assert points.frame.tolist() == [p["frame"] for p in value["points"]] and len(points) == len(
                value["points"]
            )
            assert list(zip(points.x, points.y, strict=True)) == [(p["x"], p["y"]) for p in value["points"]]

    @pytest.mark.parametrize(
        ("masks", "words"),
        [
            ([{"size": [20, 30], "counts": None}, None, None], r"segmentations\[0\]"),
            ([{"size": [20, 30], "counts": "d2"}, {"size": [20, None], "counts": "d2"}, None], r"segmentations"),
            ([{"size": None, "counts": "d2"}, None, None], r"segmentations\[0\]"),
        ],
    )
    def test_unusual_masks_take_the_long_way(self, tmp_path: Path, masks: list[object], words: str) -> None:
        rows = [make_video("v").as_row()]
        rows[0]["objects"][0]["segmentations"] = masks
        (tmp_path / "d" / "data").mkdir(parents=True)
        table = pa.Table.from_pylist(rows, schema=arrow_schema())
        pq.write_table(table, tmp_path / "d" / "data" / "train-00000-of-00001.parquet")
        with pytest.raises(DataError, match=words):
            list(VngDataset(tmp_path / "d")[0].objects[0].segmentations)


class TestTables:
    def test_a_filtered_and_mapped_dataset(self, tmp_path: Path) -> None:
        from datasets import Dataset

        rows = Dataset.from_list([make_video(f"v{i}").as_row() for i in range(4)], features=features())
        some = rows.filter(lambda row: row["video_id"] != "v1").map(lambda row: {"split": "val"})
        dataset = VngDataset.from_dataset(some)
        assert dataset.video_ids == ["v0", "v2", "v3"] and dataset[1].split == "val"
        assert dataset[2].opened_frames()[1].shape == (20, 30, 3) and dataset.expression_counts == [2, 2, 2]

    def test_what_is_no_dataset(self) -> None:
        with pytest.raises(DataError, match=r"expected a datasets.Dataset, got list"):
            TableRows([], Path("x"))


class TestLinkedFrames:
    def test_are_opened_on_first_use(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from vng.dataset import linked_frames
        from vng.viewer import write_video

        write_video(iter(np.zeros((5, 20, 30, 3), np.uint8)), tmp_path / "v.mp4")
        frames = LinkedFrames(tmp_path / "v.mp4", ("000000", "000003"), "v", 5.0, tmp_path / "index")
        opened, calls = linked_frames.open_frames, []
        monkeypatch.setattr(linked_frames, "open_frames", lambda *a: calls.append(a) or opened(*a))
        assert len(frames) == 2 and frames.nbytes == 0 and calls == []
        assert frames.size == (20, 30) and frames[1].shape == (20, 30, 3) and len(frames.read([1, 0])) == 2
        assert frames.notes == () and frames.subset([1]).names == ["000003"] and frames.encoded(0)[:2] == b"\xff\xd8"
        assert calls == [(tmp_path / "v.mp4", tmp_path / "index")]

    def test_a_missing_frame_is_named(self, tmp_path: Path) -> None:
        from vng.viewer import write_video

        write_video(iter(np.zeros((5, 20, 30, 3), np.uint8)), tmp_path / "v.mp4")
        frames = LinkedFrames(tmp_path / "v.mp4", ("000000", "000009"), "clip")
        with pytest.raises(DataError, match=r"v.mp4: clip: frame_names: no frame '000009' \(1 missing\)"):
            frames[0]
