"""Scores of a grounder during training."""

from __future__ import annotations

from torch import nn

from vng.dataset import VngDataset
from vng.errors import DataError
from vng.evaluation.narrative.accumulator import NarrativeScore
from vng.grounding.dataset import ground_expressions
from vng.grounding.grounder import NarrativeGrounder
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.referformer.processing_referformer import ReferFormerProcessor
from vng.training.progress import Score
from vng.training.recipe import EvaluateSettings


def grounding_score(settings: EvaluateSettings, processor: ReferFormerProcessor) -> Score:
    """The function that scores a grounder on a dataset.

    Raises:
        DataError: no expression with a true mask in the videos to be scored.
    """
    dataset = VngDataset(settings.dataset, settings.split, settings.frames_root)
    count = len(dataset) if settings.videos is None else min(settings.videos, len(dataset))
    if not any(rle for i in range(count) for item in dataset[i].objects for rle in item.segmentations):
        reason = f"no true mask in its {count} videos to be scored"
        raise DataError(
            settings.dataset, field="objects.segmentations", reason=reason, cure="choose another evaluate.dataset"
        )

    def score(model: nn.Module, process: int, processes: int) -> NarrativeScore:
        assert isinstance(model, ReferFormerForVNG)
        grounder = NarrativeGrounder(model, processor, str(model.device))
        total = NarrativeScore(settings.protocol)
        for index in range(process, count, processes):
            video = dataset[index]
            for number, result, n in ground_expressions(grounder, video):
                expression = video.expressions[number]
                truth = video.object_by_id[expression.object_id].segmentations
                total.add(video.video_id, number, truth, result.rles[n], object_id=expression.object_id)
        return total

    return score
