"""The dataset contract: schema, round trips, resumable writing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import H, T, W, make_video
from vng.dataset import VngDataset, features
from vng.dataset_writer import DatasetWriter, write_dataset
from vng.errors import DataError, Problem
from vng.narratives import Expression


def test_round_trip_keeps_everything(dataset: Path) -> None:
    loaded, made = VngDataset(dataset), make_video("one")
    assert loaded.video_ids == ["one", "two words"] and loaded.expression_counts == [2, 2]
    video = loaded[0]
    assert (video.narratives, video.expressions, video.frame_names) == (
        made.narratives,
        made.expressions,
        made.frame_names,
    )
    for item, expected in zip(video.objects, made.objects, strict=True):
        assert item.segmentations == expected.segmentations and item.quality == expected.quality
        np.testing.assert_array_equal(item.points.xy, expected.points.xy)
        np.testing.assert_array_equal(item.points.label, expected.points.label)
    assert video.objects[1].segmentations[1] is None and video.objects[1].segmentations[2] is not None
    frames = video.opened_frames()
    assert frames[2].shape == (H, W, 3)
    assert abs(frames[2].astype(int) - made.opened_frames()[2]).mean() < 4


def test_plain_load_dataset_opens_it(dataset: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    # a cache of its own: `datasets` knows a folder by its name alone, and takes an earlier one of that name for this one
    by_card = load_dataset(str(dataset), cache_dir=str(tmp_path / "cache"))["train"]
    by_files = load_dataset("parquet", data_files=str(dataset / "data" / "*.parquet"), split="train")
    for rows in (by_card, by_files):
        assert rows.features == features() and len(rows) == 2
        assert rows[0]["objects"][1]["segmentations"][1] is None
        assert rows[0]["objects"][1]["object_id"] == "4850600790259722026"
        assert rows[0]["frames"][0].size == (W, H)


def test_splits_are_told_apart(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", [make_video("a"), replace(make_video("b"), split="val")], "t")
    assert VngDataset(tmp_path / "d", "val").video_ids == ["b"] and len(VngDataset(tmp_path / "d")) == 2
    with pytest.raises(DataError, match="test-"):
        VngDataset(tmp_path / "d", "test")


@pytest.mark.parametrize("path", ["no/such_dataset", "nowhere/at/all", "plain"])
def test_no_dataset_here(path: str) -> None:
    with pytest.raises(DataError, match="no such dataset folder"):
        VngDataset(path)


def test_linked_frames(tmp_path: Path) -> None:
    from tests.helpers import write_frames

    video = make_video("v")
    clip = np.stack(list(video.opened_frames()))
    write_frames(tmp_path / "frames" / "v", clip)
    writer = DatasetWriter(tmp_path / "d", {})
    writer.write(0, [video.as_row(embed=False, frames_path="../frames/v")])
    writer.finish(1, "t", "")
    np.testing.assert_array_equal(VngDataset(tmp_path / "d")[0].opened_frames()[1], clip[1])
    (tmp_path / "frames").rename(tmp_path / "moved")
    with pytest.raises(DataError, match="linked frames are not at"):
        VngDataset(tmp_path / "d")[0]
    assert len(VngDataset(tmp_path / "d", frames_root=tmp_path / "moved")[0].opened_frames()) == T


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expressions": (Expression(0, 30, 99, "1"),)}, r"span \[30, 99\) is not inside"),
        ({"expressions": (Expression(3, 6, 10, "1"),)}, "narrative 3 of 1"),
        ({"expressions": (Expression(0, 6, 10, "7"),)}, "'7' is not among"),
        ({"height": 21}, "mask of size"),
        ({"frame_names": ("0", "1")}, "3 segmentations for 2 frames"),
        ({"frame_names": ("0", "../../evil", "2")}, "is not a file name"),
        ({"frame_names": ("0", "0", "2")}, "frame names repeat"),
        ({"split": "sparse-val"}, "is not a split name"),
    ],
)
def test_records_are_checked(change: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(make_video("v"), **change)


class TestWriter:
    def test_nothing_half_written_is_taken_for_whole(self, tmp_path: Path) -> None:
        writer = DatasetWriter(tmp_path, {"seed": 1})
        writer.write(0, [make_video("a").as_row()])
        with pytest.raises(DataError, match="has not finished"):
            VngDataset(tmp_path)
        with pytest.raises(DataError, match="1 of 2 parts are not written"):
            writer.finish(2, "t", "")

    def test_interrupted_run_ends_in_the_same_bytes(self, tmp_path: Path) -> None:
        rows = [make_video(name, seed).as_row() for seed, name in enumerate("abc")]
        problem = Problem("f", record="r", field="x", reason="odd")
        for out, breaks in (("whole", ()), ("broken", (1, 2))):
            writer = DatasetWriter(tmp_path / out, {"seed": 1})
            for index, row in enumerate(rows):
                if index in breaks:
                    writer = DatasetWriter(tmp_path / out, {"seed": 1})
                assert not writer.done(index)
                writer.write(index, [row], [problem])
            assert writer.finish(3, "t", "")["problems"] == 3
        files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file())
        assert len(files) == 4
        for file in files:
            assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "broken" / file).read_bytes(), file

    def test_two_runs_at_once_are_refused(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from vng.dataset_writer import DatasetWriter\n"
            "writer = DatasetWriter(Path(sys.argv[1]), {}); print('here', flush=True); sys.stdin.read()"
        )
        words = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None and other.stdout.readline() == "here\n"
            with pytest.raises(DataError, match="another run is writing here"):
                DatasetWriter(tmp_path, {})
            other.kill()
        DatasetWriter(tmp_path, {})

    def test_other_settings_are_refused(self, tmp_path: Path) -> None:
        DatasetWriter(tmp_path, {"seed": 1})
        with pytest.raises(DataError, match="seed: an earlier run wrote here with 1, now 2"):
            DatasetWriter(tmp_path, {"seed": 2})

    def test_shards_by_size(self, tmp_path: Path) -> None:
        writer = DatasetWriter(tmp_path, {}, shard_bytes=1)
        for index in range(3):
            writer.write(index, [make_video(str(index), index).as_row()])
        assert writer.finish(3, "t", "")["videos"] == 3
        names = sorted(p.name for p in (tmp_path / "data").iterdir())
        assert names == [f"train-{i:05d}-of-00003.parquet" for i in range(3)]
        assert VngDataset(tmp_path).video_ids == ["0", "1", "2"]
        assert json.loads((tmp_path / "manifest.json").read_text())["totals"]["objects"] == 6
