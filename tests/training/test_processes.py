"""A step is the same however its samples are divided: batches, accumulated passes, processes; every task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.helpers import ROOT, make_video
from tests.models.clicknet.test_modeling_clicknet import TINY as TINY_CLICKNET
from tests.models.clicknet.test_modeling_clicknet import TINY_BACKBONE
from tests.training.clicks.test_dynamite import TINY as TINY_DYNAMITE
from tests.training.stcn.test_clips import moving_boxes
from tests.training.stcn.test_task import TINY_STCN
from vng.config_files import shipped_configs
from vng.dataset_writer import write_dataset
from vng.errors import UsageError
from vng.training.launch import check_launch
from vng.training.tasks import load_recipe, train_recipe

TASKS = ("grounding", "clicks", "dynamite", "stcn")
STEPS = 3


def recipe(task: str, root: Path) -> dict[str, Any]:
    """A tiny recipe without dropout; batch norm takes statistics in those of clicks and stcn.

    Gradients that are zero but for rounding, as of the biases of attention keys, move by a whole rate in AdamW: the
    difference that is left grows with the rate.
    """
    if task == "grounding":
        tree = yaml.safe_load((shipped_configs() / "tiny.yaml").read_text())
        tree["data"]["path"] = str(root / "videos")
        tree["model"]["text_encoder"] |= {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
        tree["model"]["sizes"] |= {"dropout": 0, "freeze_batch_norm": True}
    elif task == "clicks":
        sizes = TINY_CLICKNET | {"embedding_heads": 1, "embedding_dim": 3, "basis_dim": 2}
        data = {"size": [32, 64], "prompts": 2, "path": str(root / "videos")}
        # Without expansion: each further batch norm over a handful of cells enlarges what rounding leaves.
        backbone = TINY_BACKBONE | {"expansion": 1}
        tree = {"task": "clicks", "data": data, "model": {"backbone": backbone, "sizes": sizes}}
    elif task == "dynamite":
        tree = yaml.safe_load(TINY_DYNAMITE.format(out="", data=root / "videos"))
        tree["model"]["sizes"]["freeze_batch_norm"] = True
    else:
        tree = json.loads(json.dumps(TINY_STCN))
        tree["data"]["path"] = str(root / "boxes")
    return tree | {"log_every": 1, "save_every": 1, "optimizer": {"steps": STEPS, "lr": 5e-5, "clip_norm": 0.1}}


def write_recipe(task: str, root: Path, name: str, **optimizer: int) -> Path:
    tree = recipe(task, root)
    tree["optimizer"] |= optimizer
    tree["out"] = str(root / f"{task}-{name}")
    (root / f"{task}-{name}.yaml").write_text(yaml.safe_dump(tree))
    return root / f"{task}-{name}.yaml"


def launched(paths: list[Path], **environment: str) -> subprocess.Popen[str]:
    """Two processes that train the recipes."""
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29671"]
    call = [sys.executable, *words, "-m", "tests.training.run_recipes", *map(str, paths)]
    own = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=own)


def ended(process: subprocess.Popen[str]) -> None:
    """Wait until they have done it."""
    _, error = process.communicate()
    assert process.returncode == 0, error[-3000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four samples a step, for every task: one pass, two passes, two processes, and two processes continued by one."""
    root = tmp_path_factory.mktemp("runs")
    write_dataset(root / "videos", [make_video("one"), make_video("two words", seed=1)], "test")
    write_dataset(root / "boxes", [moving_boxes()], "test")
    beside = launched([write_recipe(task, root, "processes", batch_size=2) for task in TASKS])
    for task in TASKS:
        train_recipe(load_recipe(write_recipe(task, root, "one", batch_size=4)), progress=False)
        train_recipe(load_recipe(write_recipe(task, root, "passes", batch_size=2, accumulate=2)), progress=False)
    ended(beside)
    ended(launched([write_recipe(task, root, "continued", batch_size=2) for task in TASKS], STOP_AT="1"))
    for task in TASKS:
        train_recipe(load_recipe(root / f"{task}-continued.yaml"), progress=False)
    return root


@pytest.mark.parametrize("name", ["passes", "processes", "continued"])
@pytest.mark.parametrize("task", TASKS)
def test_weights_are_those_of_one_pass(runs: Path, task: str, name: str) -> None:
    one, other = (load_file(runs / f"{task}-{n}" / "model.safetensors") for n in ("one", name))
    assert one.keys() == other.keys()
    difference = sum(float((one[key].double() - other[key].double()).square().sum()) for key in one) ** 0.5
    size = sum(float(value.double().square().sum()) for value in one.values()) ** 0.5
    assert difference <= 1e-5 * size
    logs = [
        [json.loads(line)["loss"] for line in (runs / f"{task}-{n}" / "log.jsonl").read_text().splitlines()]
        for n in ("one", name)
    ]
    assert len(logs[0]) == STEPS and logs[1] == pytest.approx(logs[0], rel=1e-4)


def test_samples_of_a_step_are_kept(runs: Path) -> None:
    manifest = json.loads((runs / "stcn-continued" / "training.json").read_text())
    assert manifest["samples_per_step"] == 4 and manifest["settings"]["optimizer"]["accumulate"] == 1


def test_samples_that_cannot_be_divided(runs: Path) -> None:
    path = runs / "clicks-continued.yaml"
    manifest = runs / "clicks-continued" / "training.json"
    content = manifest.read_text()
    (runs / "clicks-continued" / "config.json").rename(runs / "config.json")
    try:
        manifest.write_text(content.replace('"samples_per_step": 4', '"samples_per_step": 5'))
        with pytest.raises(UsageError, match="started with 5 samples a step, which 1 processes with batch_size 2"):
            train_recipe(load_recipe(path), progress=False)
    finally:
        manifest.write_text(content)
        (runs / "config.json").rename(runs / "clicks-continued" / "config.json")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16", "the recipe has precision=no; set precision=bf16"),
        ("ACCELERATE_USE_FSDP", "true", "accelerate launch with FSDP: not supported"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "--dynamo_backend: not supported"),
    ],
)
def test_launches_that_the_recipe_does_not_follow(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    check_launch("no", cpu=True)
    check_launch("bf16", cpu=True)
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as error:
        check_launch("no", cpu=True)
    assert words in str(error.value)


def test_half_precision_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="precision=fp16: there is no GPU here"):
        check_launch("fp16", cpu=True)
    check_launch("fp16", cpu=False)


def test_the_recipe_decides_how_passes_accumulate(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    train_recipe(load_recipe(write_recipe("stcn", runs, "variable", batch_size=4)), progress=False)
    one, other = (load_file(runs / f"stcn-{name}" / "model.safetensors") for name in ("one", "variable"))
    assert all(torch.equal(one[name], other[name]) for name in one)
