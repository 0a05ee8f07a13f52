"""`vng predict`: own videos and whole datasets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.helpers import ROOT, Cli, H, T, W, make_video, write_frames
from tests.training.test_loop import train_arguments
from vng.dataset_writer import write_dataset

FILES = ["one.parquet", "predictions.json", "two words.parquet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained tiny grounder."""
    from vng.cli import main

    folder = tmp_path_factory.mktemp("module")
    write_dataset(folder / "dataset", [make_video("one"), make_video("two words", seed=1)], "hand-made")
    assert main([str(a) for a in train_arguments(folder / "dataset", folder / "run")]) == 0
    return folder / "run"


class TestPrediction:
    def test_own_video_and_narrative(self, tmp_path: Path, run: Path, cli: Callable[..., Cli]) -> None:
        import av

        write_frames(tmp_path / "clip", np.stack(list(make_video("v").opened_frames())))
        ended = cli(
            "predict",
            "--model",
            run,
            "--video",
            tmp_path / "clip",
            "--narrative",
            "A red [ball] meets the other [ball].",
            "--out",
            tmp_path / "out",
        )
        assert ended.status == 0 and ended.out.count("ball: 0.") == 2, ended.err
        result = json.loads((tmp_path / "out" / "result.json").read_text())
        assert [n["span"] for n in result["nouns"]] == [[6, 10], [27, 31]]
        assert len(list((tmp_path / "out" / "masks" / "1").glob("*.png"))) == T
        with av.open(str(tmp_path / "out" / "overlay.mp4")) as film:
            stream = film.streams.video[0]
            assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
            assert len(list(film.decode(stream))) == T
        assert (tmp_path / "out" / "overlay.png").stat().st_size > 1000

    def test_a_page_stands_beside_the_model(self, run: Path) -> None:
        card = (run / "README.md").read_text()
        assert "# run" in card and "| data | dataset |" in card and "| optimizer.steps |" in card

    def test_python_interface(self, run: Path) -> None:
        from vng import NarrativeGrounder

        grounder = NarrativeGrounder.from_pretrained(run)
        result = grounder(np.stack(list(make_video("v").opened_frames())), "A red [ball] meets the other [ball].")
        assert result.masks.shape == (2, T, H, W) and result.masks.dtype == bool
        assert result.nouns == ["ball", "ball"] and result.scores.shape == (2,) and result.frame_scores.shape == (2, T)

    def test_dataset_in_the_official_layout_and_its_score(
        self, tmp_path: Path, run: Path, dataset: Path, cli: Callable[..., Cli]
    ) -> None:
        words = ["predict", "--model", run, "--dataset", dataset, "--out", tmp_path / "r", "--format", "png", "--quiet"]
        ended = cli(*words)
        assert ended.status == 0 and "4 expressions" in ended.out
        files = sorted(str(p.relative_to(tmp_path / "r")) for p in (tmp_path / "r").rglob("*.png"))
        assert files == [f"{v}/{e}/{t:06d}.png" for v in ("one", "two words") for e in (0, 1) for t in range(T)]
        assert cli("evaluate", "vng", "--dataset", dataset, "--results", tmp_path / "r", "--quiet").status == 0
        before = (tmp_path / "r" / "one" / "0" / "000000.png").stat().st_mtime_ns
        assert cli(*words).status == 0
        assert (tmp_path / "r" / "one" / "0" / "000000.png").stat().st_mtime_ns == before  # went on, did nothing twice

    def test_one_file_a_video_and_the_same_score(
        self, tmp_path: Path, run: Path, dataset: Path, cli: Callable[..., Cli]
    ) -> None:
        words = ["predict", "--model", run, "--dataset", dataset, "--quiet", "--out", tmp_path / "r"]
        assert cli(*words).out == f"{tmp_path / 'r'}: 4 expressions\n"
        assert sorted(p.name for p in (tmp_path / "r").iterdir()) == FILES
        ended = cli(*words, "--format", "png")
        assert ended.status == 1 and "layout: an earlier run wrote here with 'compact', now 'png'" in ended.err
        assert cli("export", tmp_path / "r", "--format", "png", "--out", tmp_path / "tree", "--quiet").status == 0
        scores = [
            cli("evaluate", "vng", "--dataset", dataset, "--results", tmp_path / name, "--quiet").out
            for name in ("r", "tree")
        ]
        assert scores[0] == scores[1] and "(4 expressions)" in scores[0]
        whole = (tmp_path / "r" / "one.parquet").read_bytes()
        (tmp_path / "r" / "one.parquet").write_bytes(whole[: len(whole) // 2])
        ended = cli("evaluate", "vng", "--dataset", dataset, "--results", tmp_path / "r", "--quiet")
        assert ended.status == 1 and "one.parquet: these results cannot be read" in ended.err
        assert "delete the file and predict the video again" in ended.err
        (tmp_path / "r" / "one.parquet").unlink()
        assert cli(*words).status == 0 and (tmp_path / "r" / "one.parquet").read_bytes() == whole

    def test_a_video_that_cannot_be_read_does_not_stop_the_others(
        self, tmp_path: Path, run: Path, dataset: Path
    ) -> None:
        from vng import NarrativeGrounder, VngDataset, predict
        from vng.errors import DataError, DataErrors

        class Broken(VngDataset):
            def __getitem__(self, index: int) -> Any:
                if index == 0:
                    raise DataError(self.path, record="one", field="frames", reason="not an image", cure="fetch it")
                return super().__getitem__(index)

        with pytest.raises(DataErrors, match="one: frames: not an image; fetch it"):
            predict(NarrativeGrounder.from_pretrained(run), Broken(dataset), tmp_path / "r", progress=False)
        assert sorted(p.name for p in (tmp_path / "r").iterdir()) == FILES[1:]

    def test_two_processes_write_what_one_writes(self, tmp_path: Path, run: Path, dataset: Path) -> None:
        words = ["-m", "vng.cli", "predict", "--model", str(run), "--dataset", str(dataset), "--quiet", "--out"]
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
        running = {
            name: subprocess.Popen(
                [*start, *words, str(tmp_path / name)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, start in (("a", [sys.executable]), ("b", launcher))
        }
        told = {}
        for name, process in running.items():
            told[name], err = process.communicate()
            assert process.returncode == 0, err
        assert told == {name: f"{tmp_path / name}: 4 expressions\n" for name in "ab"}
        found = [
            {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")} for name in "ab"
        ]
        assert found[0] == found[1] and sorted(map(str, found[0])) == FILES

    def test_predictions_of_another_model_are_never_reused(
        self, tmp_path: Path, run: Path, dataset: Path, cli: Callable[..., Cli]
    ) -> None:
        import shutil

        shutil.copytree(run, tmp_path / "model")
        words = ["predict", "--model", tmp_path / "model", "--dataset", dataset, "--out", tmp_path / "r", "--quiet"]
        assert cli(*words).status == 0
        state = load_file(tmp_path / "model" / "model.safetensors")
        save_file({k: v + 0.1 for k, v in state.items()}, tmp_path / "model" / "model.safetensors", {"format": "pt"})
        ended = cli(*words)
        assert ended.status == 1 and "model: an earlier run wrote here" in ended.err

    @pytest.mark.parametrize(
        ("arguments", "status", "words"),
        [
            (["--video", "x"], 2, "give --video and --narrative, or --dataset"),
            (["--video", "none.mp4", "--narrative", "A [ball]."], 1, "none.mp4: no such folder or video file"),
            (["--video", "x", "--narrative", "A ball."], 2, "no noun is marked"),
            (["--video", "x", "--narrative", "A [ball."], 2, "never closed"),
        ],
    )
    def test_wrong_calls(
        self, tmp_path: Path, run: Path, cli: Callable[..., Cli], arguments: list, status: int, words: str
    ) -> None:
        if "A ball." in arguments:
            write_frames(tmp_path / "x", np.zeros((1, H, W, 3), np.uint8))
            arguments = [str(tmp_path / "x") if a == "x" else a for a in arguments]
        ended = cli("predict", "--model", run, *arguments, "--out", tmp_path / "out")
        assert ended.status == status and words in ended.err and not (tmp_path / "out").exists()

    def test_unfinished_model(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        ended = cli("predict", "--model", tmp_path, "--dataset", tmp_path, "--out", tmp_path / "r")
        assert ended.status == 1 and "no trained model here" in ended.err
