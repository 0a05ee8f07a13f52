"""An image-text model (SigLIP 2, SigLIP, CLIP) that says which of a narrative's phrases a track looks like.

Each track is shown as crops about it, in which everything else is faded. Scores are shares: of a track, how much it looks
like a phrase rather than like the narrative's other phrases.
Tschannen et al., SigLIP 2, arXiv 2502.14786. Shapes: C crops, X texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vng.models.loading import device_named, fingerprint
from vng.models.published import load_image_processor, load_published, load_tokenizer, on_device

CLASSES = {"siglip": "SiglipModel", "siglip2": "Siglip2Model", "clip": "CLIPModel", "metaclip_2": "MetaClip2Model"}
MOST_TOKENS = 64  # as in SigLIP's training
AROUND = 0.15  # of a crop's sides, shown around a thing
FADED = 0.75  # share of grey over what is not the thing
GREY = 127


class ImageText:
    """An image-text model.

    Args:
        checkpoint: a folder or hub id.
        device: None: a GPU if there is one.

    Raises:
        UsageError: an unavailable device. DataError: see `vng.models.published.load_published`.
    """

    def __init__(self, checkpoint: str | Path, device: str | None = None) -> None:
        self.device = device_named(device)
        model, config = load_published(checkpoint, CLASSES, "a checkpoint of SigLIP 2, SigLIP or CLIP")
        self.fingerprint = fingerprint(model)
        self.model: Any = model.to(self.device)  # type: ignore[arg-type]
        self.images, self.tokenizer = load_image_processor(checkpoint), load_tokenizer(checkpoint)
        self._most = min(MOST_TOKENS, int(config.text_config.max_position_embeddings))

    @torch.inference_mode()
    def __call__(self, crops: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        """Shares of the texts for each crop uint8 [h, w, 3]: float32 [C, X], each row with the sum 1."""
        if not crops or not texts:
            return np.zeros((len(crops), len(texts)), np.float32)
        tokens = self.tokenizer(
            [text.lower() for text in texts],
            padding="max_length",
            max_length=self._most,
            truncation=True,
            return_tensors="pt",
        )
        names = ("input_ids",) if self.model.config.model_type.startswith("siglip") else ("input_ids", "attention_mask")
        words = self.model.get_text_features(**on_device({name: tokens[name] for name in names}, self.device))
        pixels = on_device(self.images(images=list(crops), return_tensors="pt"), self.device)
        seen = self.model.get_image_features(**pixels)
        words, seen = (torch.nn.functional.normalize(_pooled(part).float(), dim=-1) for part in (words, seen))
        logits = seen @ words.T * self.model.logit_scale.exp().float()
        return logits.softmax(1).cpu().numpy()


def _pooled(output: Any) -> torch.Tensor:
    """The features, which newer versions of transformers return with others."""
    return output if torch.is_tensor(output) else output.pooler_output


def faded_crop(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The part of an image uint8 [H, W, 3] about a mask bool [H, W] with pixels, with the rest of it faded to grey."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    down, across = (round(AROUND * (part[-1] - part[0] + 1)) + 1 for part in (rows, columns))
    part = np.s_[
        max(0, rows[0] - down) : rows[-1] + down + 1,
        max(0, columns[0] - across) : columns[-1] + across + 1,
    ]
    crop = image[part].astype(np.float32)
    faded = crop * (1 - FADED) + GREY * FADED
    return np.where(mask[part][..., None], crop, faded).astype(np.uint8)
