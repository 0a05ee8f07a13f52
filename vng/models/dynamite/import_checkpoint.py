"""Our model from weights of the authors' DynaMITe program, completely or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vng.errors import DataError
from vng.models.backbone_names import swin, swin_parts
from vng.models.checkpoints import load_exactly, read_checkpoint
from vng.models.dynamite.configuration_dynamite import DynamiteConfig
from vng.models.dynamite.modeling_dynamite import DynamiteModel

_HEAD, _PIXEL = "sem_seg_head.interactive_transformer.", "sem_seg_head.pixel_decoder."
_RENAMES = {
    # backbone: ResNet of detectron2
    r"^backbone\.stem\.conv1\.norm\.": "backbone.embedder.embedder.normalization.",
    r"^backbone\.stem\.conv1\.": "backbone.embedder.embedder.convolution.",
    r"^(backbone\.res\d\.\d+\.)(conv\d|shortcut)\.norm\.": r"\1\2.normalization.",
    r"^(backbone\.res\d\.\d+\.)(conv\d|shortcut)\.(weight|bias)$": r"\1\2.convolution.\3",
    # pixel decoder
    rf"^{re.escape(_PIXEL)}refine\.": "refine.",
    rf"^{re.escape(_PIXEL)}input_proj\.": "pixel_decoder.input_projections.",
    rf"^{re.escape(_PIXEL)}transformer\.": "pixel_decoder.",
    rf"^{re.escape(_PIXEL)}mask_features\.": "pixel_decoder.mask_projection.",
    rf"^{re.escape(_PIXEL)}((?:adapter|layer)_1)\.norm\.": r"pixel_decoder.\1.1.",
    rf"^{re.escape(_PIXEL)}((?:adapter|layer)_1)\.weight$": r"pixel_decoder.\1.0.weight",
    r"^(pixel_decoder\.encoder\.layers\.\d+)\.norm1\.": r"\1.self_attn_layer_norm.",
    r"^(pixel_decoder\.encoder\.layers\.\d+)\.norm2\.": r"\1.final_layer_norm.",
    r"^(pixel_decoder\.encoder\.layers\.\d+)\.linear(\d)\.": r"\1.fc\2.",
    # interactive transformer
    rf"^{re.escape(_HEAD)}encoder\.cross_attention_layers\.(\d+)\.multihead_attn\.": r"transformer.encoder.\1.cross_attention.",
    rf"^{re.escape(_HEAD)}encoder\.cross_attention_layers\.(\d+)\.norm\.": r"transformer.encoder.\1.cross_norm.",
    rf"^{re.escape(_HEAD)}encoder\.self_attention_layers\.(\d+)\.self_attn\.": r"transformer.encoder.\1.self_attention.",
    rf"^{re.escape(_HEAD)}encoder\.self_attention_layers\.(\d+)\.norm\.": r"transformer.encoder.\1.self_norm.",
    rf"^{re.escape(_HEAD)}decoder\.cross_attention_layers\.(\d+)\.multihead_attn\.": r"transformer.decoder.\1.attention.",
    rf"^{re.escape(_HEAD)}decoder\.cross_attention_layers\.(\d+)\.norm\.": r"transformer.decoder.\1.norm.",
    rf"^{re.escape(_HEAD)}(encoder|decoder)\.ffn_layers\.(\d+)\.": r"transformer.\1.\2.feedforward.",
    rf"^{re.escape(_HEAD)}queries_nonlinear_projection\.": "transformer.query_projection.",
    rf"^{re.escape(_HEAD)}ca_qpos_sine_proj\.": "transformer.position_projection.",
    rf"^{re.escape(_HEAD)}": "transformer.",
}
_STAGE = re.compile(r"^backbone\.res(\d)\.(\d+)\.(conv(\d)|shortcut)\.")
_MASK_EMBED = re.compile(r"^transformer\.mask_embed\.layers\.(\d)\.")
# constants that the reference saves and we compute, and values of its configuration
_DROPPED = re.compile(r"relative_position_index$|num_batches_tracked$|^pixel_(mean|std)$|^criterion\.")
# counters of frozen batch norm; a layer of Swin that no map passes through; a projection of our model only
_MAY_MISS = ("num_batches_tracked", "backbone.swin.layernorm.", "transformer.trace_projection.")


def _rename(key: str) -> str:
    key = swin(key)
    for pattern, replacement in _RENAMES.items():
        key = re.sub(pattern, replacement, key)
    stage = _STAGE.match(key)
    if stage:
        number, block, place, part = stage.groups()
        place = "shortcut" if place == "shortcut" else f"layer.{int(part) - 1}"
        key = f"backbone.encoder.stages.{int(number) - 2}.layers.{block}.{place}." + key[stage.end() :]
    return _MASK_EMBED.sub(lambda m: f"transformer.mask_embed.{2 * int(m[1])}.", key)


def _ours(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights by our names, and the name each had in the checkpoint."""
    state: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for key, value in state_dict.items():
        if _DROPPED.search(key):
            continue
        parts = swin_parts(key, value) or {_rename(key): value}
        state |= parts
        origin |= dict.fromkeys(parts, key)
    return state, origin


def infer_config(state_dict: Mapping[str, Tensor]) -> DynamiteConfig:
    """The configuration of a state dict under the authors' names: ResNet-50 or Swin-T, and the variant of the model.

    Click encodings "spatial" and "temporal" have weights of one shape; the authors' spatial one is assumed.

    Raises:
        DataError: not a DynaMITe checkpoint, or another backbone.
    """

    def count(pattern: str) -> int:
        return len({m[1] for m in (re.match(pattern, key) for key in state_dict) if m})

    level = state_dict.get(f"{_HEAD}level_embed.weight")
    if level is None or level.ndim != 2:
        raise DataError(
            "checkpoint",
            field=f"{_HEAD}level_embed.weight",
            reason="is missing: not a DynaMITe checkpoint",
            cure="choose another file",
        )
    channels, head = level.shape[1], re.escape(_HEAD)
    projection = state_dict.get(f"{_HEAD}ca_qpos_sine_proj.weight")
    static = state_dict.get(f"{_HEAD}static_bg_query")
    encoding = "none" if projection is None else "spatial"
    if projection is not None and projection.shape[1] > channels:
        encoding = "spatio_temporal"
    sizes = {
        "hidden_size": channels,
        "encoder_layers": count(rf"^{head}encoder\.ffn_layers\.(\d+)\."),
        "decoder_layers": count(rf"^{head}decoder\.ffn_layers\.(\d+)\."),
        "pixel_decoder_layers": count(rf"^{re.escape(_PIXEL)}transformer\.encoder\.layers\.(\d+)\."),
        "refine_mask_features": f"{_PIXEL}refine.0.weight" in state_dict,
        "static_background": 0 if static is None else len(static),
        "click_encoding": encoding,
    }
    if "backbone.stem.conv1.weight" in state_dict and count(r"^backbone\.res4\.(\d+)\.") == 6:
        return DynamiteConfig.resnet50(**sizes)
    if "backbone.patch_embed.proj.weight" in state_dict and count(r"^backbone\.layers\.2\.blocks\.(\d+)\.") == 6:
        return DynamiteConfig.swin_tiny(**sizes)
    reason = "its backbone is neither ResNet-50 nor Swin-T"
    raise DataError("checkpoint", field="backbone", reason=reason, cure="give a configuration with its backbone")


def from_reference(state_dict: Mapping[str, Tensor], config: DynamiteConfig | None = None) -> DynamiteModel:
    """Build the model from a state dict under the authors' key names.

    The projection of mouse traces, which the authors' model does not have, stays the identity.

    Args:
        state_dict: weights; ResNet or Swin backbones.
        config: the configuration the weights were trained with; None: see `infer_config`.

    Raises:
        DataError: weights that are missing, unknown or of another size, with their names; nothing is loaded then.
    """
    model = DynamiteModel(config or infer_config(state_dict))
    state, origin = _ours(state_dict)
    load_exactly(model, state, origin, _MAY_MISS)
    return model


def from_file(path: Path | str, config: DynamiteConfig | None = None) -> DynamiteModel:
    """Build the model from the authors' `.pth`; raises DataError as `from_reference` and `read_checkpoint`."""
    return from_reference(read_checkpoint(path), config)
