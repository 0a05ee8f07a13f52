"""Configuration of the EfficientNet-Lite backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig
from transformers.backbone_utils import BackboneConfigMixin

STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the groups of blocks, after a stem of stride 2
KERNELS = (3, 3, 5, 3, 5, 5, 3)
STAGE_OF = (
    0,
    1,
    2,
    3,
    3,
    4,
    4,
)  # 0: the stem, stride 2; stage k has stride 2 ** (k + 1), as a ResNet's in `transformers`


class EfficientNetLiteConfig(BackboneConfigMixin, PretrainedConfig):
    """Sizes of an EfficientNet-Lite backbone; the defaults are those of Lite0 without its classifier.

    Args:
        num_channels: channels of the input.
        embedding_size: channels of the stem.
        hidden_sizes, depths: output channels and blocks of the groups of blocks, up to seven; shorter lists end the
            network there.
        expansion: hidden channels of a block, relative to its input's (the first group has none).
        out_features, out_indices: maps that are returned: "stem" (stride 2, with the first group), "stage1" (4) to
            "stage4" (32).
    """

    model_type = "efficientnet-lite"

    def __init__(
        self,
        num_channels: int = 3,
        embedding_size: int = 32,
        hidden_sizes: Sequence[int] = (16, 24, 40, 80, 112, 192, 320),
        depths: Sequence[int] = (1, 2, 2, 3, 3, 4, 1),
        expansion: int = 6,
        out_features: Sequence[str] | None = None,
        out_indices: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        if not 1 <= len(hidden_sizes) == len(depths) <= len(STRIDES):
            raise ValueError(f"hidden_sizes and depths: expected as many of both, 1 to {len(STRIDES)}")
        if min(num_channels, embedding_size, expansion, *hidden_sizes, *depths) < 1:
            raise ValueError("num_channels, embedding_size, expansion, hidden_sizes, depths: expected 1 or more")
        self.num_channels, self.embedding_size, self.expansion = num_channels, embedding_size, expansion
        self.hidden_sizes, self.depths = list(hidden_sizes), list(depths)
        self.stage_names = ["stem", *(f"stage{k}" for k in range(1, STAGE_OF[len(depths) - 1] + 1))]
        kwargs.pop("stage_names", None)
        super().__init__(**kwargs)
        self.set_output_features_output_indices(
            out_indices=None if out_indices is None else list(out_indices),
            out_features=None if out_features is None else list(out_features),
        )

    def with_maps(self, out_features: Sequence[str], num_channels: int = 3) -> EfficientNetLiteConfig:
        """This configuration with other outputs, and perhaps with further input channels."""
        unchanged = {n: v for n, v in self.to_dict().items() if n not in ("stage_names", "out_indices")}
        return type(self)(**{**unchanged, "out_features": list(out_features), "num_channels": num_channels})
