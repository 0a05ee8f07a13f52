"""Configuration of the click segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from vng.models.backbones import named_config

STAGES = ["stem", "stage1", "stage2", "stage3", "stage4"]  # strides 2, 4, 8, 16, 32


class ClickNetConfig(PretrainedConfig):
    """Sizes of ClickNet; the defaults are the shipped weights'.

    Args:
        backbone: any backbone whose maps have stride 2, 4, 8, 16, 32; None: EfficientNet-Lite0.
        frozen_norms: the backbone's batch norm keeps its statistics from the start (pre-trained ones).
        pyramid_dim: channels of the head's image maps, at every stride.
        head_widths: channels of the head at stride 4, 8, 16, 32.
        embedding_heads: number of independent embeddings whose distances to the clicks are evidence.
        embedding_dim: channels of each.
        refine_dim: channels of the layer that upsamples the mask to full resolution.
        basis_dim: number of image features of a pixel, which the head weights cell by cell.
        jaccard_weight, vote_weight, outline_weight: weights beside the cross-entropy of the mask.
        norm_batches: training batches after which batch norm keeps its statistics.
    """

    model_type = "clicknet"

    def __init__(
        self,
        backbone: dict[str, Any] | PretrainedConfig | None = None,
        frozen_norms: bool = True,
        pyramid_dim: int = 64,
        head_widths: Sequence[int] = (16, 32, 48, 64),
        embedding_heads: int = 2,
        embedding_dim: int = 16,
        refine_dim: int = 96,
        basis_dim: int = 8,
        jaccard_weight: float = 1.0,
        vote_weight: float = 0.2,
        outline_weight: float = 0.3,
        norm_batches: int = 1_000_000_000,
        **kwargs: Any,
    ) -> None:
        self.backbone = named_config(backbone or {"model_type": "efficientnet-lite", "out_features": STAGES})
        self.frozen_norms, self.pyramid_dim = frozen_norms, pyramid_dim
        self.head_widths, self.refine_dim, self.basis_dim = list(head_widths), refine_dim, basis_dim
        self.embedding_heads, self.embedding_dim = embedding_heads, embedding_dim
        self.jaccard_weight, self.vote_weight, self.outline_weight = jaccard_weight, vote_weight, outline_weight
        self.norm_batches = norm_batches
        super().__init__(**kwargs)

    @property
    def sub_configs(self) -> dict[str, Any]:
        """Nested configurations, for `transformers`."""
        return {"backbone": AutoConfig}
