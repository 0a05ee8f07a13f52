"""Grounding DINO and MM-Grounding-DINO as detectors, through `transformers`.

A score is that of the phrase's own tokens, their mean after the sigmoid: never of text that is read back from
thresholded tokens, which merges neighbouring phrases and cuts words. Single words share one caption ("parrot. beak."),
in which words of different phrases do not attend to one another; a longer phrase is a caption of its own, as many in one
caption weaken each other. The backbone sees the image once for all captions.
Networks: Liu et al., Grounding DINO, ECCV 2024; Zhao et al., MM-Grounding-DINO, arXiv 2401.02361.
Shapes: Q queries, L tokens of a caption, P phrases of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vng.detectors import CHECKPOINTS, Detections, Detector, DetectorSettings
from vng.detectors.boxes import best_detections, from_centres, to_pixels
from vng.models.loading import device_named, fingerprint
from vng.models.published import load_processor, load_published, on_device

CLASSES = {
    "grounding-dino": "GroundingDinoForObjectDetection",
    "mm-grounding-dino": "MMGroundingDinoForObjectDetection",
}


class GroundingDinoDetector(Detector):
    """A Grounding DINO; see `vng.detectors.Detector` for the call.

    Args:
        checkpoint: a folder or hub id; None: MM-Grounding-DINO tiny.
        settings: None: the defaults.

    Raises:
        UsageError: an unavailable device. DataError: see `load_published`.
    """

    presence = 0.25

    def __init__(self, checkpoint: str | Path | None = None, settings: DetectorSettings | None = None) -> None:
        checkpoint = checkpoint or CHECKPOINTS["grounding-dino"]
        self.settings = settings or DetectorSettings()
        self.device = device_named(self.settings.device)
        model, config = load_published(checkpoint, CLASSES, "a checkpoint of Grounding DINO")
        self.fingerprint = fingerprint(model)
        self.model: Any = model.to(self.device)  # type: ignore[arg-type]
        self.processor = load_processor(checkpoint)
        self._most_tokens = int(config.max_text_len)
        self.model.model.backbone.conv_encoder = _Remembering(self.model.model.backbone.conv_encoder)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, phrases: Sequence[str]) -> list[Detections]:
        """See `Detector`."""
        texts = [caption_text(phrase) for phrase in phrases]
        found: dict[str, Detections] = {"": _nothing()}
        captions = self._captions(sorted({text for text in texts if text}))
        pixels = on_device(self.processor.image_processor(images=image, return_tensors="pt"), self.device)
        for caption in captions:
            found |= self._detected(image.shape[:2], pixels, caption)
        self.model.model.backbone.conv_encoder.forget()
        return [found[text] for text in texts]

    def _captions(self, texts: Sequence[str]) -> list[list[str]]:
        """Texts by caption: longer ones alone, single words together, as many as fit."""
        captions = [[text] for text in texts if " " in text]
        together: list[str] = []
        for text in (text for text in texts if " " not in text):
            if together and len(self._tokens([*together, text])["input_ids"][0]) > self._most_tokens:
                captions.append(together)
                together = []
            together.append(text)
        return [*captions, together] if together else captions

    def _tokens(self, texts: Sequence[str]) -> Any:
        return self.processor.tokenizer(
            [joined(texts)[0]], return_offsets_mapping=True, return_token_type_ids=True, return_tensors="pt"
        )

    def _detected(
        self, size: tuple[int, int], pixels: dict[str, Tensor], caption: Sequence[str]
    ) -> dict[str, Detections]:
        tokens = self._tokens(caption)
        offsets = tokens.pop("offset_mapping")[0][: self._most_tokens].tolist()
        words = {name: value[:, : self._most_tokens] for name, value in on_device(tokens, self.device).items()}
        output = self.model(**pixels, **words)
        probabilities = output.logits[0].float().sigmoid()  # [Q, L or more]
        boxes = to_pixels(from_centres(output.pred_boxes[0].float().cpu().numpy(), *size), *size)
        result = {}
        for text, (start, end) in zip(caption, joined(caption)[1], strict=True):
            own = [i for i, (a, b) in enumerate(offsets) if a < end and start < b]
            if not own:  # beyond the longest caption
                result[text] = _nothing()
                continue
            scores = probabilities[:, own].mean(1).cpu().numpy()
            result[text] = best_detections(boxes, scores, self.settings)
        return result


def caption_text(phrase: str) -> str:
    """A phrase as it stands in a caption: lower case, one space between words, and no full stop, which ends a phrase."""
    return " ".join(phrase.lower().replace(".", " ").replace("?", " ").split())


def joined(texts: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The caption of texts ("parrot. beak."), and the characters [start, end) of each."""
    caption, spans = "", []
    for text in texts:
        caption += " " if caption else ""
        spans.append((len(caption), len(caption) + len(text)))
        caption += text + "."
    return caption, spans


def _nothing() -> Detections:
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


class _Remembering(nn.Module):
    """An image encoder that keeps the features of the image it saw last."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self._kept: tuple[Tensor, Any] | None = None

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Any:
        if self._kept is None or self._kept[0] is not pixel_values:
            self._kept = pixel_values, self.encoder(pixel_values, pixel_mask)
        return list(self._kept[1])

    def forget(self) -> None:
        """Let the features go."""
        self._kept = None
