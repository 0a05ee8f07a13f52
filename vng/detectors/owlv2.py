"""OWLv2 (and OWL-ViT) as a detector, through `transformers`: every phrase is a query of its own.

Minderer et al., Scaling Open-Vocabulary Object Detection, NeurIPS 2023. Images are padded to a square, below or to the
right; boxes are relative to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vng.detectors import CHECKPOINTS, Detections, Detector, DetectorSettings
from vng.detectors.boxes import best_detections, from_centres, to_pixels
from vng.models.loading import device_named, fingerprint
from vng.models.published import load_processor, load_published, on_device

CLASSES = {"owlv2": "Owlv2ForObjectDetection", "owlvit": "OwlViTForObjectDetection"}
TEMPLATE = "a photo of a {}"  # as in the paper, Sec. 3
MOST_TOKENS = 16  # of a query


class Owlv2Detector(Detector):
    """OWLv2; see `vng.detectors.Detector` for the call, and `GroundingDinoDetector` for arguments and errors."""

    presence = 0.15

    def __init__(self, checkpoint: str | Path | None = None, settings: DetectorSettings | None = None) -> None:
        checkpoint = checkpoint or CHECKPOINTS["owlv2"]
        self.settings = settings or DetectorSettings()
        self.device = device_named(self.settings.device)
        model, config = load_published(checkpoint, CLASSES, "a checkpoint of OWLv2")
        self.fingerprint = fingerprint(model)
        self.model: Any = model.to(self.device)  # type: ignore[arg-type]
        self.processor = load_processor(checkpoint)
        self._is_square = config.model_type == "owlv2"  # OWL-ViT stretches images

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, phrases: Sequence[str]) -> list[Detections]:
        """See `Detector`."""
        if not phrases:
            return []
        queries = list(dict.fromkeys(phrases))
        tokens = self.processor.tokenizer(
            [TEMPLATE.format(query.lower()) for query in queries],
            padding="max_length",
            max_length=MOST_TOKENS,
            truncation=True,
            return_tensors="pt",
        )
        pixels = self.processor.image_processor(images=image, return_tensors="pt")
        words = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        inputs = on_device({"pixel_values": pixels["pixel_values"], **words}, self.device)
        output = self.model(**inputs)
        height, width = image.shape[:2]
        square = (max(height, width),) * 2 if self._is_square else (height, width)
        edges = from_centres(output.pred_boxes[0].float().cpu().numpy(), *square)
        inside = ((edges[:, :2] + edges[:, 2:]) / 2 < [width, height]).all(1)  # not in what the image is padded with
        boxes = to_pixels(edges, height, width)
        scores = output.logits[0].float().sigmoid().cpu().numpy() * inside[:, None]
        found = {query: best_detections(boxes, scores[:, i], self.settings) for i, query in enumerate(queries)}
        return [found[phrase] for phrase in phrases]
