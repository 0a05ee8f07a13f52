"""Damaged model folders: an error that names the folder, never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import TINY_MODEL, Cli
from vng.errors import DataError
from vng.models.referformer.loading import load_model, load_processor


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Path:
    """A grounder of one step."""
    from vng.cli import main

    root = tmp_path_factory.mktemp("model")
    trio = world / "vng"
    files = ["--meta", trio / "meta_expressions.json", "--extra-masks", trio / "extra_masks.json"]
    files += ["--orig-masks", trio / "orig_masks.json", "--frames", world / "frames"]
    assert main([str(w) for w in ["convert", "vng", *files, "--out", root / "data", "--quiet"]]) == 0
    settings = {**TINY_MODEL, "data.path": root / "data", "out": root / "run", "optimizer.steps": 1, "save_every": 1}
    assert main(["train", "tiny", "--quiet", *(f"{key}={value}" for key, value in settings.items())]) == 0
    return root / "run"


def write(file: str, value: Any) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_text(value if isinstance(value, str) else json.dumps(value))


def changed(file: str, **fields: Any) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | fields))


def not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name, value in weights.items() if value.is_floating_point())
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    "damage",
    [
        write("config.json", [1]),
        write("config.json", "{"),
        write("config.json", "[" * 100_000),
        changed("config.json", d_model="wide"),
        changed("config.json", model_type="stcn_vng"),
        write("processor_config.json", [1]),
        changed("processor_config.json", short_side=10**9),
        changed("processor_config.json", short_side="360"),
        write("tokenizer.json", {}),
        write("tokenizer.json", "x"),
        not_finite,
        cut,
    ],
)
def test_a_damaged_folder_is_named(model: Path, tmp_path: Path, damage: Callable[[Path], object], cli: Any) -> None:
    folder = tmp_path / "m"
    shutil.copytree(model, folder)
    load_model(str(folder))
    load_processor(str(folder))
    damage(folder)
    with pytest.raises(DataError, match=str(folder)):
        load_model(str(folder))
        load_processor(str(folder))


def test_the_command_says_so(model: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
    shutil.copytree(model, tmp_path / "m")
    not_finite(tmp_path / "m")
    ended = cli("predict", "--model", tmp_path / "m", "--dataset", model.parent / "data", "--out", tmp_path / "out")
    assert ended.status == 1 and "1 not finite" in ended.err and not list((tmp_path / "out").glob("*.png"))
