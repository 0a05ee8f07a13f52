"""Loading of a trained grounder from disk or hub."""

from __future__ import annotations

from typing import Any

from vng.models.loading import load_or_raise, load_strictly
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.referformer.processing_referformer import ReferFormerProcessor


def load_model(path: str, **changes: Any) -> ReferFormerForVNG:
    """A trained grounder from a run folder or the hub; raises DataError if there is none, or if weights do not fit.

    `changes` are fields of its configuration to change.
    """
    return load_strictly(ReferFormerForVNG, path, **changes)


def load_processor(path: str) -> ReferFormerProcessor:
    """The processor saved beside a model; raises DataError if it does not load."""
    cure = "its processor is missing or damaged; save it beside the model"
    processor: ReferFormerProcessor = load_or_raise(path, lambda: ReferFormerProcessor.from_pretrained(path), cure)
    return processor
