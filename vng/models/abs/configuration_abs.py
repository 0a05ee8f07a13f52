"""Configuration of ABS."""

from __future__ import annotations

from typing import Any

from vng.models.stcn.configuration_stcn import StcnConfig


class AbsConfig(StcnConfig):
    """Sizes of ABS; the paper's summary names its parts, not their sizes, so all of them are ours.

    Args:
        dim: channels of the enhanced features and of object tokens.
        heads: heads of every attention.
        enhance_blocks: blocks of the bimodal enhance encoder.
        attention_layers: layers of the segment attention.
        identities: identity embeddings; objects beyond that number share them in turn.
        pooling: cells of the keys along a side of a cell of the enhanced features.
        uses_flow: whether the enhance encoder sees optical flow; False: it sees the image alone.
        uses_objects: whether the global object memory is read.
        memory_frames: most frames of predicted masks in the local dense memory; older ones make room. The click stays.
        **kwargs: those of `StcnConfig`.
    """

    model_type = "abs"

    def __init__(
        self,
        dim: int = 96,
        heads: int = 4,
        enhance_blocks: int = 2,
        attention_layers: int = 2,
        identities: int = 16,
        pooling: int = 2,
        uses_flow: bool = True,
        uses_objects: bool = True,
        memory_frames: int = 8,
        **kwargs: Any,
    ) -> None:
        sizes = {
            "dim": dim,
            "heads": heads,
            "enhance_blocks": enhance_blocks,
            "attention_layers": attention_layers,
            "identities": identities,
            "pooling": pooling,
            "memory_frames": memory_frames,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} {value}: 1 or more")
        if dim % heads or dim % 4:
            raise ValueError(f"dim {dim}: a multiple of heads ({heads}) and of 4")
        self.dim, self.heads, self.enhance_blocks, self.attention_layers = dim, heads, enhance_blocks, attention_layers
        self.identities, self.pooling, self.memory_frames = identities, pooling, memory_frames
        self.uses_flow, self.uses_objects = uses_flow, uses_objects
        super().__init__(**kwargs)
