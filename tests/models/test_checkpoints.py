"""Checkpoints as people have them: wrapped, with plain values beside the weights, or with code in them."""

from __future__ import annotations

import argparse
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vng.errors import DataError
from vng.models.checkpoints import read_checkpoint

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "b.bias": torch.ones(4)}


def saved(tmp_path: Path, value: Any) -> Path:
    torch.save(value, tmp_path / "c.pth")
    return tmp_path / "c.pth"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: OrderedDict({f"module.{name}": value for name, value in w.items()}),
        lambda w: {"model": {f"module._orig_mod.{name}": value for name, value in w.items()}},
        lambda w: {"state_dict": {f"model.{name}": value for name, value in w.items()}, "epoch": 3},
        lambda w: {"network": w, "it": 5, "best": np.float64(0.75), "counts": np.arange(3)},
        lambda w: {"model_state_dict": w, "args": argparse.Namespace(out=Path("x/y"), lr=0.1)},
        lambda w: {"checkpoint": {"model": w, "epoch": 1}},
    ],
    ids=["plain", "data parallel", "compiled", "lightning", "numpy scalar", "path", "nested"],
)
def test_weights_are_found(tmp_path: Path, wrap: Any) -> None:
    read = read_checkpoint(saved(tmp_path, wrap(WEIGHTS)))
    assert list(read) == list(WEIGHTS) and all(torch.equal(read[name], WEIGHTS[name]) for name in WEIGHTS)


def test_one_name_keeps_its_last_part(tmp_path: Path) -> None:
    assert list(read_checkpoint(saved(tmp_path, {"weight": torch.ones(2)}))) == ["weight"]


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harmed",)


def test_what_could_run_code_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"holds a (posix|nt).mkdir, which could run code; save the weights alone"):
        read_checkpoint(saved(tmp_path, {"model": WEIGHTS, "evil": Harmful()}))
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [([1, 2], "holds list, not weights"), ({}, "not weights"), ({"a": torch.ones(2), "b": 3}, "b: is not a tensor")],
)
def test_other_files(tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_checkpoint(saved(tmp_path, value))
