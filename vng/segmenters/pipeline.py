"""`transformers.pipeline("click-segmentation")`: an image and clicks in, a mask of each object out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from PIL import Image
from transformers import Pipeline

from vng.models.clicknet.modeling_clicknet import ClickNet
from vng.points import PointPrompts
from vng.segmenters.embedded import EmbeddedSegmenter

TASK = "click-segmentation"


class ClickSegmentationPipeline(Pipeline):
    """A click segmenter (ClickNet) as a pipeline.

    segment = pipeline("click-segmentation", model="out/clicks")
    segment("dog.jpg", points=[[[120, 80], [130, 95]], [[300, 40]]], labels=[[1, 0], [1]])

    `points` are (x, y) of each object, in pixels; `labels` are 1 on the object and 0 off it [all 1]. It returns a list with
    one dictionary an object: `mask` (bool [H, W]) and `score`, the mean probability inside the mask.
    """

    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._segmenter = EmbeddedSegmenter.of_model(cast(ClickNet, self.model))

    def _sanitize_parameters(
        self, points: Any = None, labels: Any = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown:
            raise TypeError(f"{TASK}: unknown argument {sorted(unknown)[0]!r}; it takes an image, points and labels")
        given = {"points": points, "labels": labels}
        return {name: value for name, value in given.items() if value is not None}, {}, {}

    def preprocess(self, input_: Any, points: Any = None, labels: Any = None) -> dict[str, Any]:  # type: ignore[override]
        """A path, PIL image or array uint8 [H, W, 3], and the clicks."""
        if not points:
            raise TypeError(f"{TASK}: give points: segment(image, points=[[[x, y], ...], ...])")
        image = input_ if isinstance(input_, np.ndarray) else np.array(_opened(input_).convert("RGB"))
        labels = [[1] * len(own) for own in points] if labels is None else labels
        if [len(own) for own in labels] != [len(own) for own in points]:
            raise ValueError(f"{TASK}: points and labels of different numbers")
        return {"image": image, "prompts": [_prompt(own, names) for own, names in zip(points, labels, strict=True)]}

    def _forward(self, input_tensors: dict[str, Any], **_: Any) -> dict[str, np.ndarray]:  # type: ignore[override]
        return {"probabilities": self._segmenter(input_tensors["image"], input_tensors["prompts"])}

    def postprocess(self, model_outputs: dict[str, np.ndarray], **_: Any) -> list[dict[str, Any]]:
        """One dictionary an object."""
        found = []
        for probability in model_outputs["probabilities"]:
            mask = probability > 0.5
            found.append({"mask": mask, "score": float(probability[mask].mean()) if mask.any() else 0.0})
        return found

    def _ensure_tensor_on_device(self, inputs: Any, device: Any) -> Any:
        return inputs  # the segmenter works on the CPU


def _opened(source: Any) -> Image.Image:
    return source if isinstance(source, Image.Image) else Image.open(source)


def _prompt(points: Sequence[Sequence[float]], labels: Sequence[int]) -> PointPrompts:
    xy, on = np.array(points, np.float32).reshape(-1, 2), np.array(labels) == 1
    return PointPrompts(xy[on], xy[~on])
