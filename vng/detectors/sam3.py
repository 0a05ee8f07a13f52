"""SAM 3's concept prompts as a detector, through `transformers`: all instances of each phrase, with masks.

The image is encoded once for all phrases. The checkpoint is gated. SAM 3 heeds the noun and its looks, but neither place
nor relation: which of the instances is meant is decided later, from all scores.
Carion et al., SAM 3: Segment Anything with Concepts, 2025.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vng.detectors import CHECKPOINTS, Detections, Detector, DetectorSettings
from vng.detectors.boxes import best, to_pixels
from vng.models.loading import device_named, fingerprint
from vng.models.published import load_published, load_tokenizer, on_device
from vng.segmenters.sam import FAMILIES, SquareFit, normalisation

CLASSES = {"sam3": "Sam3Model", "sam3_video": "Sam3Model"}
MOST_TOKENS = 32  # of a phrase


class Sam3Detector(Detector):
    """SAM 3; see `vng.detectors.Detector` for the call, and `GroundingDinoDetector` for arguments and errors."""

    presence = 0.4

    def __init__(self, checkpoint: str | Path | None = None, settings: DetectorSettings | None = None) -> None:
        checkpoint = checkpoint or CHECKPOINTS["sam3"]
        self.settings = settings or DetectorSettings()
        self.device = device_named(self.settings.device)
        model, _ = load_published(checkpoint, CLASSES, "a checkpoint of SAM 3")
        self.fingerprint = fingerprint(model)
        self.model: Any = model.to(self.device)  # type: ignore[arg-type]
        self.tokenizer = load_tokenizer(checkpoint)
        self._norm = normalisation(checkpoint, FAMILIES["sam3_video"], self.device)
        self._side = int(self.model.config.vision_config.backbone_config.image_size)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, phrases: Sequence[str]) -> list[Detections]:
        """See `Detector`."""
        if not phrases:
            return []
        height, width = image.shape[:2]
        fit = SquareFit(height, width, self._side, self._side, self._side, self._side)
        seen = self.model.get_vision_features(pixel_values=fit.pixels(image, *self._norm))
        found = {phrase: self._detected(fit, seen, phrase) for phrase in dict.fromkeys(phrases)}
        return [found[phrase] for phrase in phrases]

    def _detected(self, fit: SquareFit, seen: Any, phrase: str) -> Detections:
        tokens = self.tokenizer(
            phrase.lower(), padding="max_length", max_length=MOST_TOKENS, truncation=True, return_tensors="pt"
        )
        words = on_device({name: tokens[name] for name in ("input_ids", "attention_mask")}, self.device)
        output = self.model(vision_embeds=seen, **words)
        scores = (output.pred_logits[0].sigmoid() * output.presence_logits[0].sigmoid()).float().cpu().numpy()
        edges = output.pred_boxes[0].float().cpu().numpy() * np.array([fit.width, fit.height] * 2, np.float32)
        boxes = to_pixels(edges, fit.height, fit.width)
        kept = best(boxes, scores, self.settings)
        logits = output.pred_masks[0][torch.from_numpy(kept).to(self.device)].float()
        low = SquareFit(fit.height, fit.width, fit.side, fit.side, fit.side, int(output.pred_masks.shape[-1]))
        masks = (low.to_image(logits) > 0).cpu().numpy() if len(kept) else np.zeros((0, fit.height, fit.width), bool)
        return Detections(boxes[kept], scores[kept], masks)
