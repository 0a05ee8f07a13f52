"""Point-VOS commands as users call them: what goes wrong in real life gets a clear word and no silent mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conversion.formats.test_davis import labels, write_clip
from tests.evaluation.vos.moving_discs import TWO, make, predict
from tests.helpers import Cli
from tests.training.stcn.test_task import boxes, recipe  # noqa: F401 (fixtures)
from vng.dataset_writer import write_dataset


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """A dataset `d` of one video, "walk", and perfect predictions `r`."""
    video = make("walk", TWO)
    write_dataset(tmp_path / "d", [video], "t")
    predict(video, tmp_path / "r")
    return tmp_path


def evaluate(cli: Callable[..., Cli], root: Path, *more: object) -> Cli:
    return cli("evaluate", "vos", "--dataset", root / "d", "--results", root / "r", "--quiet", *more)


class TestArchive:
    def test_numbers_that_a_server_would_mistake(self, predicted: Path, cli: Callable[..., Cli]) -> None:
        (predicted / "r" / "walk" / "objects.json").write_text(json.dumps({"1": 2, "2": 1}))
        ended = evaluate(cli, predicted, "--archive", predicted / "a.zip")
        assert ended.status == 1 and "objects.json: numbers differ from the object ids" in ended.err
        assert not (predicted / "a.zip").exists()
        (predicted / "r" / "walk" / "objects.json").write_text(json.dumps({"2": 2, "1": 1}))
        assert evaluate(cli, predicted, "--archive", predicted / "a.zip").status == 0

    def test_options_of_scores_are_refused(self, predicted: Path, cli: Callable[..., Cli]) -> None:
        for option in (("--missing", "empty"), ("--official",), ("--truth", "sparse")):
            ended = evaluate(cli, predicted, "--archive", predicted / "a.zip", *option)
            assert ended.status == 2 and f"leave out {option[0]}" in ended.err
        (predicted / "r" / "walk" / "00010.png").unlink()
        ended = evaluate(cli, predicted, "--archive", predicted / "a.zip")
        assert ended.status == 1 and ended.err.strip().endswith("this prediction is missing; predict it")


class TestTraining:
    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ("data.crop=[0,0]", "data: crop [0.0, 0.0]: shares of the frame's area"),
            ("data.crop=[0.5,1.5]", "crop [0.5, 1.5]"),
            ("data.still_scale=[2,1]", "still_scale [2.0, 1.0]"),
            ("loss.bootstrap=[0.9,0.1]", "loss.bootstrap: shares of the steps"),
        ],
    )
    def test_values_out_of_range(self, recipe: Path, cli: Callable[..., Cli], wrong: str, words: str) -> None:  # noqa: F811
        ended = cli("train", recipe, "--quiet", wrong)
        assert ended.status == 2 and words in ended.err
        assert "sources" not in ended.err  # the group is not repeated

    def test_a_folder_with_another_model(self, tmp_path: Path, recipe: Path, cli: Callable[..., Cli]) -> None:  # noqa: F811
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.json").write_text("{}")
        ended = cli("train", recipe, "--quiet")
        assert ended.status == 1 and "holds a model that was not trained here" in ended.err
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]

    def test_quiet_is_quiet(self, recipe: Path, cli: Callable[..., Cli]) -> None:  # noqa: F811
        ended = cli("train", recipe, "--quiet")
        assert ended.status == 0 and "it/s]" not in ended.err and "RANK" not in ended.err


def test_predictions_with_capital_endings(predicted: Path, cli: Callable[..., Cli]) -> None:
    for path in (predicted / "r" / "walk").glob("*.png"):
        path.rename(path.with_suffix(".PNG"))
    ended = evaluate(cli, predicted)
    assert ended.status == 0 and "100.00" in ended.out


def test_annotations_in_colours(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_clip(tmp_path / "davis", "good", [labels(1), labels(1)])
    write_clip(tmp_path / "davis", "rgb", [labels(1), labels(1)])
    file = tmp_path / "davis" / "Annotations" / "240p" / "rgb" / "00001.png"
    Image.open(file).convert("RGB").save(file)
    assert cli("convert", "davis", "--root", tmp_path / "davis", "--out", tmp_path / "out", "--quiet").status == 0
    (problem,) = map(json.loads, (tmp_path / "out" / "problems.jsonl").read_text().splitlines())
    assert problem["file"] == str(file) and "got colours" in problem["reason"]


def test_a_folder_without_frames(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "p.csv").write_text("object,frame,x,y\nö,0,1,1\n", encoding="utf-8")
    ended = cli("propagate", "--video", tmp_path / "empty", "--points", tmp_path / "p.csv", "--out", tmp_path / "o")
    assert ended.status == 1 and "--frames" not in ended.err and "check the path" in ended.err
