"""The dataset contract: schema, round trips, resumable writing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import H, T, W, make_video
from vng.dataset import VngDataset, features, video_from_row
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


@pytest.mark.parametrize("field", ["narratives", "objects", "dataset", "expressions", "frame_names"])
def test_half_characters_are_refused_in_every_text(field: str) -> None:
    video, half = make_video("v"), "x\ud800"
    changes: dict[str, Any] = {
        "narratives": (replace(video.narratives[0], description=video.narratives[0].description + half),),
        "objects": (replace(video.objects[0], name=half), video.objects[1]),
        "dataset": half,
        "expressions": (replace(video.expressions[0], object_id=half), *video.expressions[1:]),
        "frame_names": (half, *video.frame_names[1:]),
    }
    with pytest.raises(DataError, match=rf"{field}: contains half a character"):
        replace(video, **{field: changes[field]})


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


def row_of(dataset: Path) -> dict[str, Any]:
    return json.loads(json.dumps(make_video("one").as_row(embed=False)))


class TestRowsFromOutside:
    """Every fault of a row is an error that names dataset, video and field."""

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda r: r.update(split=None), "split: expected a string, got null"),
            (lambda r: r.update(video_id=7), "a row: video_id: expected a string, got 7"),
            (lambda r: r.update(video_id="../x"), r"\.\./x: video_id: this name leads out of its folder"),
            (lambda r: r.update(height=-3), "objects"),
            (lambda r: r.update(fps=float("nan")), "fps: expected a number"),
            (lambda r: r.update(frame_names=None), "frame_names: expected a list"),
            (lambda r: r["frame_names"].__setitem__(1, None), r"frame_names\[1\]: expected a string"),
            (lambda r: r.update(narratives=[None]), r"narratives\[0\]: expected an object, got null"),
            (lambda r: r["expressions"][0].update(end=2**40), r"expressions.0: span"),
            (lambda r: r["expressions"][0].update(narrative=None), r"expressions\[0\].narrative: expected an integer"),
            (lambda r: r["objects"].__setitem__(0, 5), r"objects\[0\]: expected an object, got 5"),
            (
                lambda r: r["objects"][0]["segmentations"].__setitem__(1, {"size": [H, W], "counts": ""}),
                r"objects.1.segmentations\[1\]: counts fill 0 pixels",
            ),
            (lambda r: r["objects"][0]["segmentations"].pop(), r"objects.1: 2 segmentations for 3 frames"),
            (lambda r: r["objects"][0]["points"][1].update(x=float("nan")), r"objects.1.points\[1\]: not a point"),
            (lambda r: r["objects"][0]["points"][1].update(label=9), r"objects.1.points\[1\]: not a point.*label 9"),
            (lambda r: r["objects"][0]["points"][0].update(frame=10**30), r"objects.1.points: expected points"),
            (lambda r: r["objects"][0]["points"].__setitem__(0, None), r"objects.1.points: expected points"),
            (lambda r: r["objects"][0].update(quality=None), "objects.1.quality: expected an object"),
            (lambda r: r["objects"][0]["quality"].update(stability="x"), "objects.1.quality.stability: expected a num"),
            (lambda r: r["objects"][1].pop("name"), r"objects.\d+.name: this key is missing"),
            (lambda r: r.update(frames=[{"bytes": None, "path": "x"}]), r"frames\[0\].bytes: expected bytes, got null"),
            (lambda r: r.update(frames=[{"bytes": b"x", "path": None}]), "frames: 1 images for 3 frame names"),
            (lambda r: r.update(frames_path="a\0b"), "frames_path: not a path"),
            (lambda r: r.update(frames_path="x" * 5000), "frames_path: not a path"),
        ],
    )
    def test_are_refused_by_name(self, dataset: Path, change: Callable[[dict[str, Any]], Any], words: str) -> None:
        row = row_of(dataset)
        video_from_row(row, dataset)
        change(row)
        with pytest.raises(DataError) as caught:
            video_from_row(row, dataset)
        assert str(caught.value).startswith(f"{dataset}: ") and re.search(words, str(caught.value)), caught.value

    def test_a_damaged_shard_is_named_with_the_cure(self, dataset: Path, capfd: pytest.CaptureFixture[str]) -> None:
        (shard,) = (dataset / "data").iterdir()
        shard.write_bytes(shard.read_bytes()[:-200])
        with pytest.raises(DataError, match=rf"{shard.name}: this shard is damaged \(.*run the same `vng convert`"):
            VngDataset(dataset)
        assert "Failed" not in capfd.readouterr().err

    def test_a_shard_of_another_schema_is_named_with_its_column(self, dataset: Path) -> None:
        import pyarrow.parquet as pq

        (shard,) = (dataset / "data").iterdir()
        table = pq.read_table(shard)
        pq.write_table(table.drop_columns(["objects"]), shard)
        with pytest.raises(DataError, match=r"one: objects: expected a list, got null"):
            _ = VngDataset(dataset)[0]
        place = table.column_names.index("height")
        pq.write_table(table.set_column(place, "height", [["tall", "low"]]), shard)
        with pytest.raises(DataError, match=rf"{shard.name}: height: values of another type"):
            VngDataset(dataset)


def test_plain_load_dataset_sees_a_dataset_that_was_made_again(tmp_path: Path) -> None:
    from datasets import load_dataset

    names = []
    for seed in (0, 1):
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        write_dataset(tmp_path / "d", [make_video("one" if seed else "two", seed)], "again")
        rows = load_dataset(str(tmp_path / "d"), split="train", cache_dir=str(tmp_path / "cache"))
        names += rows["video_id"]
    assert list(names) == ["two", "one"]
