"""Our model from weights of the authors' STCN program, completely or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vng.models.backbone_names import resnet_block
from vng.models.checkpoints import load_exactly, read_checkpoint
from vng.models.stcn.configuration_stcn import StcnConfig
from vng.models.stcn.modeling_stcn import Stcn

_RENAMES = {
    r"^key_encoder\.res2\.": "key_encoder.layer1.",
    r"^value_encoder\.(?!fuser\.)": "value_encoder.backbone.",
    r"^(key_encoder|value_encoder\.backbone)\.conv1\.": r"\1.embedder.embedder.convolution.",
    r"^(key_encoder|value_encoder\.backbone)\.bn1\.": r"\1.embedder.embedder.normalization.",
    r"attention\.ChannelGate\.mlp\.1\.": "attention.channel.0.",
    r"attention\.ChannelGate\.mlp\.3\.": "attention.channel.2.",
    r"attention\.SpatialGate\.spatial\.conv\.": "attention.spatial.",
    r"^key_proj\.key_proj\.": "key_proj.",
    r"^decoder\.up_16_8\.": "decoder.up.0.",
    r"^decoder\.up_8_4\.": "decoder.up.1.",
}
_STEM = "value_encoder.conv1.weight"
_BIASES = {
    re.compile(r"^(value_encoder\.(?!fuser\.)(?:.*\.)?)conv(\d)\.bias$"): r"\1bn\2.running_mean",
    re.compile(r"^(value_encoder\..*downsample\.)0\.bias$"): r"\g<1>1.running_mean",
}


def _rename(key: str) -> str:
    for pattern, replacement in _RENAMES.items():
        key = re.sub(pattern, replacement, key)
    return resnet_block(key)


def from_reference(state_dict: Mapping[str, Tensor], config: StcnConfig | None = None) -> Stcn:
    """Build the model from a state dict under the authors' key names.

    Weights of the single-object network (static images) get a fifth, orthogonal input channel, as the authors' program
    gives them. Biases of the value encoder's convolutions move into the normalisation after them.

    Args:
        state_dict: weights, of the training or the evaluation network.
        config: the configuration the weights were trained with; None: the published model's.

    Raises:
        DataError: weights that are missing, unknown or of another size, with their names; nothing is loaded then.
    """
    model = Stcn(config or StcnConfig())
    weights = dict(state_dict)
    stem = weights.get(_STEM)
    if stem is not None and stem.ndim == 4 and stem.shape[1] == 4:
        weights[_STEM] = torch.cat(
            [stem, nn.init.orthogonal_(torch.empty_like(stem[:, :1]), generator=torch.Generator().manual_seed(0))], 1
        )
    for pattern, mean_of in _BIASES.items():
        for key in [key for key in weights if pattern.match(key)]:
            mean = pattern.sub(mean_of, key)
            if mean in weights and weights[key].shape == weights[mean].shape:
                weights[mean] = weights[mean] - weights.pop(key)
    origin = {_rename(key): key for key in weights}
    load_exactly(model, {name: weights[key] for name, key in origin.items()}, origin)
    return model


def from_file(path: Path | str, config: StcnConfig | None = None) -> Stcn:
    """Build the model from the authors' `.pth`; raises DataError as `from_reference` and `read_checkpoint`."""
    return from_reference(read_checkpoint(path), config)
