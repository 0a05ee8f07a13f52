"""Archives for the evaluation servers."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.evaluation.vos.moving_discs import TWO, H, T, W, make, predict, save
from tests.helpers import Cli
from vng.dataset_writer import write_dataset


class TestArchive:
    def call(self, cli: Callable[..., Cli], root: Path, *more: object) -> Cli:
        return cli(
            "evaluate",
            "vos",
            "--dataset",
            root / "d",
            "--results",
            root / "r",
            "--quiet",
            "--archive",
            root / "out" / "a.zip",
            *more,
        )

    def test_davis_holds_every_frame_in_the_same_bytes(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        videos = [make("walk", TWO), make("b", {"1": [TWO["1"][0], None]})]
        write_dataset(tmp_path / "d", videos, "t")
        for video in videos:
            predict(video, tmp_path / "r")
        assert self.call(cli, tmp_path).out.strip().endswith("a.zip: 2 videos, 8 frames")
        first = (tmp_path / "out" / "a.zip").read_bytes()
        with zipfile.ZipFile(tmp_path / "out" / "a.zip") as archive:
            assert archive.namelist() == ["b/00000.png", "b/00005.png", *(f"walk/{5 * t:05d}.png" for t in range(T))]
            assert archive.read("walk/00010.png") == (tmp_path / "r" / "walk" / "00010.png").read_bytes()
        for path in (tmp_path / "r").rglob("*.png"):
            path.touch()
        self.call(cli, tmp_path)
        assert (tmp_path / "out" / "a.zip").read_bytes() == first

    def test_youtube_vos_holds_what_is_wanted(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        video = make("v", {"2": [None, None, TWO["1"][2], None, None, None], "3": [None] * 4 + [TWO["2"][4], None]})
        write_dataset(tmp_path / "d", [video], "t")
        predict(video, tmp_path / "r")
        (tmp_path / "r" / "v" / "00000.png").unlink()  # before the first object: not wanted
        assert self.call(cli, tmp_path, "--protocol", "youtube-vos").status == 0
        with zipfile.ZipFile(tmp_path / "out" / "a.zip") as archive:
            assert archive.namelist() == [f"Annotations/v/{5 * t:05d}.png" for t in range(2, T)]
        objects = {"2": {"frames": ["00010", "00025"]}, "3": {"frames": ["00020"]}}
        (tmp_path / "meta.json").write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
        meta = ("--protocol", "youtube-vos", "--meta", tmp_path / "meta.json")
        assert self.call(cli, tmp_path, *meta).status == 0
        with zipfile.ZipFile(tmp_path / "out" / "a.zip") as archive:
            assert archive.namelist() == [f"Annotations/v/{n}.png" for n in ("00010", "00020", "00025")]
        for said, words in (
            ({"videos": {"w": {"objects": {}}}}, "meta.json does not list this video"),
            ({"videos": {"v": {"objects": {"2": {"frames": ["9"]}}}}}, "requires frame '9', which the dataset lacks"),
            ({"videos": 3}, "expected {videos"),
        ):
            (tmp_path / "meta.json").write_text(json.dumps(said))
            ended = self.call(cli, tmp_path, *meta)
            assert ended.status == 1 and words in ended.err

    def test_nothing_is_written_when_something_is_wrong(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        video = make("v", TWO)
        write_dataset(tmp_path / "d", [video], "t")
        predict(video, tmp_path / "r")
        r = tmp_path / "r" / "v"
        (r / "00000.png").unlink()
        save(np.zeros((H, W)), r / "00005.png", "L")
        save(np.full((H, W), 3), r / "00010.png")
        save(np.zeros((W, H)), r / "00025.png")
        ended = self.call(cli, tmp_path)
        assert ended.status == 1 and not (tmp_path / "out").exists()
        lines = sorted(ended.err.strip().splitlines())
        words = (
            "this prediction is missing",
            "expected a palette PNG, got a grey one",
            "numbers [3]",
            "prediction of 25x18",
        )
        assert len(lines) == 4 and all(w in line for w, line in zip(words, lines, strict=True))

    def test_ids_a_server_cannot_know(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "d", [make("v", {"cat": TWO["1"]})], "t")
        predict(make("v", {"cat": TWO["1"]}), tmp_path / "r")
        ended = self.call(cli, tmp_path)
        assert ended.status == 1 and "object ids are not numbers in 1..254" in ended.err
        assert self.call(cli, tmp_path, "--protocol", "davis-2016").status == 0
