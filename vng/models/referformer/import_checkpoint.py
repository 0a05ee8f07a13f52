"""Weights under the names of the authors' ReferFormer program -> our model, completely or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from vng.errors import VngError
from vng.models.referformer.configuration_referformer import ReferFormerConfig
from vng.models.referformer.modeling_referformer import ReferFormerForVNG

_RESNET = {
    r"^backbone\.0\.body\.conv1\.": "backbone.embedder.embedder.convolution.",
    r"^backbone\.0\.body\.bn1\.": "backbone.embedder.embedder.normalization.",
}
_RENAMES = {
    r"^resizer\.fc\.": "resizer_fc.",
    r"^resizer\.layer_norm\.": "resizer_norm.",
    r"^transformer\.level_embed$": "level_embed",
    r"^transformer\.reference_points\.": "reference_points.",
    r"^transformer\.(encoder|decoder)\.layers\.": r"\1.",
    r"^(encoder\.\d+|decoder\.\d+)\.(linear[12]\.)": r"\1.feedforward.\2",
    r"^(encoder\.\d+)\.norm2\.": r"\1.feedforward.norm.",
    r"^(decoder\.\d+)\.norm3\.": r"\1.feedforward.norm.",
}
# Aliases of parameters that stand elsewhere under another key, and a head that the noun-conditioned query does not use.
_DROPPED = re.compile(r"^transformer\.decoder\.bbox_embed\.|^text_encoder\.pooler\.|position_ids$|num_batches_tracked$")


def _rename(key: str) -> str:
    stage = re.match(r"^backbone\.0\.body\.layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.*)$", key)
    if stage:
        layer, block, kind, number, rest = stage.groups()
        part = "convolution" if kind == "conv" or (kind == "downsample." and number == "0") else "normalization"
        place = "shortcut" if kind == "downsample." else f"layer.{int(number) - 1}"
        return f"backbone.encoder.stages.{int(layer) - 1}.layers.{block}.{place}.{part}.{rest}"
    for pattern, replacement in {**_RESNET, **_RENAMES}.items():
        key = re.sub(pattern, replacement, key)
    return key


def from_reference(state_dict: Mapping[str, Tensor], config: ReferFormerConfig | None = None) -> ReferFormerForVNG:
    """Build the model from a state dict under the authors' key names (ResNet backbones).

    Raises:
        VngError: a key that has no place, or a place that gets no key; nothing is loaded then.
    """
    model = ReferFormerForVNG(config or ReferFormerConfig())
    own = model.state_dict()
    renamed = {_rename(key): value for key, value in state_dict.items() if not _DROPPED.search(key)}
    if not model.config.with_box_refine:  # the layers share one head there, stored once a layer
        renamed = {k: v for k, v in renamed.items() if not re.match(r"^(class|bbox)_embed\.[1-9]", k)}
    optional = {key for key in own if key.endswith("num_batches_tracked")}
    missing = sorted(set(own) - set(renamed) - optional)
    unexpected = sorted(set(renamed) - set(own))
    shapes = [k for k in renamed if k in own and renamed[k].shape != own[k].shape]
    if missing or unexpected or shapes:
        raise VngError(
            f"checkpoint does not fit: {len(missing)} missing {missing[:3]}, {len(unexpected)} unexpected "
            f"{unexpected[:3]}, {len(shapes)} of another shape {shapes[:3]}; check the configuration"
        )
    model.load_state_dict(renamed, strict=False)
    return model
