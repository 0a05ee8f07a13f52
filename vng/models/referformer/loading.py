"""A trained grounder from disk or hub, with errors for people."""

from __future__ import annotations

from typing import Any

from vng.errors import DataError
from vng.models.loading import load_strictly
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.referformer.processing_referformer import ReferFormerProcessor


def load_model(path: str, **changes: Any) -> ReferFormerForVNG:
    """A trained grounder from a run folder or the hub; DataError where there is none, or weights do not fit.

    `changes` are fields of its configuration to set to other values.
    """
    return load_strictly(ReferFormerForVNG, path, **changes)


def load_processor(path: str) -> ReferFormerProcessor:
    """The processor saved beside a model; DataError where it does not load."""
    try:
        return ReferFormerProcessor.from_pretrained(path)
    except (OSError, ValueError, TypeError) as error:
        reason = f"its processor does not load ({type(error).__name__})"
        raise DataError(path, reason=reason, cure="save the processor beside the model") from error
