"""Class-agnostic instances for PointVIS: the task, and the whole of its command on a tiny model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation

from tests.helpers import Cli
from tests.training.stcn.test_clips import moving_boxes
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import UsageError
from vng.training.instances.recipe import InstancesModelSettings
from vng.training.instances.task import TrainedInstances, _model
from vng.training.tasks import load_recipe

SWIN: dict[str, Any] = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
TINY: dict[str, Any] = {
    "backbone_config": SWIN,
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_feedforward_dim": 32,
    "dim_feedforward": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 2,
    "num_queries": 6,
    "train_num_points": 64,
}


def tiny() -> Mask2FormerForUniversalSegmentation:
    torch.manual_seed(0)
    return _model(InstancesModelSettings(init=None, config=TINY))


def test_one_class_and_a_loss_of_known_frames_alone() -> None:
    model = tiny()
    assert model.config.num_labels == 1
    trained = TrainedInstances(model)
    pixels = torch.randint(0, 255, (2, 2, 3, 64, 96), dtype=torch.uint8)
    labels = torch.zeros(2, 2, 64, 96, dtype=torch.long)
    labels[0, 0, 5:30, 5:40], labels[0, 0, 40:60, 50:80] = 1, 2
    labels[1] = 255
    output = trained(pixels, labels)
    output.loss.backward()
    assert output.loss > 0 and output.loss_terms["instances"] == output.loss.detach()
    nothing = trained(pixels[1:], labels[1:])
    assert nothing.loss == 0 and nothing.loss.requires_grad


def test_a_model_needs_a_start() -> None:
    with pytest.raises(ValueError, match="give init"):
        InstancesModelSettings(init=None)
    with pytest.raises(UsageError, match="supervision"):
        load_recipe(Path("pointvis/p1.yaml"), ["supervision=points"])


def test_pseudo_masks_training_and_a_round_of_self_training(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_dataset(tmp_path / "points", [moving_boxes(masks=False)], "test")
    (tmp_path / "first.yaml").write_text("propagator: proposals\nsettings: {source: colours, matching: frame}\n")
    again = "propagator: proposals\nsettings: {source: mask2former, confidence: score, source_options: '{\"short_side\": 64}'}\n"
    (tmp_path / "again.yaml").write_text(again)
    tiny().save_pretrained(tmp_path / "tiny")
    command = [sys.executable, "-m", "benchmarks.pointvis", "--points", tmp_path / "points", "--out", tmp_path / "out"]
    command += ["--proposals", tmp_path / "first.yaml", "--again", tmp_path / "again.yaml"]
    words = [f"model.init={tmp_path / 'tiny'}", "optimizer.steps=2", "optimizer.batch_size=1", "data.size=[64,64]"]
    words += ["log_every=2", "save_every=2", "precision=no", "optimizer.warmup=0"]
    done = subprocess.run([*map(str, command), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for number in (0, 1):
        assert (tmp_path / "out" / f"model-{number}" / "model.safetensors").exists()
        (video,) = VngDataset(tmp_path / "out" / f"pseudo-{number}")
        assert any(rle is not None for item in video.objects for rle in item.segmentations)
