"""Configuration of the narrative grounder."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from vng.models.backbones import named_config

CONDITIONINGS = ("noun", "sentence")
MASK_TARGETS = ("sampled", "averaged")
STAGES = ["stage1", "stage2", "stage3", "stage4"]


# Fields that may be changed in a trained model: no shape and nothing learned depends on them.
WITHOUT_SHAPE = (
    "class_weight",
    "box_weight",
    "giou_weight",
    "mask_weight",
    "dice_weight",
    "mask_targets",
    "dropout",
    "freeze_batch_norm",
    "freeze_text_encoder",
    "frozen_stages",
)


class ReferFormerConfig(PretrainedConfig):
    """Sizes and switches of ReferFormer for Video Narrative Grounding; the defaults are the published model's.

    Args:
        backbone_config: any `transformers` backbone with four stages of stride 4, 8, 16, 32.
        text_config: any `transformers` text encoder; for "sentence" one with a pooler.
        conditioning: initial content of the queries: "noun", the mean of the marked noun's token features (RF-VNG), or
            "sentence", the text encoder's pooled feature (ReferFormer; one expression a narrative).
        d_model, encoder_layers, decoder_layers, attention_heads, feedforward_dim, num_points: the deformable
            transformer.
        num_feature_levels: number of maps: the last three of the backbone, and further ones, each half the size.
        num_queries: queries for each frame and noun.
        mask_dim, controller_layers, dynamic_mask_channels: the dynamic mask head.
        relative_coordinates: give the mask head each pixel's offset from the query's reference point.
        with_box_refine: refine boxes from layer to layer.
        dropout: in transformer, fusion blocks and text projection.
        freeze_batch_norm: keep the backbone's batch statistics fixed (right for a pre-trained backbone).
        freeze_text_encoder: do not train the text encoder.
        frozen_stages: number of the backbone's parts, from its stem on, that are not trained; ReferFormer trains a
            pre-trained ResNet with 2, the stem and the first stage.
        *_weight: weights of the losses, and of the same terms in the matching.
        mask_targets: target of a mask in each of its cells of 4 x 4 pixels: "sampled", the truth of one of the pixels
            (ReferFormer), or "averaged", the object's share of the cell, for small or thin objects.
    """

    model_type = "referformer_vng"

    def __init__(
        self,
        backbone_config: dict[str, Any] | PretrainedConfig | None = None,
        text_config: dict[str, Any] | PretrainedConfig | None = None,
        d_model: int = 256,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        attention_heads: int = 8,
        feedforward_dim: int = 2048,
        num_points: int = 4,
        num_feature_levels: int = 4,
        num_queries: int = 5,
        mask_dim: int = 256,
        controller_layers: int = 3,
        dynamic_mask_channels: int = 8,
        relative_coordinates: bool = True,
        with_box_refine: bool = True,
        dropout: float = 0.1,
        freeze_batch_norm: bool = True,
        freeze_text_encoder: bool = False,
        frozen_stages: int = 0,
        conditioning: str = "noun",
        class_weight: float = 2.0,
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
        mask_weight: float = 2.0,
        dice_weight: float = 5.0,
        mask_targets: str = "sampled",
        **kwargs: Any,
    ) -> None:
        if conditioning not in CONDITIONINGS:
            raise ValueError(f"conditioning {conditioning!r} is none of {', '.join(CONDITIONINGS)}")
        if mask_targets not in MASK_TARGETS:
            raise ValueError(f"mask_targets {mask_targets!r} is none of {', '.join(MASK_TARGETS)}")
        if backbone_config is None:
            backbone_config = {"model_type": "resnet", "out_features": STAGES}
        if text_config is None:  # RoBERTa-base
            text_config = {
                "model_type": "roberta",
                "vocab_size": 50265,
                "max_position_embeddings": 514,
                "type_vocab_size": 1,
                "layer_norm_eps": 1e-5,
            }
        self.backbone_config = named_config(backbone_config)
        self.text_config = named_config(text_config)
        self.d_model, self.encoder_layers, self.decoder_layers = d_model, encoder_layers, decoder_layers
        self.attention_heads, self.feedforward_dim, self.num_points = attention_heads, feedforward_dim, num_points
        self.num_feature_levels, self.num_queries, self.mask_dim = num_feature_levels, num_queries, mask_dim
        self.controller_layers, self.dynamic_mask_channels = controller_layers, dynamic_mask_channels
        self.relative_coordinates, self.with_box_refine, self.dropout = relative_coordinates, with_box_refine, dropout
        self.freeze_batch_norm, self.freeze_text_encoder = freeze_batch_norm, freeze_text_encoder
        self.frozen_stages, self.conditioning = frozen_stages, conditioning
        self.class_weight, self.box_weight, self.giou_weight = class_weight, box_weight, giou_weight
        self.mask_weight, self.dice_weight, self.mask_targets = mask_weight, dice_weight, mask_targets
        super().__init__(**kwargs)

    @property
    def sub_configs(self) -> dict[str, Any]:
        """Nested configurations, for `transformers`."""
        return {"backbone_config": AutoConfig, "text_config": AutoConfig}
