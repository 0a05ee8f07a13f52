"""The mask decoder of SAM, SAM 2 and SAM 3 for many objects of one image, with the weights of the `transformers` model.

Shapes: K objects, S tokens (the decoder's own and the prompts'), L image tokens, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class TwoWay:
    """The decoder's two-way transformer, with padding masked and computation shared between objects.

    Without a mask prompt all objects have the same image tokens in the first layer: their projections are computed once
    per image. On a CPU this saves about a third of a decoding.
    Tokens [K, 1, S, C] are those of the decoder and of the prompts, image tokens [K, 1, L, C]; one mask per prompt.
    """

    def __init__(self, transformer: Any) -> None:
        self._inner = transformer
        self._projections: tuple[Tensor, Tensor, Tensor] | None = None
        self.shares = False  # whether no object of this decoding has a mask prompt
        transformer.forward = self.forward

    def new_image(self) -> None:
        """Discard the projections of the last image."""
        self._projections = None

    def forward(
        self, point_embeddings: Tensor, image_embeddings: Tensor, image_positional_embeddings: Tensor, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Replaces the forward of the transformer; same arguments and results."""
        points, bias = point_embeddings, None
        padded = (points == 0).all(-1)[:, None]  # the prompt encoder sets padding to zero
        if padded.any():
            bias = torch.zeros_like(padded, dtype=points.dtype).masked_fill(padded, -torch.inf)
        count = 1 if self.shares else len(points)
        image, place = (
            grid.flatten(2).transpose(1, 2)[:, None].contiguous()
            for grid in (image_embeddings[:count], image_positional_embeddings[:1])
        )
        tokens = points
        for layer in self._inner.layers:
            placed = tokens if layer.skip_first_layer_pe else tokens + points
            attended = layer.self_attn(query=placed, key=placed, value=tokens, attention_similarity=bias)[0]
            tokens = layer.layer_norm1(attended if layer.skip_first_layer_pe else tokens + attended)
            if self.shares and layer is self._inner.layers[0]:
                tokens, image = self._first(layer, tokens, image, points, place, bias)
                continue
            placed = image + place
            tokens = tokens + layer.cross_attn_token_to_image(query=tokens + points, key=placed, value=image)[0]
            tokens = self._feed_forward(layer, tokens)
            inputs = {"query": placed, "key": tokens + points, "value": tokens, "attention_similarity": bias}
            image = layer.layer_norm4(image + layer.cross_attn_image_to_token(**inputs)[0])
        last = self._inner.final_attn_token_to_image(query=tokens + points, key=image + place, value=image)[0]
        return self._inner.layer_norm_final_attn(tokens + last), image

    @staticmethod
    def _feed_forward(layer: Any, tokens: Tensor) -> Tensor:
        tokens = layer.layer_norm2(tokens)
        return layer.layer_norm3(tokens + layer.mlp(tokens))

    def _first(
        self, layer: Any, tokens: Tensor, image: Tensor, points: Tensor, place: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Both cross-attentions of a layer with image tokens [1, 1, L, C] shared by all K objects."""
        to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        if self._projections is None:
            placed = image + place
            self._projections = (to_image.k_proj(placed), to_image.v_proj(image), to_tokens.q_proj(placed))
        key, value, query = (part.expand(len(tokens), -1, -1, -1) for part in self._projections)
        tokens = tokens + _attend(to_image, to_image.q_proj(tokens + points), key, value, None)
        tokens = self._feed_forward(layer, tokens)
        key, value = to_tokens.k_proj(tokens + points), to_tokens.v_proj(tokens)
        return tokens, layer.layer_norm4(image + _attend(to_tokens, query, key, value, bias))


def _attend(attention: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """The output [K, 1, *, C] of an attention of the decoder, from projected inputs [K, 1, *, D]."""
    heads = [
        part[:, 0].unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2) for part in (query, key, value)
    ]
    merged = (
        F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=bias).transpose(1, 2).flatten(2)[:, None]
    )
    return (attention.out_proj if hasattr(attention, "out_proj") else attention.o_proj)(merged)
