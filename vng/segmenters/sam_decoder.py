"""The mask decoder of SAM, SAM 2 and SAM 3 for many objects of one image; the weights stay where `transformers` has them.

Shapes: K objects, S tokens (the decoder's own and the prompts'), L image tokens, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class TwoWay:
    """The decoder's two-way transformer with its own weights; padding is masked, what objects share is done once.

    Without a mask prompt every object meets the same image tokens in the first layer: what that layer makes of them is
    computed once an image. On a CPU that is about a third of a decoding.
    Tokens [K, 1, S, C] are the decoder's own and the prompts', image tokens [K, 1, L, C]; one mask a prompt.
    """

    def __init__(self, transformer: Any) -> None:
        self._inner = transformer
        self._once: tuple[Tensor, Tensor, Tensor] | None = None
        self.shares = False  # all objects now decoded have no mask prompt
        transformer.forward = self.forward

    def new_image(self) -> None:
        """Forget what was computed of the last image."""
        self._once = None

    def forward(
        self, point_embeddings: Tensor, image_embeddings: Tensor, image_positional_embeddings: Tensor, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Stands in for the transformer's own forward."""
        points, bias = point_embeddings, None
        padded = (points == 0).all(-1)[:, None]  # as the prompt encoder marks them
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
            tokens = self._think(layer, tokens)
            turn = {"query": placed, "key": tokens + points, "value": tokens, "attention_similarity": bias}
            image = layer.layer_norm4(image + layer.cross_attn_image_to_token(**turn)[0])
        last = self._inner.final_attn_token_to_image(query=tokens + points, key=image + place, value=image)[0]
        return self._inner.layer_norm_final_attn(tokens + last), image

    @staticmethod
    def _think(layer: Any, tokens: Tensor) -> Tensor:
        tokens = layer.layer_norm2(tokens)
        return layer.layer_norm3(tokens + layer.mlp(tokens))

    def _first(
        self, layer: Any, tokens: Tensor, image: Tensor, points: Tensor, place: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Both cross-attentions of a layer where the image tokens [1, 1, L, C] are the same for all K objects."""
        to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        if self._once is None:
            placed = image + place
            self._once = (to_image.k_proj(placed), to_image.v_proj(image), to_tokens.q_proj(placed))
        key, value, query = (part.expand(len(tokens), -1, -1, -1) for part in self._once)
        tokens = tokens + _attend(to_image, to_image.q_proj(tokens + points), key, value, None)
        tokens = self._think(layer, tokens)
        key, value = to_tokens.k_proj(tokens + points), to_tokens.v_proj(tokens)
        return tokens, layer.layer_norm4(image + _attend(to_tokens, query, key, value, bias))


def _attend(attention: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """What an attention of the decoder makes of its projected inputs [K, 1, *, D], as [K, 1, *, C]."""
    heads = [
        part[:, 0].unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2) for part in (query, key, value)
    ]
    merged = (
        F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=bias).transpose(1, 2).flatten(2)[:, None]
    )
    return (attention.out_proj if hasattr(attention, "out_proj") else attention.o_proj)(merged)
