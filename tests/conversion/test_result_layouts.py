"""Results from one layout to the other and back: the same pixels, the same scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import conversion
from tests.evaluation.narrative.test_scores import write_predictions
from tests.evaluation.vos.moving_discs import TWO, make, predict
from tests.helpers import Cli, make_video
from vng.compact_results import VideoResult, read_compact, write_compact
from vng.errors import DataError, DataErrors, UsageError
from vng.evaluation.narrative.analysis import analyse_narrative
from vng.evaluation.narrative.scores import evaluate_narrative
from vng.evaluation.point_agreement import evaluate_points
from vng.evaluation.vos.archive import write_archive
from vng.evaluation.vos.scores import Protocol, Run, evaluate_vos, find_runs

VIDEOS = [make_video("one"), make_video("two words", 1)]


def pixels(folder: Path) -> dict[str, list]:
    """Every PNG below a folder as an array, by its path."""
    return {str(p.relative_to(folder)): np.asarray(Image.open(p)).tolist() for p in sorted(folder.rglob("*.png"))}


def there_and_back(folder: Path) -> tuple[Path, Path]:
    """(compact, PNGs again) of results."""
    compact, again = folder.parent / "compact", folder.parent / "again"
    conversion.export(folder, "compact", compact, progress=False)
    conversion.export(compact, "png", again, progress=False)
    return compact, again


class TestExpressions:
    def test_there_and_back(self, tmp_path: Path) -> None:
        write_predictions(tmp_path / "r", 3)
        compact, again = there_and_back(tmp_path / "r")
        assert sorted(p.name for p in compact.iterdir()) == ["one.parquet", "two words.parquet"]
        assert pixels(again) == pixels(tmp_path / "r") and len(pixels(again)) > 10

    def test_scores(self, tmp_path: Path) -> None:
        write_predictions(tmp_path / "r", 3)
        compact, _ = there_and_back(tmp_path / "r")
        scores = [evaluate_narrative(VIDEOS, folder) for folder in (tmp_path / "r", compact)]
        assert scores[0].expressions == scores[1].expressions and 0 < scores[0].jf < 1
        details = [
            analyse_narrative(VIDEOS, folder, score)
            for folder, score in zip((tmp_path / "r", compact), scores, strict=True)
        ]
        assert details[0].details == details[1].details

    def test_numbered_ids_are_sorted_by_number(self, tmp_path: Path) -> None:
        for name in ("10", "9"):
            (tmp_path / "r" / "v" / name).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / "r" / "v" / name / "0.png"), np.zeros((4, 6), np.uint8))
        compact, _ = there_and_back(tmp_path / "r")
        assert list(read_compact(compact / "v.parquet").tracks) == ["9", "10"]

    def test_a_missing_frame_is_told(self, tmp_path: Path) -> None:
        write_predictions(tmp_path / "r")
        (tmp_path / "r" / "one" / "0" / "000000.png").unlink()
        compact, again = there_and_back(tmp_path / "r")
        assert pixels(again) == pixels(tmp_path / "r")
        with pytest.raises(DataErrors, match=r"one\.parquet: expression 0 frame 000000: this prediction is missing"):
            evaluate_narrative(VIDEOS, compact)
        lenient = [evaluate_narrative(VIDEOS, folder, "empty").expressions for folder in (tmp_path / "r", compact)]
        assert lenient[0] == lenient[1]

    def test_what_does_not_fit_the_dataset(self, tmp_path: Path) -> None:
        write_predictions(tmp_path / "r")
        compact, _ = there_and_back(tmp_path / "r")
        (compact / "other.parquet").write_bytes((compact / "one.parquet").read_bytes())
        assert "other.parquet: no video of the dataset has this name; skipped" in str(
            evaluate_narrative(VIDEOS, compact).notes[0]
        )
        (compact / "two words.parquet").unlink()
        with pytest.raises(DataErrors, match="two words: no prediction of this video"):
            evaluate_narrative(VIDEOS, compact)
        (compact / "one").mkdir()
        with pytest.raises(DataErrors, match="beside it lies a folder of PNGs of the same video; keep one of the two"):
            evaluate_narrative(VIDEOS, compact)

    def test_of_another_size(self, tmp_path: Path) -> None:
        (tmp_path / "r" / "one" / "0").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "r" / "one" / "0" / "000000.png"), np.zeros((4, 6), np.uint8))
        compact, _ = there_and_back(tmp_path / "r")
        with pytest.raises(DataErrors, match="expression 0: masks of 4x6, the video has"):
            evaluate_narrative(VIDEOS[:1], compact)

    def test_an_interrupted_export_begins_again(self, tmp_path: Path) -> None:
        write_predictions(tmp_path / "r")
        compact, again = there_and_back(tmp_path / "r")
        (again / ".unfinished").touch()  # as if it had been killed before the end
        (again / "one" / "0" / "000000.png").write_bytes(b"of an earlier try")
        conversion.export(compact, "png", again, progress=False)
        assert pixels(again) == pixels(tmp_path / "r") and not (again / ".unfinished").exists()

    def test_a_video_without_expressions(self, tmp_path: Path) -> None:
        write_compact(
            tmp_path / "r" / "v.parquet",
            VideoResult(video_id="v", unit="expression", size=(4, 6), frame_names=("0",), tracks={}),
        )
        told = conversion.export(tmp_path / "r", "png", tmp_path / "o", progress=False)
        assert not told.problems and (tmp_path / "o" / "v").is_dir()


class TestObjects:
    @pytest.mark.parametrize("numbers", [None, {"1": 7, "2": 3}])
    def test_there_and_back(self, tmp_path: Path, numbers: dict[str, int] | None) -> None:
        video = make("walk", TWO)
        predict(video, tmp_path / "r", 2, numbers=numbers)
        if numbers is not None:
            (tmp_path / "r" / "walk" / "objects.json").write_text(json.dumps(numbers))
        compact, again = there_and_back(tmp_path / "r")
        assert pixels(again) == pixels(tmp_path / "r") and (compact / "walk.parquet").is_file()
        if numbers is not None:
            assert json.loads((again / "walk" / "objects.json").read_text()) == numbers
        (a,), (b,) = (evaluate_vos([video], [Run(folder)], Protocol()) for folder in (tmp_path / "r", compact))
        assert a.objects == b.objects and 0 < a.summary().jf < 1
        (a,), (b,) = (
            evaluate_vos([video], [Run(folder)], Protocol("davis-unsupervised")) for folder in (tmp_path / "r", compact)
        )
        assert a.objects == b.objects

    def test_runs_of_a_benchmark(self, tmp_path: Path) -> None:
        video = make("walk", TWO)
        predict(video, tmp_path / "r" / "points-2" / "seed-1", 1)
        compact, again = there_and_back(tmp_path / "r")
        assert [run.name for run in find_runs(compact, ["walk"])] == ["2 points, seed 1"]
        assert pixels(again) == pixels(tmp_path / "r")

    def test_points_and_an_archive(self, tmp_path: Path) -> None:
        from vng.points import Points

        points = {i: Points.of_lists([0, 1], [(6, 7), (1, 1)], [1, 0]) for i in TWO}
        video = make("walk", TWO, points=points)
        predict(video, tmp_path / "r", 2)
        compact, _ = there_and_back(tmp_path / "r")
        scores = [evaluate_points([video], Run(folder)) for folder in (tmp_path / "r", compact)]
        assert scores[0].objects == scores[1].objects
        for name in ("r", "compact"):
            assert write_archive([video], Run(tmp_path / name), tmp_path / f"{name}.zip", "davis") == 6
        import zipfile

        found = []
        for name in ("r", "compact"):
            with zipfile.ZipFile(tmp_path / f"{name}.zip") as archive:
                found.append({n: np.asarray(Image.open(archive.open(n))).tolist() for n in archive.namelist()})
        assert found[0] == found[1]

    def test_an_unknown_object_and_shared_pixels(self, tmp_path: Path) -> None:
        from dataclasses import replace

        from vng.compact_results import TrackResult, write_compact
        from vng.masks import encode

        video = make("walk", TWO)
        predict(video, tmp_path / "r")
        compact, _ = there_and_back(tmp_path / "r")
        result = read_compact(compact / "walk.parquet")
        more = {**result.tracks, "9": result.tracks["1"]}
        write_compact(compact / "walk.parquet", replace(result, tracks=more))
        with pytest.raises(DataErrors, match="'9': the dataset has no such object"):
            evaluate_vos([video], [Run(compact)], Protocol())
        full = TrackResult(masks=(encode(np.ones(result.size, bool)),) * 6)
        write_compact(compact / "walk.parquet", replace(result, tracks={**result.tracks, "2": full}))
        with pytest.raises(DataErrors, match="frame 00005: two objects share pixels; write disjoint masks"):
            evaluate_vos([video], [Run(compact)], Protocol())
        told = conversion.export(compact, "png", tmp_path / "bad", progress=False)
        assert "two objects share pixels, which a label map cannot hold" in str(told.problems[0])

    def test_of_the_other_kind(self, tmp_path: Path) -> None:
        write_predictions(tmp_path / "r")
        compact, _ = there_and_back(tmp_path / "r")
        with pytest.raises(
            DataErrors, match="a file of expressions, expected one of objects; give results of `vng prop"
        ):
            evaluate_vos(VIDEOS, [Run(compact)], Protocol())


def test_wrong_folders(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    with pytest.raises(DataError, match="no such folder of results"):
        conversion.export(tmp_path / "none", "png", tmp_path / "o", progress=False)
    for format, words in (("png", "no .parquet file of results"), ("compact", "no folder of PNGs")):
        with pytest.raises(DataError, match=words):
            conversion.export(tmp_path, format, tmp_path / "o", progress=False)
    with pytest.raises(UsageError, match="takes a folder of results, and neither --split"):
        conversion.export(tmp_path, "png", tmp_path / "o", split="val", progress=False)
    assert not (tmp_path / "o").exists()


def test_a_damaged_file_does_not_stop_the_others(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_predictions(tmp_path / "r")
    compact, _ = there_and_back(tmp_path / "r")
    (compact / "one.parquet").write_bytes(b"PAR1")
    ended = cli("export", compact, "--format", "png", "--out", tmp_path / "o", "--quiet")
    assert ended.status == 1 and "one.parquet: these results cannot be read" in ended.err
    assert [p.name for p in (tmp_path / "o").iterdir() if p.is_dir()] == ["two words"]
