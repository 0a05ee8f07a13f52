"""Scores during training: the model as it is, by the accumulators of `vng.evaluation`, over all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

if TYPE_CHECKING:
    from vng.evaluation.accumulators import NarrativeScore

Score = Callable[[nn.Module, int, int], "NarrativeScore"]  # model, process, processes -> the score of its videos


def score_model(accelerator: Accelerator, model: nn.Module, score: Score) -> dict[str, float]:
    """The score of all processes' videos, the same in each of them; the model is left in training mode.

    Nothing random is drawn, so a run that is scored trains to the same weights as one that is not.
    """
    mine = score(accelerator.unwrap_model(model), accelerator.process_index, accelerator.num_processes)
    first, *others = gather_object([mine]) if accelerator.num_processes > 1 else [mine]
    for other in others:
        first.merge(other)
    model.train()
    return first.compute()
