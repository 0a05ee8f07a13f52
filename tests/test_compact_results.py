"""Compact results: what is written is read; nothing damaged is taken for whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import box
from vng.compact_results import TrackResult, VideoResult, compact_path, read_compact, write_compact
from vng.errors import DataError
from vng.masks import decode, empty, encode

SIZE = (13, 21)
NAMES = ("00000", "00005", "ünd")


def made() -> VideoResult:
    """Two expressions: one with an empty mask and a frame without prediction, one without any score."""
    first = TrackResult(
        masks=(encode(box(2, 3, 9, 7, *SIZE)), empty(*SIZE), None),
        score=0.75,
        frame_scores=(0.5, 1.0, 0.25),
        details={"noun": "parrot", "weights": [1, 2.5], "known": None},
    )
    second = TrackResult(masks=(empty(*SIZE), encode(np.ones(SIZE, bool)), empty(*SIZE)))
    return VideoResult(
        video_id="a/b", unit="expression", size=SIZE, frame_names=NAMES, tracks={"0": first, "10": second}
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_compact(tmp_path / "v.parquet", made())
    read = read_compact(tmp_path / "v.parquet")
    assert read == made() and list(read.tracks) == ["0", "10"]
    assert [None if rle is None else int(decode(rle).sum()) for rle in read.tracks["0"].masks] == [28, 0, None]
    before = (tmp_path / "v.parquet").read_bytes()
    write_compact(tmp_path / "v.parquet", made())
    assert (tmp_path / "v.parquet").read_bytes() == before and not list(tmp_path.glob("*.tmp"))


def test_a_video_without_tracks(tmp_path: Path) -> None:
    nothing = replace(made(), unit="object", tracks={})
    write_compact(tmp_path / "v.parquet", nothing)
    assert read_compact(tmp_path / "v.parquet") == nothing


def test_datasets_opens_it(tmp_path: Path) -> None:
    import datasets

    write_compact(tmp_path / "v.parquet", made())
    rows = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "v.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows["name"][:] == ["0", "10"] and rows[0]["frame_names"] == list(NAMES)
    assert rows[0]["counts"][2] is None and json.loads(rows[0]["details"])["noun"] == "parrot"


def test_names_stay_in_the_folder(tmp_path: Path) -> None:
    assert compact_path(tmp_path, "a/b") == tmp_path / "a" / "b.parquet"
    with pytest.raises(DataError, match="leads out of its folder"):
        compact_path(tmp_path, "../x")


@pytest.mark.parametrize("length", [0, 1, 50, -1])
def test_a_cut_file(tmp_path: Path, length: int) -> None:
    write_compact(path := tmp_path / "v.parquet", made())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"v\.parquet: these results cannot be read .*; delete the file and predict"):
        read_compact(path)


def test_damage_is_met(tmp_path: Path) -> None:
    """Bytes that flipped on a disk or on the way are never taken for masks."""
    rng = np.random.default_rng(0)
    write_compact(path := tmp_path / "v.parquet", made())
    whole = path.read_bytes()
    met = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[int(rng.integers(len(damaged)))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert read_compact(path).tracks == made().tracks  # what was hit does not matter
        except DataError:
            met += 1
    assert met > 150


def test_other_files(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="not a file of results: its columns are x"):
        read_compact(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no such file of results"):
        read_compact(tmp_path / "none.parquet")


class TestDamagedContent:
    """A file in the right format with wrong content, as a hand or a faulty program makes it."""

    def read_with(self, tmp_path: Path, column: str, value: object, metadata: bytes | None = None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        write_compact(path := tmp_path / "v.parquet", made())
        table = pq.read_table(path)
        columns = table.to_pydict()
        columns[column][1] = value
        kept = table.schema.metadata if metadata is None else {b"vng.results": metadata}
        pq.write_table(pa.table(columns, table.schema.with_metadata(kept)), path)
        read_compact(path)

    def test_columns(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="10: counts: 2 masks for 3 frames"):
            self.read_with(tmp_path, "counts", ["", ""])
        with pytest.raises(DataError, match=r"10: counts: \[1\]: counts fill"):
            self.read_with(tmp_path, "counts", [None, "11", None])
        with pytest.raises(DataError, match=r"10: counts: \[0\]: "):
            self.read_with(tmp_path, "counts", ["é", None, None])
        with pytest.raises(DataError, match="a name twice"):
            self.read_with(tmp_path, "name", "0")
        with pytest.raises(DataError, match="other scores than frames"):
            self.read_with(tmp_path, "frame_scores", [1.0])
        with pytest.raises(DataError, match="details: expected a JSON object"):
            self.read_with(tmp_path, "details", "[" * 100000)

    @pytest.mark.parametrize(
        "metadata",
        [b"", b"[]", b'{"unit": "x"}', b'{"unit":"object","video_id":"v","size":[99999,99999],"frame_names":[]}'],
    )
    def test_metadata(self, tmp_path: Path, metadata: bytes) -> None:
        with pytest.raises(DataError, match="metadata: its metadata lack a unit"):
            self.read_with(tmp_path, "score", 0.5, metadata)
