"""The grounder against the goldens of the authors' program (PEERS.md, section 3), with weights that come from names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.golden_weights import REFERFORMER_GAINS, drawn, referformer_state
from vng.models.referformer.configuration_referformer import ReferFormerConfig
from vng.models.referformer.import_checkpoint import from_reference
from vng.models.referformer.losses_referformer import Prediction, losses, make_targets, match
from vng.models.referformer.modeling_referformer import DeformableAttention, ReferFormerForVNG, level_arguments

CASES = {
    "box_refine": {},
    "two_videos_padded": {},
    "no_box_refine": {"with_box_refine": False},
    "no_relative_coordinates": {"relative_coordinates": False},
    "narrative_nouns": {"conditioning": "noun"},
}
TERMS = {"class": "loss_ce", "box": "loss_bbox", "giou": "loss_giou", "mask": "loss_mask", "dice": "loss_dice"}
WEIGHTS = {"class": 2.0, "box": 5.0, "giou": 2.0, "mask": 2.0, "dice": 5.0}


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "goldens" / "referformer"


@pytest.fixture(scope="module")
def arrays(folder: Path) -> dict[str, np.ndarray]:
    return dict(np.load(folder / "golden_rf.npz"))


@pytest.fixture(scope="module")
def meta(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "golden_rf.json").read_text())


def golden_model(folder: Path, text: dict[str, Any], changes: dict[str, Any]) -> ReferFormerForVNG:
    sizes = {"conditioning": "sentence", **changes}
    text = {"model_type": "roberta", **{k: v for k, v in text.items() if k != "attn_implementation"}}
    config = ReferFormerConfig(text_config=text, **sizes)
    shapes = [line.split("\t")[:2] for line in (folder / "state_dict_keys.txt").read_text().splitlines()]
    keys = {key: json.loads(shape) for key, shape in shapes}
    if not config.relative_coordinates:  # two inputs of eight channels fewer
        keys |= {
            f"controller.layers.2.{name}": [2137, *keys[f"controller.layers.2.{name}"][1:]]
            for name in ("weight", "bias")
        }
    return from_reference(referformer_state(keys), config).eval()


def inputs(arrays: dict[str, np.ndarray], name: str) -> dict[str, torch.Tensor]:
    given = {
        key: torch.from_numpy(arrays[f"{name}/in/{key}"]) for key in ("pixel_values", "input_ids", "attention_mask")
    }
    return {**given, "pixel_mask": torch.from_numpy(~arrays[f"{name}/in/padding"])}


def near(found: torch.Tensor, wanted: np.ndarray, what: str) -> None:
    """Within 1e-4, or within half precision where that is how it is stored."""
    rough = wanted.dtype == np.float16
    np.testing.assert_allclose(
        found.numpy(), wanted.astype(np.float32), atol=2e-3 if rough else 1e-4, rtol=1e-3 if rough else 0, err_msg=what
    )


@pytest.mark.parametrize("name", CASES)
def test_outputs_losses_and_matching(
    folder: Path, arrays: dict[str, np.ndarray], meta: dict[str, Any], name: str
) -> None:
    model = golden_model(folder, meta["text_encoder"], CASES[name])
    batch = inputs(arrays, name)
    prefixes, nouns = [f"{name}/"], None
    if name == "narrative_nouns":  # two runs of theirs, one pass of ours
        prefixes = [f"{name}/noun0/", f"{name}/noun1/"]
        nouns = torch.zeros(1, 2, batch["input_ids"].shape[1], dtype=torch.bool)
        for noun, prefix in enumerate(prefixes):
            nouns[0, noun, torch.from_numpy(arrays[f"{prefix}token_positions"])] = True
    with torch.no_grad():
        scene = model.encode(**batch)
        layers = model.decode(scene, nouns, all_layers=True)
    for noun, prefix in enumerate(prefixes):
        per_layer = [tuple(part[:, noun] for part in layer) for layer in layers]
        check_outputs(per_layer, arrays, prefix)
        check_losses(per_layer, scene.sizes, arrays, name, meta[prefix])


def check_outputs(layers: list[tuple[torch.Tensor, ...]], arrays: dict[str, np.ndarray], prefix: str) -> None:
    logits, boxes, masks, looked_at = layers[-1]
    near(logits[..., None], arrays[f"{prefix}pred_logits"], "logits")
    near(boxes, arrays[f"{prefix}pred_boxes"], "boxes")
    near(masks, arrays[f"{prefix}pred_masks"], "masks")
    near(looked_at, arrays[f"{prefix}reference_points"], "reference points")
    for index, (_, boxes, masks, _) in enumerate(layers[:-1]):
        near(boxes, arrays[f"{prefix}aux{index}_boxes"], f"boxes of layer {index}")
        near(masks, arrays[f"{prefix}aux{index}_masks_f16"], f"masks of layer {index}")


def check_losses(
    layers: list[tuple[torch.Tensor, ...]],
    sizes: torch.Tensor,
    arrays: dict[str, np.ndarray],
    name: str,
    wanted: dict[str, Any],
) -> None:
    height, width = arrays[f"{name}/in/pixel_values"].shape[-2:]
    truth = torch.zeros(len(sizes), layers[0][0].shape[1], height, width, dtype=torch.bool)
    for clip in range(len(sizes)):
        masks = arrays[f"{name}/in/target{clip}_masks"]
        truth[clip, :, : masks.shape[1], : masks.shape[2]] = torch.from_numpy(masks)
    targets = make_targets(truth, torch.ones(truth.shape[:2], dtype=torch.bool), sizes, torch.ones(len(sizes)))
    boxes = torch.stack([torch.from_numpy(arrays[f"{name}/in/target{clip}_boxes"]) for clip in range(len(sizes))])
    if len(sizes) == 1:
        near(targets.boxes, boxes.numpy(), "true boxes")
    targets = replace(targets, boxes=boxes)  # of a padded clip theirs were made relative to the padded size
    chosen = match(Prediction(*layers[-1][:3]), targets, WEIGHTS)
    assert chosen.tolist() == [query for (query,), _ in wanted["match"]]
    total = 0.0
    for index, layer in enumerate(layers):
        suffix = "" if index == len(layers) - 1 else f"_{index}"
        found = losses(Prediction(*layer[:3]), targets, WEIGHTS)
        for term, value in found.items():
            assert float(value) == pytest.approx(wanted["losses"][TERMS[term] + suffix], abs=1e-4), (term, index)
            total += WEIGHTS[term] * float(value)
    assert total == pytest.approx(wanted["total"], abs=1e-4 * len(layers))


@pytest.mark.parametrize("name", ["msda2", "msda4"])
def test_deformable_attention(arrays: dict[str, np.ndarray], name: str) -> None:
    """One layer at reference points and at reference boxes, part of the memory padded."""
    shapes = [(12, 20), (6, 10), (3, 5)]
    given = {key: torch.from_numpy(arrays[f"deformable_attention/{name}/{key}"]) for key in ("q", "src", "ref", "pm")}
    sizes = {"d_model": 64, "attention_heads": 4, "num_feature_levels": len(shapes), "num_points": 2}
    layer = DeformableAttention(ReferFormerConfig(**sizes))
    shapes_of = {key: list(value.shape) for key, value in layer.state_dict().items()}
    layer.load_state_dict({key: drawn(key, shape, REFERFORMER_GAINS, seed=5) for key, shape in shapes_of.items()})
    levels = level_arguments(shapes, torch.device("cpu"))
    found = layer.read(given["q"], given["src"], ~given["pm"], given["ref"], levels)
    near(found.detach(), arrays[f"deformable_attention/{name}/y"], name)
