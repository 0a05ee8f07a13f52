"""`transformers.pipeline("video-narrative-grounding")`: a video and a narrative in, masks of its nouns out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from transformers import Pipeline

from vng.grounding.grounder import NarrativeGrounder
from vng.grounding.result import GroundingResult
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.referformer.processing_referformer import ReferFormerProcessor

TASK = "video-narrative-grounding"


class VideoNarrativeGroundingPipeline(Pipeline):
    """A trained grounder as a pipeline; long videos are read window by window, as `vng.NarrativeGrounder` does.

    ground = pipeline("video-narrative-grounding", model="out/run")
    ground("parrots.mp4", narrative="A green [parrot] is playing with the other [parrot].")

    It returns a list with one dictionary a noun: `noun`, `span`, `score` and `masks` (bool [T, H, W]).
    """

    _load_processor: Any = True
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._grounder = NarrativeGrounder(
            cast(ReferFormerForVNG, self.model), cast(ReferFormerProcessor, self.processor), str(self.device)
        )

    def _sanitize_parameters(
        self, narrative: str | None = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown:
            raise TypeError(f"{TASK}: unknown argument {sorted(unknown)[0]!r}; it takes a video and a narrative")
        return ({} if narrative is None else {"narrative": narrative}), {}, {}

    def preprocess(self, input_: Any, narrative: str | None = None) -> dict[str, Any]:  # type: ignore[override]
        """The video, as anything that `vng.NarrativeGrounder` takes, and its narrative."""
        if isinstance(input_, dict):
            input_, narrative = input_["video"], input_.get("narrative", narrative)
        if not narrative:
            raise TypeError(f"{TASK}: give the narrative: ground(video, narrative='A [noun] ...')")
        return {"video": str(input_) if isinstance(input_, Path) else input_, "narrative": narrative}

    def _forward(self, input_tensors: dict[str, Any], **_: Any) -> dict[str, GroundingResult]:  # type: ignore[override]
        return {"result": self._grounder(input_tensors["video"], input_tensors["narrative"])}

    def postprocess(self, model_outputs: dict[str, GroundingResult], **_: Any) -> list[dict[str, Any]]:
        """One dictionary a noun."""
        result = model_outputs["result"]
        rows = zip(result.nouns, result.spans, result.scores, result.masks, strict=True)
        return [
            {"noun": noun, "span": tuple(span), "score": float(score), "masks": masks}
            for noun, span, score, masks in rows
        ]

    def _ensure_tensor_on_device(self, inputs: Any, device: Any) -> Any:
        return inputs  # the grounder moves what it needs, frame by frame
