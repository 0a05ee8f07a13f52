"""Our model from weights of the authors' ReferFormer program, completely or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from torch import Tensor

from vng.errors import DataError
from vng.models.backbone_names import resnet_block, swin, swin_parts
from vng.models.checkpoints import load_exactly, read_checkpoint
from vng.models.referformer.configuration_referformer import STAGES, ReferFormerConfig
from vng.models.referformer.modeling_referformer import ReferFormerForVNG

_BODY = "backbone.0.body."
_RENAMES = {
    r"^backbone\.conv1\.": "backbone.embedder.embedder.convolution.",
    r"^backbone\.bn1\.": "backbone.embedder.embedder.normalization.",
    r"^resizer\.fc\.": "resizer_fc.",
    r"^resizer\.layer_norm\.": "resizer_norm.",
    r"^transformer\.level_embed$": "level_embed",
    r"^transformer\.reference_points\.": "reference_points.",
    r"^transformer\.(encoder|decoder)\.layers\.": r"\1.",
    r"^(encoder\.\d+|decoder\.\d+)\.(linear[12]\.)": r"\1.feedforward.\2",
    r"^(encoder\.\d+)\.norm2\.": r"\1.feedforward.norm.",
    r"^(decoder\.\d+)\.norm3\.": r"\1.feedforward.norm.",
}
# Aliases of parameters stored under another key, constants that we compute, and counters of a profiler.
_DROPPED = re.compile(
    r"^transformer\.decoder\.bbox_embed\.|position_ids$|relative_position_index$|num_batches_tracked$"
    r"|(^|\.)total_(ops|params)$"
)
_POOLER = "text_encoder.pooler."
# counters of frozen batch norm; a layer of Swin that no map passes through
_MAY_MISS = ("num_batches_tracked", "backbone.swin.layernorm.")
_HEADS = re.compile(r"^(class|bbox)_embed\.(\d+)\.")
HEADS = 8  # of every attention in all published models; the weights do not determine it
HEAD_WIDTHS = {"swin": 32, "roberta": 64}  # channels of a head, in all published backbones and text encoders


def _rename(key: str) -> str:
    key = swin(re.sub(rf"^{re.escape(_BODY)}", "backbone.", key))
    if key.startswith("backbone."):
        key = resnet_block(key)
    for pattern, replacement in _RENAMES.items():
        key = re.sub(pattern, replacement, key)
    return key


def _ours(state_dict: Mapping[str, Tensor], config: ReferFormerConfig) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights by our names, and the name each had in the checkpoint."""
    last = f"{config.decoder_layers - 1}."
    state: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for key, value in state_dict.items():
        if _DROPPED.search(key) or (config.conditioning == "noun" and key.startswith(_POOLER)):
            continue
        head = _HEADS.match(key)
        # Without refinement the layers share one head, which is stored once for each layer.
        if head and not config.with_box_refine:
            if not key[head.start(2) :].startswith(last):
                continue
            key = f"{head[1]}_embed.0.{key[head.end() :]}"
        parts = swin_parts(key.replace(_BODY, "backbone."), value) or {_rename(key): value}
        state |= parts
        origin |= dict.fromkeys(parts, key)
    return state, origin


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({m[1] for m in (re.match(pattern, key) for key in state) if m})


def _backbone(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Configuration of the backbone of a state dict: a ResNet with bottlenecks, or a Swin."""
    body = re.escape(_BODY)
    patches = state.get(f"{_BODY}patch_embed.proj.weight")
    if patches is not None and (patches.ndim == 5 or f"{_BODY}downsamples.0.norm.weight" in state):
        reason = "its backbone is a Video-Swin, which transformers does not have"
        cure = "use the checkpoint with a ResNet-50, ResNet-101, Swin-T, Swin-B or Swin-L"
        raise DataError("checkpoint", field=f"{_BODY}patch_embed.proj.weight", reason=reason, cure=cure)
    if patches is not None:
        width, depths = len(patches), [_count(state, rf"^{body}layers\.{i}\.blocks\.(\d+)\.") for i in range(4)]
        table = state[f"{_BODY}layers.0.blocks.0.attn.relative_position_bias_table"]
        heads = [width * 2**i // HEAD_WIDTHS["swin"] for i in range(4)]
        window = (round(len(table) ** 0.5) + 1) // 2
        return {
            "model_type": "swin",
            "embed_dim": width,
            "depths": depths,
            "num_heads": heads,
            "window_size": window,
            "drop_path_rate": 0.2 if width < 128 else 0.3,
            "out_features": STAGES,
        }
    if f"{_BODY}layer1.0.conv3.weight" in state and f"{_BODY}layer4.0.conv3.weight" in state:
        depths = [_count(state, rf"^{body}layer{i}\.(\d+)\.") for i in range(1, 5)]
        widths = [len(state[f"{_BODY}layer{i}.0.conv3.weight"]) for i in range(1, 5)]
        return {
            "model_type": "resnet",
            "embedding_size": len(state[f"{_BODY}conv1.weight"]),
            "depths": depths,
            "hidden_sizes": widths,
            "out_features": STAGES,
        }
    reason = "its backbone is neither a ResNet with bottlenecks nor a Swin"
    raise DataError("checkpoint", field=_BODY + "*", reason=reason, cure="give a configuration with its backbone")


def _text_encoder(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Configuration of a RoBERTa."""
    embeddings = "text_encoder.embeddings."
    vocabulary, width = state[f"{embeddings}word_embeddings.weight"].shape
    return {
        "model_type": "roberta",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": _count(state, r"^text_encoder\.encoder\.layer\.(\d+)\."),
        "num_attention_heads": max(1, width // HEAD_WIDTHS["roberta"]),
        "intermediate_size": len(state["text_encoder.encoder.layer.0.intermediate.dense.weight"]),
        "max_position_embeddings": len(state[f"{embeddings}position_embeddings.weight"]),
        "type_vocab_size": len(state[f"{embeddings}token_type_embeddings.weight"]),
        "layer_norm_eps": 1e-5,
    }


def _mask_head(parameters: int, mask_dim: int) -> dict[str, Any]:
    """Layers and channels of a dynamic mask head with this number of generated parameters; published ones first."""
    for layers, channels, relative in product((3, 2, 4), (8, 4, 16, 32), (True, False)):
        weights = (mask_dim + 2 * relative + (layers - 2) * channels + 1) * channels
        if weights + (layers - 1) * channels + 1 == parameters:
            return {"controller_layers": layers, "dynamic_mask_channels": channels, "relative_coordinates": relative}
    reason = f"{parameters} parameters of a dynamic mask head match no known number of layers and channels"
    raise DataError("checkpoint", field="controller.layers.2.weight", reason=reason, cure="give a configuration")


def infer_config(state_dict: Mapping[str, Tensor], conditioning: str = "noun") -> ReferFormerConfig:
    """The configuration of a state dict under the authors' names.

    Published models have 8 attention heads and a RoBERTa; text encoder, stem and first stage of a ResNet were frozen.

    Args:
        state_dict: weights.
        conditioning: initial content of the queries, "noun" or "sentence" (as the weights were trained).

    Raises:
        DataError: not a ReferFormer, one with several classes, or a backbone that transformers does not have.
    """
    needed = (
        "query_embed.weight",
        "controller.layers.2.weight",
        "pixel_decoder.mask_features.weight",
        "class_embed.0.weight",
        "transformer.encoder.layers.0.self_attn.attention_weights.weight",
        "transformer.encoder.layers.0.linear1.weight",
        "transformer.level_embed",
        "text_encoder.embeddings.word_embeddings.weight",
    )
    missing = [key for key in needed if key not in state_dict]
    if missing:
        raise DataError(
            "checkpoint",
            field=missing[0],
            reason="is missing: not a ReferFormer checkpoint",
            cure="choose another file",
        )
    if (classes := len(state_dict["class_embed.0.weight"])) != 1:
        reason = f"has {classes} classes; a grounder has one, 'referred to'"
        raise DataError(
            "checkpoint", field="class_embed.0.weight", reason=reason, cure="use a checkpoint trained with --binary"
        )
    levels, width = state_dict["transformer.level_embed"].shape
    samples = len(state_dict["transformer.encoder.layers.0.self_attn.attention_weights.weight"])
    mask_dim = len(state_dict["pixel_decoder.mask_features.weight"])
    backbone = _backbone(state_dict)
    return ReferFormerConfig(
        backbone_config=backbone,
        text_config=_text_encoder(state_dict),
        conditioning=conditioning,
        d_model=width,
        encoder_layers=_count(state_dict, r"^transformer\.encoder\.layers\.(\d+)\."),
        decoder_layers=_count(state_dict, r"^transformer\.decoder\.layers\.(\d+)\."),
        attention_heads=HEADS,
        feedforward_dim=len(state_dict["transformer.encoder.layers.0.linear1.weight"]),
        num_points=samples // levels // HEADS,
        num_feature_levels=levels,
        num_queries=len(state_dict["query_embed.weight"]),
        mask_dim=mask_dim,
        with_box_refine=any(key.startswith("transformer.decoder.bbox_embed.") for key in state_dict),
        freeze_text_encoder=True,
        frozen_stages=2 if backbone["model_type"] == "resnet" else 0,
        **_mask_head(len(state_dict["controller.layers.2.weight"]), mask_dim),
    )


def from_reference(
    state_dict: Mapping[str, Tensor], config: ReferFormerConfig | None = None, conditioning: str = "noun"
) -> ReferFormerForVNG:
    """Build the model from a state dict under the authors' key names.

    With conditioning "noun" the text encoder's pooler is left out; only "sentence" requires it.

    Args:
        state_dict: weights; ResNet or Swin backbones.
        config: the configuration the weights were trained with; None: see `infer_config`.
        conditioning: "noun" or "sentence", if there is no `config`.

    Raises:
        DataError: weights that are missing, unknown or of another size, with their names; nothing is loaded then.
    """
    config = config or infer_config(state_dict, conditioning)
    model = ReferFormerForVNG(config)
    state, origin = _ours(state_dict, config)
    load_exactly(model, state, origin, _MAY_MISS)
    return model


def from_file(
    path: Path | str, config: ReferFormerConfig | None = None, conditioning: str = "noun"
) -> ReferFormerForVNG:
    """Build the model from the authors' `.pth`; raises DataError as `from_reference` and `read_checkpoint`."""
    return from_reference(read_checkpoint(path), config, conditioning)
