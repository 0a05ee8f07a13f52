"""Proposals of a Mask2Former for instances (`transformers`): its queries, with their embeddings for linking (MinVIS).

Shapes: Q queries, H x W pixels, h x w the model's masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vng.errors import UsageError
from vng.models.fit import Fit
from vng.models.loading import device_named, fingerprint
from vng.models.published import load_published
from vng.models.transfer import normalised
from vng.propagators.proposal_sources import Proposals

MULTIPLE = 32  # sides the network takes
CLASSES = {"mask2former": "Mask2FormerForUniversalSegmentation"}


class Mask2FormerProposals:
    """The source; see `vng.propagators.proposal_sources.ProposalSource` for the call.

    Args:
        checkpoint: a folder or hub id, such as facebook/mask2former-swin-base-coco-instance, or a run of the task
            "instances" of `vng train`.
        short_side: pixels to which the short side of a frame is scaled (published: 480 for videos).
        device: None: a GPU if there is one.
    """

    def __init__(self, checkpoint: str | None = None, short_side: int = 480, device: str | None = None) -> None:
        if checkpoint is None:
            raise UsageError(
                "mask2former has no weights of its own; name a checkpoint: facebook/mask2former-swin-base-coco-instance"
            )
        if short_side < MULTIPLE:
            raise UsageError(f"short_side={short_side}: expected {MULTIPLE} or more")
        model, _ = load_published(checkpoint, CLASSES, "a Mask2Former for instances")
        self.fingerprint = fingerprint(model)
        self._model: Any = model.to(device_named(device)).eval()  # type: ignore[arg-type]
        self._side = short_side

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Proposals:
        """See `ProposalSource`: all queries, the surest first; a score is the largest probability of a class."""
        height, width = image.shape[:2]
        scale = self._side / min(height, width)
        fit = Fit(height, width, *Fit.scaled_size(height, width, scale))
        below, right = -fit.rows % MULTIPLE, -fit.columns % MULTIPLE
        scaled = np.pad(fit.scale(image), ((0, below), (0, right), (0, 0)), mode="edge")
        pixels = torch.from_numpy(np.ascontiguousarray(scaled)).permute(2, 0, 1)[None].to(self._model.device)
        output = self._model(pixel_values=normalised(pixels))
        classes = output.class_queries_logits[0].softmax(1)[:, :-1].amax(1)
        masks = F.interpolate(output.masks_queries_logits.float(), scaled.shape[:2], mode="bilinear")
        masks = F.interpolate(masks[..., : fit.rows, : fit.columns], (height, width), mode="bilinear")[0].sigmoid()
        order = classes.argsort(descending=True)
        embeddings = output.transformer_decoder_last_hidden_state[0]
        return Proposals(
            masks=(masks > 0.5)[order].cpu().numpy(),
            scores=classes[order].float().cpu().numpy(),
            maskness=masks.mean((1, 2))[order].cpu().numpy(),
            embeddings=F.normalize(embeddings.float(), dim=1)[order].cpu().numpy(),
        )
