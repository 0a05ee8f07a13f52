"""The STCN task from a shell: four supervisions, stills, pre-trained backbones, resumption; its key encoder in a grounder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.helpers import TINY_MODEL, Cli, make_video
from tests.training.stcn.test_clips import moving_boxes
from vng.config_files import shipped_configs
from vng.dataset_writer import write_dataset
from vng.models.stcn.modeling_stcn import Stcn

RESNET = {"model_type": "resnet", "embedding_size": 6, "layer_type": "basic"}
TINY_STCN = {
    "task": "stcn",
    "data": {"size": [32, 48], "distance": 2, "crop": [0.8, 1.0]},
    "model": {
        "key_backbone": {
            **RESNET,
            "hidden_sizes": [8, 10, 12],
            "depths": [1, 1, 1],
            "out_features": ["stage1", "stage2", "stage3"],
        },
        "value_backbone": {
            **RESNET,
            "num_channels": 5,
            "hidden_sizes": [6, 9, 11],
            "depths": [1, 1, 1],
            "out_features": ["stage3"],
        },
        "sizes": {"key_dim": 7, "value_dim": 14, "thin_dim": 9, "decoder_dims": [10, 8, 6], "norm_batches": 1000},
    },
    "optimizer": {"steps": 2, "batch_size": 2, "lr": 1e-3, "schedule": "constant"},
    "log_every": 1,
    "save_every": 1,
}


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "boxes", [moving_boxes()], "test")
    return tmp_path / "boxes"


@pytest.fixture
def recipe(tmp_path: Path, boxes: Path) -> Path:
    tree = json.loads(json.dumps(TINY_STCN))
    tree |= {"supervision": "points", "out": str(tmp_path / "run")}
    tree["data"]["sources"] = [{"path": str(boxes)}]
    (tmp_path / "stcn.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "stcn.yaml"


def log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("supervision", "trains"),
    [("masks", "masks"), ("pseudo_masks", "masks"), ("points", "points"), ("hybrid", "masks")],
)
@pytest.mark.parametrize("stills", [False, True])
def test_every_supervision_trains(
    tmp_path: Path, recipe: Path, cli: Callable[..., Cli], supervision: str, trains: str, stills: bool
) -> None:
    ended = cli("train", recipe, f"supervision={supervision}", f"data.stills={stills}", "--quiet")
    assert ended.status == 0, ended.err
    for record in log(tmp_path / "run"):
        assert record[trains] > 0 and record["masks" if trains == "points" else "points"] == 0
    model = Stcn.from_pretrained(tmp_path / "run")
    assert sum(p.numel() for p in model.parameters()) > 1000


def test_the_reference_is_read_where_it_has_a_weight(tmp_path: Path, recipe: Path, cli: Callable[..., Cli]) -> None:
    assert cli("train", recipe, "loss.reference=0.5", "--quiet").status == 0
    assert all(record["reference"] > 0 for record in log(tmp_path / "run"))
    assert Stcn.from_pretrained(tmp_path / "run").config.reads_reference


def test_stopped_and_resumed_ends_in_the_same_weights(tmp_path: Path, recipe: Path, cli: Callable[..., Cli]) -> None:
    arguments = ["optimizer.steps=4", "save_every=2", "log_every=2", "--quiet"]
    assert cli("train", recipe, *arguments, f"out={tmp_path / 'whole'}").status == 0
    from vng.training import loop

    wanted, calls = loop._train_step, []

    def stopped(*arguments: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return wanted(*arguments, **more)  # type: ignore[arg-type]

    loop._train_step = stopped  # type: ignore[assignment]
    try:
        assert cli("train", recipe, *arguments, f"out={tmp_path / 'twice'}").status == 130
    finally:
        loop._train_step = wanted
    assert cli("train", recipe, *arguments, f"out={tmp_path / 'twice'}").status == 0
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "twice"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_pretrained_backbones(tmp_path: Path, recipe: Path, cli: Callable[..., Cli]) -> None:
    """As from `microsoft/resnet-50`: its last stage is left out; the mask channels of the value encoder are new."""
    from transformers import ResNetBackbone, ResNetConfig

    torch.manual_seed(0)
    given = ResNetBackbone(
        ResNetConfig(
            **{k: v for k, v in RESNET.items() if k != "model_type"}, hidden_sizes=[8, 10, 12, 14], depths=[1, 1, 1, 1]
        )
    )
    given.save_pretrained(tmp_path / "resnet")
    ended = cli(
        "train",
        recipe,
        f"model.key_backbone={tmp_path / 'resnet'}",
        f"model.value_backbone={tmp_path / 'resnet'}",
        "model.sizes.norm_batches=0",
        "optimizer.lr=1e-6",
        "--quiet",
    )
    assert ended.status == 0, ended.err
    model, stem = Stcn.from_pretrained(tmp_path / "run"), "embedder.embedder.convolution.weight"
    wanted = given.state_dict()[stem]
    assert torch.allclose(model.key_encoder.state_dict()[stem], wanted, atol=1e-4)
    found = model.value_encoder.backbone.state_dict()[stem]
    assert found.shape[1] == 5 and torch.allclose(found[:, :3], wanted, atol=1e-4)
    assert len(model.key_encoder.encoder.stages) == 3


def test_a_backbone_that_is_nowhere(recipe: Path, cli: Callable[..., Cli], tmp_path: Path) -> None:
    ended = cli("train", recipe, f"model.key_backbone={tmp_path / 'nowhere'}", "--quiet")
    assert ended.status == 1 and "check the backbone's name" in ended.err


def grounder_arguments(tmp_path: Path, backbone: Path) -> list[object]:
    write_dataset(tmp_path / "dataset", [make_video("one")], "hand-made")
    settings = {**TINY_MODEL, "data.path": tmp_path / "dataset", "out": tmp_path / "grounder", "optimizer.steps": 2}
    (tmp_path / "grounder.yaml").write_text(
        f"base: {shipped_configs() / 'tiny.yaml'}\nmodel: {{backbone: {backbone}}}\n"
    )
    return ["train", tmp_path / "grounder.yaml", *(f"{k}={v}" for k, v in settings.items()), "--quiet"]


def test_key_encoder_as_the_grounders_backbone(tmp_path: Path, recipe: Path, cli: Callable[..., Cli]) -> None:
    """The grounder starts from the key encoder, trains, and opens again; strides beyond 16 are convolved."""
    assert cli("train", recipe, "--quiet").status == 0
    ended = cli(*grounder_arguments(tmp_path, tmp_path / "run"))
    assert ended.status == 0, ended.err
    key = Stcn.from_pretrained(tmp_path / "run").key_encoder.state_dict()
    trained = load_file(tmp_path / "grounder" / "model.safetensors")
    weights = [name for name in key if name.endswith("weight") and "convolution" in name]
    assert len(weights) > 6
    for name in weights:
        assert 0 <= float((trained[f"backbone.{name}"] - key[name]).abs().max()) < 0.01
    from vng.grounding.grounder import NarrativeGrounder

    NarrativeGrounder.from_pretrained(str(tmp_path / "grounder"))


def test_a_backbone_kept_in_half_precision_trains_in_full(
    tmp_path: Path, recipe: Path, cli: Callable[..., Cli]
) -> None:
    """The embedded Point-STCN is kept in float16: the grounder over it trains, is saved and opens in float32."""
    assert cli("train", recipe, "--quiet").status == 0
    Stcn.from_pretrained(tmp_path / "run").half().save_pretrained(tmp_path / "half")
    ended = cli(*grounder_arguments(tmp_path, tmp_path / "half"))
    assert ended.status == 0, ended.err
    from vng.models.referformer.loading import load_model

    assert {value.dtype for value in load_model(str(tmp_path / "grounder")).parameters()} == {torch.float32}


def test_a_point_stcn_with_a_weight_missing_is_refused(tmp_path: Path, recipe: Path, cli: Callable[..., Cli]) -> None:
    assert cli("train", recipe, "--quiet").status == 0
    weights = load_file(tmp_path / "run" / "model.safetensors")
    gone = next(name for name in weights if name.startswith("key_encoder") and "convolution" in name)
    del weights[gone]
    save_file(weights, tmp_path / "run" / "model.safetensors", metadata={"format": "pt"})
    ended = cli(*grounder_arguments(tmp_path, tmp_path / "run"))
    assert ended.status == 1 and "1 missing" in ended.err and gone in ended.err
    assert not (tmp_path / "grounder" / "config.json").exists()


def test_a_pretrained_backbone_with_weights_missing_is_refused(
    tmp_path: Path, recipe: Path, cli: Callable[..., Cli]
) -> None:
    from transformers import ResNetBackbone, ResNetConfig

    sizes = {k: v for k, v in RESNET.items() if k != "model_type"}
    ResNetBackbone(ResNetConfig(**sizes, hidden_sizes=[8, 10, 12], depths=[1, 1, 1])).save_pretrained(tmp_path / "part")
    weights = load_file(tmp_path / "part" / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "stages.1" not in name}
    save_file(kept, tmp_path / "part" / "model.safetensors", metadata={"format": "pt"})
    ended = cli("train", recipe, f"model.key_backbone={tmp_path / 'part'}", "--quiet")
    assert ended.status == 1 and "missing: encoder.stages.1" in ended.err
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_model_of_another_type_is_named(tmp_path: Path, recipe: Path, cli: Callable[..., Cli]) -> None:
    assert cli("train", recipe, "--quiet").status == 0
    from vng.errors import DataError
    from vng.models.clicknet.modeling_clicknet import ClickNet
    from vng.models.loading import load_strictly

    with pytest.raises(DataError, match="holds a model of type stcn, expected clicknet"):
        load_strictly(ClickNet, tmp_path / "run")


def test_a_source_without_anything_to_train_on_is_named(tmp_path: Path, recipe: Path, cli: Callable[..., Cli]) -> None:
    """Though another source of the mixture has what is asked for."""
    write_dataset(tmp_path / "bare", [moving_boxes(points=False)], "test")
    mixture = f"data.sources=[{{path: {tmp_path / 'boxes'}}}, {{path: {tmp_path / 'bare'}}}]"
    ended = cli("train", recipe, mixture, "--quiet")
    assert ended.status == 1 and "bare" in ended.err and "supervision (points)" in ended.err
