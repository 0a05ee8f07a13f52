"""Small real data that every test can use; nothing outside the checkout is needed."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's client: tests never wait for a network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: on tiny models, threads wait longer than they work

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conversion.synthetic.world import write_world
from tests.helpers import ROOT, Cli, make_video
from vng.cli import main
from vng.dataset_writer import write_dataset

SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and goldens beside the checkout; tests that want it are skipped without it."""
    if not SHARED.exists():
        pytest.skip("../shared/data is not here")
    return SHARED


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A procedural set of five easy videos."""
    out = tmp_path_factory.mktemp("world")
    write_world(out, 5, 3, "easy", progress=False)
    return out


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of two hand-made videos."""
    write_dataset(tmp_path / "dataset", [make_video("one"), make_video("two words", seed=1)], "hand-made")
    return tmp_path / "dataset"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Cli]:
    """Run `vng ...` in this process: status, standard output, standard error."""

    def run(*arguments: object) -> Cli:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Cli(status, captured.out, captured.err)

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator."""
    return np.random.default_rng(0)
