"""EfficientNet-Lite (Tan and Le, ICML 2019; the Lite variant has no squeeze-and-excitation, and ReLU6) as a backbone.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from vng.models.efficientnet_lite.configuration_efficientnet_lite import (
    KERNELS,
    STAGE_OF,
    STRIDES,
    EfficientNetLiteConfig,
)

NORM = {"eps": 1e-3, "momentum": 0.01}


class ConvLayer(nn.Module):
    """A convolution, its normalisation and (optionally) ReLU6; a stride of 2 pads below and right first, as there."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, ends: bool = False):
        super().__init__()
        self.stride, self.depthwise = stride, groups > 1
        self.before = (kernel - stride) // 2, (kernel - stride + 1) // 2
        padding = self.before[0] if stride == 1 else 0
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.normalization = nn.BatchNorm2d(outputs, **NORM)  # type: ignore[arg-type]
        self.activation = nn.Identity() if ends else nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.depthwise and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # A CPU has no fast kernel for one filter a channel in half precision.
            with torch.autocast("cpu", enabled=False):
                return self._convolved(x.float())
        return self._convolved(x)

    def _convolved(self, x: Tensor) -> Tensor:
        conv, norm = self.convolution, self.normalization
        if self.stride == 2:
            x = F.pad(x, self.before * 2)
        if isinstance(norm, nn.BatchNorm2d) and not norm.training:
            # Frozen: its scale goes into the few weights, so that no map is kept for the backward pass.
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
            y = F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        else:
            y = norm(conv(x))
        output: Tensor = self.activation(y)
        return output


class Block(nn.Module):
    """An inverted residual: 1x1 to more channels, one filter a channel, 1x1 to the output's."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = ConvLayer(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvLayer(hidden, hidden, kernel, stride, groups=hidden)
        self.project = ConvLayer(hidden, outputs, 1, ends=True)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.is_residual else y


class EfficientNetLiteBackbone(BackboneMixin, PreTrainedModel):
    """Maps at strides 2 to 32. Input: [B, 3, H, W] normalised as usual for ImageNet; sides are multiples of 32."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"
    has_attentions = False

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem = ConvLayer(config.num_channels, config.embedding_size, 3, 2)
        last = max(self._stage(name) for name in config.out_features)
        groups, inputs = [], config.embedding_size
        for index, (outputs, depth) in enumerate(zip(config.hidden_sizes, config.depths, strict=True)):
            if STAGE_OF[index] > last:
                break
            blocks = []
            for i in range(depth):
                stride, expansion = STRIDES[index] if i == 0 else 1, config.expansion if index else 1
                blocks.append(Block(inputs, outputs, KERNELS[index], stride, expansion))
                inputs = outputs
            groups.append(nn.Sequential(*blocks))
        self.groups = nn.ModuleList(groups)
        of_stage = {STAGE_OF[i]: size for i, size in enumerate(config.hidden_sizes)}  # a stage ends with its last group
        self.num_features = list(of_stage.values())
        self.post_init()

    @staticmethod
    def _stage(name: str) -> int:
        return 0 if name == "stem" else int(name.removeprefix("stage"))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            for tensor, value in ((module.weight, 1.0), (module.bias, 0.0)):
                init.constant_(tensor, value)
            assert module.running_mean is not None and module.running_var is not None
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BackboneOutput:  # type: ignore[override]
        """[B, C, H, W] -> `feature_maps`, finest first."""
        x, maps = self.stem(pixel_values), {}
        for index, group in enumerate(self.groups):
            x = group(x)
            maps[self.config.stage_names[STAGE_OF[index]]] = x
        return BackboneOutput(feature_maps=cast(Any, tuple(maps[name] for name in self.out_features)))
