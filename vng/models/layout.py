"""How a model's weights are laid out for use; what it computes stays the same."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers.models.resnet.modeling_resnet import ResNetConvLayer, ResNetShortCut

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


def fold_frozen_norms(model: nn.Module) -> None:
    """Frozen batch norm as part of the convolution before it in `transformers`' ResNet, in place: for training and use.

    Weights keep their names and train as before. The norm's scale is multiplied into the weights at each call, which are
    few, so that no map is read and written for it, and none kept for the backward pass. A norm in training mode is left alone.
    """
    for module in model.modules():
        folded = {ResNetConvLayer: _FoldedConvLayer, ResNetShortCut: _FoldedShortCut}.get(type(module))
        if folded is not None:
            module.__class__ = folded


def _folded(module: ResNetConvLayer | ResNetShortCut, x: Tensor) -> Tensor | None:
    """The layer up to its normalisation; None where that is not frozen batch norm."""
    conv, norm = module.convolution, module.normalization
    if not isinstance(norm, nn.BatchNorm2d) or norm.training or type(conv) is not nn.Conv2d:
        return None
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    sizes: tuple = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return F.conv2d(x, conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale, *sizes)


class _FoldedConvLayer(ResNetConvLayer):
    def forward(self, hidden_state: Tensor) -> Tensor:
        made = _folded(self, hidden_state)
        if made is None:
            return super().forward(hidden_state)
        # a convolution's derivative does not need its output
        return made.relu_() if isinstance(self.activation, nn.ReLU) else self.activation(made)


class _FoldedShortCut(ResNetShortCut):
    def forward(self, input: Tensor) -> Tensor:
        made = _folded(self, input)
        return super().forward(input) if made is None else made
