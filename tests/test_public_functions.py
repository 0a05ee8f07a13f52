"""The Python functions of the commands' names, as documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset

import conversion
import vng
from tests.helpers import ROOT, H, T, W
from vng.errors import DataError, UsageError


def test_the_page_on_python_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 8
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks), "docs/python.md", "exec"), {"__name__": "page"})
    for made in ("page/index.html", "scores/index.html", "scores.json", "scores.csv", "out/result/overlay.mp4"):
        assert (tmp_path / made).stat().st_size > 0, made


def test_public_names() -> None:
    assert set(dir(vng)) == set(vng.__all__)
    for name in vng.__all__:
        assert getattr(vng, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vng.nothing
    assert (ROOT / "vng" / "py.typed").exists()


class TestFromDataset:
    def rows(self, dataset: Path) -> Dataset:
        return load_dataset("parquet", data_files=str(dataset / "data" / "*.parquet"), split="train")

    def test_filtered_rows_are_a_dataset(self, dataset: Path) -> None:
        kept = self.rows(dataset).filter(lambda row: row["video_id"] == "two words")
        video = vng.VngDataset.from_dataset(kept)[0]
        assert video.video_id == "two words" and video.frames is not None
        assert (len(video.frames), *video.frames.size) == (T, H, W)
        whole = vng.VngDataset(dataset)[1]
        assert video.narratives == whole.narratives and video.expressions == whole.expressions
        assert [i.segmentations for i in video.objects] == [i.segmentations for i in whole.objects]

    def test_further_columns_are_ignored(self, dataset: Path) -> None:
        more = self.rows(dataset).map(lambda row: {"length": len(row["frame_names"])})
        assert len(vng.VngDataset.from_dataset(more)) == 2

    def test_what_is_no_dataset(self, dataset: Path) -> None:
        with pytest.raises(DataError, match="columns are missing: dataset, expressions"):
            vng.VngDataset.from_dataset(self.rows(dataset).select_columns(["video_id", "height"]))
        with pytest.raises(DataError, match=r"expected a datasets.Dataset, got dict"):
            vng.VngDataset.from_dataset({"video_id": ["a"]})

    def test_changed_rows_are_another_content(self, dataset: Path) -> None:
        rows = self.rows(dataset)
        contents = {vng.VngDataset.from_dataset(part).content for part in (rows, rows.select([0]))}
        assert len(contents | {vng.VngDataset(dataset).content}) == 3


def test_unknown_options_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown option 'frame'; known ones: root, image_set"):
        conversion.convert("davis", tmp_path / "x", root=tmp_path, frame=3)
    with pytest.raises(UsageError, match="convert davis: root is required"):
        conversion.convert("davis", tmp_path / "x")
    with pytest.raises(UsageError, match="choose one of: coco, coco-png, cvat, davis"):
        conversion.convert("nothing", tmp_path / "x")
    with pytest.raises(UsageError, match="evaluate vos: protocol: 'x'; choose one of"):
        vng.evaluate("vos", dataset, tmp_path, protocol="x")
    with pytest.raises(UsageError, match="evaluate vng: unknown option 'missin'"):
        vng.evaluate("vng", dataset, tmp_path, missin="empty")
    with pytest.raises(UsageError, match=r"optimizer.speed: unknown setting"):
        vng.train("tiny", dataset, out=tmp_path / "run", **{"optimizer.speed": 3})


def test_a_dry_estimate_writes_nothing(world: Path, tmp_path: Path) -> None:
    estimate = conversion.estimate(
        "vidln", tmp_path / "d", narratives=world / "vidln.jsonl", frames=world / "frames", segmenter="classical"
    )
    assert estimate.videos == 5 and estimate.done == 0 and not (tmp_path / "d").exists()


def test_an_export_and_back(dataset: Path, tmp_path: Path) -> None:
    result = conversion.export(vng.VngDataset(dataset), "official", tmp_path / "trio", progress=False)
    assert [path.name for path in result.files] == ["meta_expressions.json", "extra_masks.json", "orig_masks.json"]
    with pytest.raises(
        UsageError, match="choose one of: coco, coco-images, compact, cvat, davis, official, own, png, point-png"
    ):
        conversion.export(dataset, "zip", tmp_path / "zip")
