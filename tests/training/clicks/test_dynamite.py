"""`vng train` of DynaMITe: its samples, and a tiny one through the loop into the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conversion.synthetic.scene import PRESETS
from conversion.synthetic.world import make_world
from tests.helpers import Cli
from tests.models.dynamite.test_modeling_dynamite import tiny_config
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.frames import ArrayFrames
from vng.models.dynamite.clicks import Trace
from vng.models.dynamite.modeling_dynamite import DynamiteModel
from vng.models.dynamite.processing_dynamite import batch_of
from vng.points import BACKGROUND, PointPrompts
from vng.segmenters import load
from vng.training.clicks.dynamite import InteractiveSampler
from vng.training.clicks.recipe import DynamiteDataSettings

TINY = """
task: dynamite
out: {out}
data: {{path: {data}, size: [64, 96]}}
model:
  backbone: {{model_type: resnet, embedding_size: 8, hidden_sizes: [8, 8, 12, 16], depths: [1, 1, 1, 1], layer_type: basic,
             out_features: [stage1, stage2, stage3, stage4]}}
  sizes: {{hidden_size: 32, attention_heads: 4, pixel_decoder_layers: 1, pixel_decoder_feedforward: 16, encoder_layers: 3,
          encoder_feedforward: 24, decoder_layers: 1, decoder_feedforward: 16, static_background: 2, points: 60,
          short_side: 0, freeze_batch_norm: false, most_rounds: 2}}
optimizer: {{steps: 3, batch_size: 2, lr: 1.0e-3}}
log_every: 1
save_every: 1
"""


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two procedural videos with true masks."""
    out = tmp_path_factory.mktemp("masks") / "d"
    worlds = [make_world(index, 8, PRESETS["easy"]) for index in range(2)]
    write_dataset(out, [replace(w.record, frames=ArrayFrames(w.frames, w.record.frame_names)) for w in worlds], "t")
    return out


def test_traces_are_prompts_whose_projection_learns(masks: Path) -> None:
    data = DynamiteDataSettings.model_validate({"path": masks, "size": (64, 96), "traces": 1.0})
    sampler = InteractiveSampler([VngDataset(masks)], data, 3, 20, traces=1.0)
    samples = [sampler[i] for i in range(3)]
    for sample in samples:
        traces = [query for query in sample.clicks if isinstance(query, Trace)]
        assert [trace.owner for trace in sorted(traces, key=lambda t: t.owner)] == list(range(len(sample.masks)))
        assert all(isinstance(q, Trace) or q.owner == BACKGROUND for q in sample.clicks)
        on = [np.mean([sample.masks[t.owner, int(y), int(x)] for y, x in t.points]) for t in traces]
        assert np.mean(on) > 0.4 and min(len(t.points) for t in traces) > 10  # pixels of lines, not positions alone
    torch.manual_seed(0)
    model = DynamiteModel(tiny_config(most_rounds=1))
    model(**batch_of(samples)).loss.backward()
    moved = [n for n, p in model.named_parameters() if "trace" in n and p.grad is not None and p.grad.abs().sum() > 0]
    assert moved, [n for n, _ in model.named_parameters() if "trace" in n]


def test_changes_can_be_turned_off(masks: Path) -> None:
    off = {"rotation": 0, "aspect": 0, "flip": 0, "colour": 0, "companions": 0, "scale": (1.0, 1.0)}
    data = DynamiteDataSettings.model_validate({"path": masks, "size": (96, 160), **off})
    frames = [frame for video in VngDataset(masks) for frame in video.opened_frames()]
    sampler = InteractiveSampler([VngDataset(masks)], data, 3, 20)
    shown = [sampler[i].image for i in range(4)]
    assert frames[0].shape == (96, 160, 3)
    # A frame as it is, but for its place: the crop keeps an object in view.
    assert all(any(np.abs(image.mean((0, 1)) - frame.mean((0, 1))).max() < 12 for frame in frames) for image in shown)


def test_samples(masks: Path) -> None:
    sampler = InteractiveSampler([VngDataset(masks)], DynamiteDataSettings(path=masks, size=(64, 96)), 3, 20)
    samples = [sampler[i] for i in range(6)]
    for sample in samples:
        assert sample.image.shape == (64, 96, 3) and sample.masks.shape[1:] == (64, 96)
        assert (sample.masks.sum(0) <= 1).all() and (sample.masks.sum((1, 2)) > 50).all()
        assert {c.owner for c in sample.clicks} >= set(range(len(sample.masks)))
        for click in sample.clicks:
            if click.owner != BACKGROUND:
                assert sample.masks[click.owner, int(click.y), int(click.x)]
    again = sampler[4]
    assert np.array_equal(again.image, samples[4].image) and again.clicks == samples[4].clicks
    batch = batch_of(samples)
    k = max(len(s.masks) for s in samples)
    assert batch["target_masks"].shape == (6, k, 64, 96) and batch["pixel_values"].shape == (6, 3, 64, 96)
    assert batch["target_valid"].sum(1).tolist() == [len(s.masks) for s in samples]


def test_trained_model_segments(masks: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
    (tmp_path / "recipe.yaml").write_text(TINY.format(out=tmp_path / "run", data=masks))
    ended = cli("train", tmp_path / "recipe.yaml", "--quiet")
    assert ended.status == 0, ended.err
    segmenter = load("dynamite", checkpoint=str(tmp_path / "run"))
    prompts = [
        PointPrompts(np.array([[9, 20]]), np.array([[50, 5]])),
        PointPrompts(np.array([[60, 30]]), np.empty((0, 2))),
    ]
    found = segmenter(VngDataset(masks)[0].opened_frames()[0], prompts)
    assert found.shape == (2, *VngDataset(masks)[0].opened_frames().size) and np.isfinite(found).all()
    again = cli("train", tmp_path / "recipe.yaml", f"out={tmp_path / 'again'}", "--quiet")
    assert again.status == 0
    # the same seed, the same bytes
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        tmp_path / "again" / "model.safetensors"
    ).read_bytes()


def test_wrong_recipes(masks: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
    (tmp_path / "recipe.yaml").write_text(TINY.format(out=tmp_path / "run", data=masks))
    for override, status, words in (
        ("model.sizes.magic=1", 2, "unknown sizes"),
        ("task=magic", 2, "unknown task 'magic'; choose one of: abs, clicks, dynamite, grounding"),
        ("model.backbone=none/such", 1, "none/such: neither a folder nor available from the hub"),
        (f"model.init={tmp_path}", 1, "no trained model here"),
    ):
        ended = cli("train", tmp_path / "recipe.yaml", override, "--quiet")
        assert ended.status == status and words in ended.err, ended.err
