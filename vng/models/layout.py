"""Layouts of a model's weights that make it faster; the function it computes stays the same."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers.models.resnet.modeling_resnet import ResNetConvLayer, ResNetShortCut

M = TypeVar("M", bound=nn.Module)


def channels_last(model: M) -> M:
    """The model with channels-last weights, in place; convolutions on CPUs are then about twice as fast."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return model


def fold_norms(model: nn.Module) -> None:
    """Fold batch norm into the convolutions before it, in place: for inference, not for training or saving.

    Applies to a convolution followed by its normalisation in an `nn.Sequential`, and to modules with the attributes
    `convolution` and `normalization` (`transformers`' ResNet). The model must be in eval mode.
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
    """Fold frozen batch norm into the convolution before it in `transformers`' ResNet, in place; training still works.

    Weights keep their names and train as before. At each call the norm's scale is multiplied into the few weights, so
    that no map is read and written for it, and none is kept for the backward pass. A norm in training mode is left
    alone.
    """
    for module in model.modules():
        folded = {ResNetConvLayer: _FoldedConvLayer, ResNetShortCut: _FoldedShortCut}.get(type(module))
        if folded is not None:
            module.__class__ = folded


def _folded(module: ResNetConvLayer | ResNetShortCut, x: Tensor) -> Tensor | None:
    """The layer's output after its normalisation; None if that is not frozen batch norm."""
    conv, norm = module.convolution, module.normalization
    if not isinstance(norm, nn.BatchNorm2d) or norm.training or type(conv) is not nn.Conv2d:
        return None
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    sizes: tuple = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return F.conv2d(x, conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale, *sizes)


class _FoldedConvLayer(ResNetConvLayer):
    def forward(self, hidden_state: Tensor) -> Tensor:
        output = _folded(self, hidden_state)
        if output is None:
            return super().forward(hidden_state)
        # In place: the derivative of a convolution does not need its output.
        return output.relu_() if isinstance(self.activation, nn.ReLU) else self.activation(output)


class _FoldedShortCut(ResNetShortCut):
    def forward(self, input: Tensor) -> Tensor:
        output = _folded(self, input)
        return super().forward(input) if output is None else output
