"""Scoring in several processes: equal values, faults reported at once, nothing hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.evaluation.narrative.test_scores import write_predictions
from tests.evaluation.vos.moving_discs import TWO, make, predict, save
from tests.helpers import ROOT, Cli, make_video
from tests.light_work import die, refuse, square
from vng.dataset_writer import write_dataset
from vng.errors import DataError, DataErrors, Problem
from vng.evaluation.narrative.scores import evaluate_narrative
from vng.evaluation.vos.scores import Protocol, evaluate_vos, plain_run
from vng.evaluation.workers import WorkerDied, in_order, processes_for
from vng.grounding.result import write_mask_pngs
from vng.masks import empty


def planted_vos(root: Path) -> list[tuple[str, str]]:
    """A dataset and predictions with 12 faults, and what each message must hold."""
    videos = [make(name, TWO) for name in ("a", "b", "c", "d", "e")]
    write_dataset(root / "d", videos, "t")
    r = root / "r"
    for video in (*videos[:2], *videos[3:]):
        predict(video, r)
    (r / "a" / "00005.png").unlink()
    (r / "a" / "00010.png").write_bytes(b"no image")
    cut = (r / "a" / "00015.png").read_bytes()
    (r / "a" / "00015.png").write_bytes(cut[: len(cut) - 40])
    save(np.zeros((18, 26)), r / "a" / "00020.png")
    Image.new("RGB", (25, 18)).save(r / "b" / "00005.png")
    save(np.full((18, 25), 255), r / "b" / "00010.png")
    for path in sorted((r / "d").glob("*.png")):
        path.rename(path.with_name("x" + path.name))
    (r / "e" / "objects.json").write_text("[]")
    save(np.zeros((18, 25)), r / "a" / "00030.png")
    (r / "b" / "notes.txt").write_text("not a frame")
    (r / ".cache").mkdir()  # hidden: nobody's concern
    predict(make("f", TWO), r)
    return [
        ("a/00005.png", "missing"),
        ("a/00010.png", "cannot be read"),
        ("a/00015.png", "cannot be read"),
        ("a/00020.png", "prediction of 18x26, the frame has 18x25"),
        ("b/00005.png", "mode RGB"),
        ("b/00010.png", "numbers [255], which no object has (objects: 1, 2)"),
        ("r/c", "no prediction of this video (4 frames expected)"),
        ("r/d", "expected 00005.png, got x00000.png"),
        ("e/objects.json", "expected {object id: number"),
        ("note: ", "a/00030.png: no frame of the video has this name"),
        ("note: ", "b/notes.txt: no frame of the video has this name"),
        ("note: ", "r/f: no video of the dataset has this name"),
    ]


def planted_vng(root: Path) -> list[tuple[str, str]]:
    """As `planted_vos`, of narratives."""
    names = ("one", "two words", "three", "four")
    videos = [make_video(name, i) for i, name in enumerate(names)]
    write_dataset(root / "d", videos, "t")
    r = root / "r"
    for video in (*videos[:3], make_video("five")):
        for index in (0, 1):
            write_mask_pngs([empty(20, 30)] * 3, video.frame_names, r / video.video_id / str(index))
    (r / "one" / "0" / "000000.png").unlink()
    cut = (r / "one" / "0" / "000001.png").read_bytes()
    (r / "one" / "0" / "000001.png").write_bytes(cut[: len(cut) // 2])
    (r / "one" / "1" / "000002.png").write_bytes(b"x")
    cv2.imwrite(str(r / "two words" / "0" / "000001.png"), np.zeros((20, 31), np.uint8))
    (r / "two words" / "0" / "000002.png").write_bytes(b"")
    cv2.imwrite(str(r / "two words" / "1" / "000000.png"), np.zeros((20, 30, 3), np.uint8))
    for i, path in enumerate(sorted((r / "three" / "0").iterdir())):
        path.rename(path.with_name(f"{'xyz'[i]}.png"))
    for path in (r / "three" / "1").iterdir():
        path.unlink()
    write_mask_pngs([empty(20, 30)], ["000003"], r / "one" / "0")
    write_mask_pngs([empty(20, 30)], ["000000"], r / "one" / "7")
    return [
        ("one/0/000000.png", "missing"),
        ("one/0/000001.png", "cannot be read"),
        ("one/1/000002.png", "cannot be read"),
        ("two words/0/000001.png", "prediction of 20x31, the frame has 20x30"),
        ("two words/0/000002.png", "cannot be read"),
        ("two words/1/000000.png", "got colours (mode RGB)"),
        ("three/0", "expected 000000.png, got x.png"),
        ("three/1", "no prediction of this expression (2 frames expected)"),
        ("r/four", "no prediction of this video (2 expressions expected)"),
        ("note: ", "one/7: no expression of the video has this name"),
        ("note: ", "one/0/000003.png: no frame of the expression has this name"),
        ("note: ", "r/five: no video of the dataset has this name"),
    ]


class TestTwelveFaults:
    @pytest.mark.parametrize("processes", [1, 2])
    @pytest.mark.parametrize("protocol", ["vos", "vng"])
    def test_exactly_those_messages(
        self, tmp_path: Path, cli: Callable[..., Cli], protocol: str, processes: int
    ) -> None:
        expected = (planted_vos if protocol == "vos" else planted_vng)(tmp_path)
        ended = cli(
            "evaluate",
            protocol,
            "--dataset",
            tmp_path / "d",
            "--results",
            tmp_path / "r",
            "--quiet",
            "--json",
            tmp_path / "s.json",
            "--processes",
            processes,
        )
        lines = ended.err.strip().splitlines()
        assert ended.status == 1 and ended.out == "" and not (tmp_path / "s.json").exists()
        assert len(lines) == len(expected) == 12
        for line, (place, words) in zip(lines, expected, strict=True):
            assert line.startswith("vng: ") and place in line and words in line
            assert str(tmp_path / "r") in line

    def test_what_belongs_to_nothing_is_a_note_or_an_error(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "d", [make_video("one"), make_video("two words", 1)], "t")
        write_predictions(tmp_path / "r")
        write_mask_pngs([empty(20, 30)], ["000009"], tmp_path / "r" / "one" / "0")
        (tmp_path / "r" / "manifest.json").write_text("{}")  # what a program leaves beside its predictions
        call = ("evaluate", "vng", "--dataset", tmp_path / "d", "--results", tmp_path / "r", "--quiet")
        ended = cli(*call)
        assert ended.status == 0 and "J&F 100.00" in ended.out
        assert ended.err.startswith("vng: note: ") and "000009.png" in ended.err and ended.err.count("\n") == 1
        assert cli(*call, "--strict").status == 1
        video = make("v", TWO)
        predict(video, tmp_path / "v")
        predict(make("w", TWO), tmp_path / "v")
        run = plain_run(tmp_path / "v", [])
        (note,) = evaluate_vos([video], [run], Protocol())[0].notes
        assert note.kind == "note" and note.file == str(tmp_path / "v" / "w")
        with pytest.raises(DataErrors, match="no video of the dataset has this name"):
            evaluate_vos([video], [run], Protocol(), strict=True)

    def test_missing_as_empty_needs_no_folder(self, tmp_path: Path) -> None:
        write_predictions(tmp_path)
        videos = [make_video("one"), make_video("four", 3)]
        scores = evaluate_narrative(videos, tmp_path, missing="empty")
        assert [s.j for s in scores.expressions] == [1.0, 1.0, 0.0, 0.5]  # absent in the last frame of two
        assert scores.expressions[3].j_frames == scores.expressions[3].f_frames == (0.0, 1.0)
        assert scores.expressions[3].frame_names == ("000000", "000002")

    def test_errors_cross_processes(self) -> None:
        import pickle

        error = pickle.loads(pickle.dumps(DataError("f", record="r", field="x", reason="why", cure="cure")))
        assert str(error) == "f: r: x: why; cure"
        errors = pickle.loads(
            pickle.dumps(DataErrors([Problem("f", reason="why"), Problem("g", reason="so", kind="note")]))
        )
        assert str(errors) == "f: why\nnote: g: so"


class TestProcesses:
    def test_results_in_order(self) -> None:
        for processes in (1, 2):
            assert list(in_order(square, range(9), processes)) == [i * i for i in range(9)]
            assert list(in_order(square, [], processes)) == []

    def test_a_few_ahead_only(self) -> None:
        asked: list[int] = []
        results = in_order(square, (asked.append(i) or i for i in range(50)), 2)
        assert next(results) == 0 and len(asked) <= 6
        results.close()  # type: ignore[attr-defined]

    def test_a_killed_process_ends_it(self) -> None:
        with pytest.raises(WorkerDied, match="a process was killed"):
            list(in_order(die, range(8), 2))

    def test_an_error_arrives_whole(self) -> None:
        with pytest.raises(DataError, match="f: 0: bad"):
            list(in_order(refuse, range(8), 2))

    def test_a_script_without_a_guard(self, tmp_path: Path) -> None:
        """The main module is not run again in the processes."""
        (tmp_path / "script.py").write_text(
            "from pathlib import Path\n"
            "from tests.light_work import square\n"
            "from vng.evaluation.workers import in_order\n"
            "print('once')\n"
            "print(list(in_order(square, range(5), 2)), __spec__, Path(__file__).name)\n"
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        call = [sys.executable, str(tmp_path / "script.py")]
        ended = subprocess.run(call, capture_output=True, text=True, env=environment)
        assert ended.stdout == "once\n[0, 1, 4, 9, 16] None script.py\n", ended.stderr

    def test_how_many(self) -> None:
        assert [processes_for(3, n) for n in (1, 2, 100, None)] == [1, 2, 3, 3]
        assert processes_for(None, 7) == 1 and 1 <= processes_for(None, 1000) <= 8
        assert processes_for(2, 0) == 1

    def test_the_same_scores(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        videos = [make(f"v{i}", TWO) for i in range(5)]
        write_dataset(tmp_path / "d", videos, "t")
        for i, video in enumerate(videos):
            predict(video, tmp_path / "r", i)
        texts = []
        for processes in (1, 2):
            ended = cli(
                "evaluate",
                "vos",
                "--dataset",
                tmp_path / "d",
                "--results",
                tmp_path / "r",
                "--processes",
                processes,
                "--json",
                tmp_path / "s.json",
            )
            assert ended.status == 0 and "5/5" in ended.err
            texts.append((tmp_path / "s.json").read_text())
        assert texts[0] == texts[1] and json.loads(texts[0])["J&F"] < 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file that never ends")
class TestNoHang:
    def started(self, tmp_path: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
        """The command while its processes read predictions that never come."""
        videos = [make(f"v{i}", TWO) for i in range(4)]
        write_dataset(tmp_path / "d", videos, "t")
        for video in videos:
            predict(video, tmp_path / "r")
            (tmp_path / "r" / video.video_id / "00005.png").unlink()
            os.mkfifo(tmp_path / "r" / video.video_id / "00005.png")
        call = [
            sys.executable,
            "-m",
            "vng.cli",
            "evaluate",
            "vos",
            "--dataset",
            str(tmp_path / "d"),
            "--results",
            str(tmp_path / "r"),
            "--processes",
            "2",
            "--json",
            str(tmp_path / "s.json"),
        ]
        pipe = subprocess.PIPE
        # where the tests run in the background of a shell, Ctrl-C is ignored, which children would inherit
        restore = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(
            call, stdout=pipe, stderr=pipe, text=True, start_new_session=True, preexec_fn=restore
        )
        for _ in range(600):
            family = psutil.Process(process.pid).children(recursive=True)
            workers = [child for child in family if child.ppid() != process.pid]
            if len(workers) == 2 and all(w.num_threads() >= 2 for w in workers):
                time.sleep(0.5)
                return process, workers
            time.sleep(0.1)
        raise AssertionError("no processes came")

    @pytest.mark.parametrize("how", ["worker", "parent", "all"])
    def test_killed_or_stopped(self, tmp_path: Path, how: str) -> None:
        process, workers = self.started(tmp_path)
        if how == "worker":
            workers[0].kill()
        elif how == "parent":
            process.send_signal(signal.SIGINT)
        else:
            os.killpg(process.pid, signal.SIGINT)  # Ctrl-C in a terminal
        out, err = process.communicate(timeout=60)
        assert process.returncode == (1 if how == "worker" else 130) and out == ""
        assert ("a process was killed" if how == "worker" else "vng: interrupted") in err and "Traceback" not in err
        assert not (tmp_path / "s.json").exists()
        assert not psutil.wait_procs(workers, timeout=20)[1]

    def test_nothing_outlives_a_killed_parent(self, tmp_path: Path) -> None:
        process, workers = self.started(tmp_path)
        process.kill()
        process.communicate(timeout=60)
        assert not psutil.wait_procs(workers, timeout=20)[1]
