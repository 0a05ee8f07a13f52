"""Scores during training: logged, drawn, the accumulators' numbers; the weights and resumption are as without them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.helpers import Cli, make_video
from tests.training.test_loop import train_arguments
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.evaluation.narrative.accumulator import NarrativeScore
from vng.grounding.dataset import ground_expressions
from vng.grounding.grounder import NarrativeGrounder
from vng.training.progress import plot_curves


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_scored_stopped_and_resumed(
    tmp_path: Path, dataset: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch
) -> None:
    import vng.training.loop as loop

    original, steps = loop._train_step, []

    def dies(*arguments: object) -> object:
        steps.append(arguments[-1])
        if len(steps) == 4:  # after the checkpoint of step 2, and after step 3 was scored
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    short = ("optimizer.steps=5", "save_every=2")
    scored = (*short, f"evaluate.dataset={dataset}", "evaluate.every=3")
    assert cli(*train_arguments(dataset, tmp_path / "plain", *short)).status == 0
    assert cli(*train_arguments(dataset, tmp_path / "whole", *scored)).status == 0
    monkeypatch.setattr(loop, "_train_step", dies)
    assert cli(*train_arguments(dataset, tmp_path / "broken", *scored)).status == 130
    assert cli(*train_arguments(dataset, tmp_path / "broken", *scored)).status == 0
    weights = {name: load_file(tmp_path / name / "model.safetensors") for name in ("plain", "whole", "broken")}
    for name, value in weights["plain"].items():
        assert torch.equal(value, weights["whole"][name]) and torch.equal(value, weights["broken"][name]), name
    log = log_of(tmp_path / "whole")
    assert [record["step"] for record in log if "score" in record] == [3, 5] and log == log_of(tmp_path / "broken")
    assert [{k: v for k, v in r.items() if k != "score"} for r in log] == log_of(tmp_path / "plain")

    grounder, expected = NarrativeGrounder.from_pretrained(tmp_path / "whole"), NarrativeScore()
    for video in VngDataset(dataset):
        for number, result, n in ground_expressions(grounder, video):
            truth = video.object_by_id[video.expressions[number].object_id].segmentations
            expected.add(video.video_id, number, truth, result.rles[n])
    assert log[-1]["score"] == expected.compute() and set(log[-1]["score"]) == {"J&F", "J", "F"}
    with Image.open(tmp_path / "whole" / "curves.png") as wide, Image.open(tmp_path / "plain" / "curves.png") as plain:
        assert wide.width == pytest.approx(1.5 * plain.width, abs=2) and wide.height == plain.height
    manifest = json.loads((tmp_path / "whole" / "training.json").read_text())["settings"]
    assert manifest["evaluate"]["every"] == 3 and manifest["dataset_manifest.evaluate"]
    assert "evaluate" not in json.loads((tmp_path / "plain" / "training.json").read_text())["settings"]


def test_two_processes_share_the_videos(tmp_path: Path, dataset: Path) -> None:
    words = train_arguments(
        dataset,
        tmp_path / "run",
        "optimizer.steps=1",
        "save_every=1",
        f"evaluate.dataset={dataset}",
        "evaluate.every=1",
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--standalone",
        "-m",
        "vng.cli",
        *map(str, words),
    ]
    ended = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    grounder, expected = NarrativeGrounder.from_pretrained(tmp_path / "run"), NarrativeScore()
    for video in VngDataset(dataset):
        for number, result, n in ground_expressions(grounder, video):
            truth = video.object_by_id[video.expressions[number].object_id].segmentations
            expected.add(video.video_id, number, truth, result.rles[n])
    assert log_of(tmp_path / "run")[0]["score"] == pytest.approx(expected.compute(), abs=0.02)  # one thread, or more


def test_wrong_calls(tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
    bare = make_video("bare")
    objects = tuple(replace(o, segmentations=(None,) * 3) for o in bare.objects)
    write_dataset(tmp_path / "bare", [replace(bare, objects=objects)], "hand-made")
    told = [
        (("evaluate.every=3",), 2, "evaluate.dataset: field required"),
        ((f"evaluate.dataset={dataset}", "evaluate.every=1", "evaluate.often=1"), 2, "known ones: dataset, every"),
        ((f"evaluate.dataset={dataset}", "evaluate.every=3", "log_every=2"), 2, "must be a multiple of log_every=2"),
        (("evaluate.dataset=nowhere", "evaluate.every=1"), 1, "nowhere: no such dataset folder"),
        ((f"evaluate.dataset={tmp_path / 'bare'}", "evaluate.every=1"), 1, "no true mask in its 1 videos"),
    ]
    for overrides, status, words in told:
        ended = cli(*train_arguments(dataset, tmp_path / "run", *overrides))
        assert ended.status == status and words in ended.err, ended.err


def test_curves_of_nothing(tmp_path: Path) -> None:
    plot_curves([], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()
