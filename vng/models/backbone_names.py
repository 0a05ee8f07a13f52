"""Names of backbone weights in other programs -> names in `transformers`; any other name stays as it is."""

from __future__ import annotations

import re

from torch import Tensor

_RESNET_BLOCK = re.compile(r"^(.*?)\.layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.*)$")
_SWIN = {
    r"^backbone\.patch_embed\.proj\.": "backbone.swin.embeddings.patch_embeddings.projection.",
    r"^backbone\.patch_embed\.norm\.": "backbone.swin.embeddings.norm.",
    r"^backbone\.layers\.": "backbone.swin.encoder.layers.",
    r"\.blocks\.(\d+)\.norm1\.": r".blocks.\1.layernorm_before.",
    r"\.blocks\.(\d+)\.norm2\.": r".blocks.\1.layernorm_after.",
    r"\.attn\.proj\.": ".attention.o_proj.",
    r"\.attn\.relative_position_bias_table$": ".attention.relative_position_bias.relative_position_bias_table",
}
_SWIN_NORM = re.compile(r"^backbone\.norm(\d)\.")
_SWIN_FUSED = re.compile(r"^(backbone\..*\.blocks\.\d+)\.attn\.qkv\.(weight|bias)$")


def resnet_block(key: str) -> str:
    """The name of a weight in a block of torchvision's ResNet.

    `X.layer2.0.conv1.weight` -> `X.encoder.stages.1.layers.0.layer.0.convolution.weight`.
    """
    block = _RESNET_BLOCK.match(key)
    if not block:
        return key
    encoder, layer, index, kind, number, rest = block.groups()
    convolves = kind == "conv" or (kind == "downsample." and number == "0")
    place = "shortcut" if kind == "downsample." else f"layer.{int(number) - 1}"
    part = "convolution" if convolves else "normalization"
    return f"{encoder}.encoder.stages.{int(layer) - 1}.layers.{index}.{place}.{part}.{rest}"


def swin(key: str) -> str:
    """The name of a weight below `backbone.` in the program of Swin's authors."""
    for pattern, replacement in _SWIN.items():
        key = re.sub(pattern, replacement, key)
    return _SWIN_NORM.sub(lambda m: f"backbone.hidden_states_norms.stage{int(m[1]) + 1}.", key)


def swin_parts(key: str, value: Tensor) -> dict[str, Tensor]:
    """Swin's query, key and value weights by name, split from the authors' fused weight; {} for any other weight."""
    fused = _SWIN_FUSED.match(key)
    if not fused or len(value) % 3:
        return {}
    block = swin(fused[1] + ".")
    return {f"{block}attention.{part}_proj.{fused[2]}": x for part, x in zip("qkv", value.chunk(3), strict=True)}
