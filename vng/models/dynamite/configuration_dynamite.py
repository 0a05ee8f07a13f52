"""Configuration of DynaMITe."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from vng.models.backbones import named_config

STAGES = ["stage1", "stage2", "stage3", "stage4"]
ENCODINGS = ("spatio_temporal", "spatial", "temporal", "none")


class DynamiteConfig(PretrainedConfig):
    """Sizes and switches of DynaMITe; the defaults are the published model's with a ResNet-50.

    Args:
        backbone_config: any `transformers` backbone with four stages of stride 4, 8, 16, 32.
        hidden_size: channels of maps and queries.
        attention_heads: everywhere.
        pixel_decoder_layers, pixel_decoder_feedforward: the deformable encoder of Mask2Former's pixel decoder.
        refine_mask_features: add the three coarse maps, convolved, to the mask features (all published models do).
        encoder_layers, encoder_feedforward: the interactive encoder, in which clicks read the image and each other.
        decoder_layers, decoder_feedforward: the interactive decoder, in which pixels read the clicks; 0 layers: none.
        static_background: number of learned background queries.
        click_encoding: the content of a query's position code: "spatio_temporal", "spatial", "temporal" or "none".
        freeze_batch_norm: keep the backbone's batch statistics and scales fixed (right for a pre-trained backbone).
        short_side, long_side: images are scaled so that the short side is `short_side`, unless the long side would
            exceed `long_side` (the authors test at 800 and 1333); 0 keeps images as they are.
        mask_weight, dice_weight: weights of the two losses, at every layer.
        points, oversampling, importance: number of points at which a mask is compared, candidates for each of them, and
            the share of points that is chosen for being uncertain.
        most_rounds: most corrective rounds of a training step; their number is random.
    """

    model_type = "dynamite"

    def __init__(
        self,
        backbone_config: dict[str, Any] | PretrainedConfig | None = None,
        hidden_size: int = 256,
        attention_heads: int = 8,
        pixel_decoder_layers: int = 6,
        pixel_decoder_feedforward: int = 1024,
        refine_mask_features: bool = True,
        encoder_layers: int = 9,
        encoder_feedforward: int = 2048,
        decoder_layers: int = 5,
        decoder_feedforward: int = 512,
        static_background: int = 9,
        click_encoding: str = "spatio_temporal",
        freeze_batch_norm: bool = True,
        short_side: int = 800,
        long_side: int = 1333,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        points: int = 12544,
        oversampling: float = 3.0,
        importance: float = 0.75,
        most_rounds: int = 3,
        **kwargs: Any,
    ) -> None:
        if click_encoding not in ENCODINGS:
            raise ValueError(f"click_encoding {click_encoding!r} is none of {', '.join(ENCODINGS)}")
        if backbone_config is None:
            backbone_config = {"model_type": "resnet", "out_features": STAGES}
        self.backbone_config = named_config(backbone_config)
        self.hidden_size, self.attention_heads = hidden_size, attention_heads
        self.pixel_decoder_layers, self.pixel_decoder_feedforward = pixel_decoder_layers, pixel_decoder_feedforward
        self.refine_mask_features = refine_mask_features
        self.encoder_layers, self.encoder_feedforward = encoder_layers, encoder_feedforward
        self.decoder_layers, self.decoder_feedforward = decoder_layers, decoder_feedforward
        self.static_background, self.click_encoding = static_background, click_encoding
        self.freeze_batch_norm = freeze_batch_norm
        self.short_side, self.long_side = short_side, long_side
        self.mask_weight, self.dice_weight = mask_weight, dice_weight
        self.points, self.oversampling, self.importance = points, oversampling, importance
        self.most_rounds = most_rounds
        # used to initialise Mask2Former's pixel decoder
        self.init_std, self.init_xavier_std = kwargs.pop("init_std", 0.02), kwargs.pop("init_xavier_std", 1.0)
        super().__init__(**kwargs)

    @classmethod
    def resnet50(cls, **changes: Any) -> DynamiteConfig:
        """The published model on a ResNet-50, with fields changed."""
        return cls(**{"backbone_config": {"model_type": "resnet", "out_features": STAGES}, **changes})

    @classmethod
    def swin_tiny(cls, **changes: Any) -> DynamiteConfig:
        """The published model on a Swin-T, with fields changed."""
        backbone = {
            "model_type": "swin",
            "embed_dim": 96,
            "depths": [2, 2, 6, 2],
            "num_heads": [3, 6, 12, 24],
            "window_size": 7,
            "drop_path_rate": 0.3,
            "out_features": STAGES,
        }
        return cls(**{"backbone_config": backbone, **changes})

    @property
    def sub_configs(self) -> dict[str, Any]:
        """Nested configurations, for `transformers`."""
        return {"backbone_config": AutoConfig}
