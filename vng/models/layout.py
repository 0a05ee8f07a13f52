"""How a model's weights are laid out for use; what it computes stays the same."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

M = TypeVar("M", bound=nn.Module)


def channels_last(model: M) -> M:
    """The model with its weights laid out so that convolutions on CPUs are about twice as fast."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return model


def fold_norms(model: nn.Module) -> None:
    """Fold batch norm into the convolutions before it, in place: for use, not for training or saving.

    Found where a convolution is followed by its normalisation in an `nn.Sequential`, or has it as its neighbour
    `normalization` (`transformers`' ResNet). The model must be in eval mode.
    """
    for module in model.modules():
        if isinstance(module, nn.Sequential) and len(module) > 1:
            first, second = module[0], module[1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                module[0], module[1] = fuse_conv_bn_eval(first, second), nn.Identity()
        conv, norm = (getattr(module, name, None) for name in ("convolution", "normalization"))
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module.convolution, module.normalization = fuse_conv_bn_eval(conv, norm), nn.Identity()
