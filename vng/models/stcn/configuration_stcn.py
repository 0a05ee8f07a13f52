"""Configuration of STCN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from vng.models.backbones import named_config

KEY_BACKBONE = {
    "model_type": "resnet",
    "depths": [3, 4, 6],
    "hidden_sizes": [256, 512, 1024],
    "out_features": ["stage1", "stage2", "stage3"],
}
VALUE_BACKBONE = {
    "model_type": "resnet",
    "num_channels": 5,
    "depths": [2, 2, 2],
    "hidden_sizes": [64, 128, 256],
    "layer_type": "basic",
    "out_features": ["stage3"],
}


class StcnConfig(PretrainedConfig):
    """Sizes and switches of STCN; the defaults are the published model's.

    Args:
        key_backbone: any `transformers` backbone whose maps have stride 4, 8, 16 (the last ones may be left out).
        value_backbone: one with five input channels (image, the object's mask, the others'); its last map is used.
        key_dim, value_dim: channels of a key and a value.
        thin_dim: channels of the image's own features in the decoder.
        decoder_dims: channels of the decoder at the stride of the keys and at every finer map's.
        key_level: index of the key backbone's map (finest first) whose stride keys and values have; deeper maps are
            upsampled to it. -1, the last map, is the paper's.
        norm_batches: training batches after which batch norm keeps its statistics; 0: from the start (pre-trained
            ones).
        frozen_key_norms: the key backbone's batch norm keeps its statistics from the start.
        point_radius: points enter as discs of this radius, pixels; 0: as single pixels (Point-VOS, App. D).
        short_side: pixels to which the short side of a frame is scaled; 0 keeps frames as they are.
        memory_every: by default every frame whose number is a multiple of this is remembered.
        points_by: what reads points by default: "model" or "segmenter"; "": the model if it takes points.
        takes_points: the model was trained on prompts that are points; takes_negatives: on negative ones too.
        reads_reference: it was trained to segment the reference frame from its own memory.
    """

    model_type = "stcn"

    def __init__(
        self,
        key_backbone: dict[str, Any] | PretrainedConfig | None = None,
        value_backbone: dict[str, Any] | PretrainedConfig | None = None,
        key_dim: int = 64,
        value_dim: int = 512,
        thin_dim: int = 512,
        decoder_dims: Sequence[int] = (512, 256, 256),
        key_level: int = -1,
        norm_batches: int = 0,
        frozen_key_norms: bool = False,
        point_radius: float = 0.0,
        short_side: int = 0,
        memory_every: int = 5,
        points_by: str = "",
        takes_points: bool = False,
        takes_negatives: bool = False,
        reads_reference: bool = False,
        **kwargs: Any,
    ) -> None:
        self.key_backbone = named_config(key_backbone or KEY_BACKBONE)
        self.value_backbone = named_config(value_backbone or VALUE_BACKBONE)
        least: dict[str, tuple[float, int]] = {
            "key_dim": (key_dim, 1),
            "value_dim": (value_dim, 1),
            "thin_dim": (thin_dim, 1),
            "norm_batches": (norm_batches, 0),
            "point_radius": (point_radius, 0),
            "short_side": (short_side, 0),
            "memory_every": (memory_every, 1),
        }
        for name, (value, minimum) in least.items():
            if value < minimum:
                raise ValueError(f"{name} {value}: {minimum} or more")
        self.key_dim, self.value_dim, self.thin_dim = key_dim, value_dim, thin_dim
        self.decoder_dims, self.key_level = list(decoder_dims), key_level
        self.norm_batches, self.point_radius, self.short_side = norm_batches, point_radius, short_side
        self.frozen_key_norms = frozen_key_norms
        self.memory_every, self.points_by = memory_every, points_by
        self.takes_points, self.takes_negatives, self.reads_reference = takes_points, takes_negatives, reads_reference
        super().__init__(**kwargs)

    @property
    def sub_configs(self) -> dict[str, Any]:
        """Nested configurations, for `transformers`."""
        return {"key_backbone": AutoConfig, "value_backbone": AutoConfig}
