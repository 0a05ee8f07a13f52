"""Fine-tuning of every shipped model: stored in half precision, trained in float32, by name, with a falling loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.fine_tuning import fine_tune, make_clips
from vng.models.loading import SHIPPED, find_model

STEPS = {"embedded": 40, "stcn": 20, "abs": 30}  # the clicks of a sample are drawn, and the loss varies with them


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("clips"), "easy")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_loss_falls(name: str, clips: Path, tmp_path: Path) -> None:
    shipped = load_file(find_model(name) / "model.safetensors")  # type: ignore[operator]
    assert {value.dtype for value in shipped.values() if value.is_floating_point()} == {torch.float16}
    losses = fine_tune(name, clips, tmp_path / "run", STEPS[name])
    assert len(losses) == 10 and np.isfinite(losses).all()
    assert np.mean(losses[5:]) < np.mean(losses[:5]), losses
    trained = load_file(tmp_path / "run" / "model.safetensors")
    assert set(trained) == set(shipped)
    assert {value.dtype for value in trained.values() if value.is_floating_point()} == {torch.float32}
    assert any(not torch.equal(trained[key], shipped[key].float()) for key in shipped)
