"""A trained grounder from disk or hub, with errors for people."""

from __future__ import annotations

from pathlib import Path

from vng.errors import DataError
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.referformer.processing_referformer import ReferFormerProcessor


def load_model(path: str) -> ReferFormerForVNG:
    """A trained grounder from a run folder or the hub; DataError where there is none."""
    folder = Path(path)
    if folder.exists() and not (folder / "config.json").exists():
        raise DataError(folder, "", "", "no trained model here (no config.json)", "finish its `vng train` first")
    try:
        return ReferFormerForVNG.from_pretrained(path)
    except (OSError, ValueError, RuntimeError) as error:
        reason = f"no model loads from here ({type(error).__name__}: {str(error).splitlines()[0][:100]})"
        raise DataError(folder, "", "", reason, "check the path or hub id") from error


def load_processor(path: str) -> ReferFormerProcessor:
    """The processor saved beside a model; DataError where it does not load."""
    try:
        return ReferFormerProcessor.from_pretrained(path)
    except (OSError, ValueError, TypeError) as error:
        reason = f"its processor does not load ({type(error).__name__})"
        raise DataError(path, "", "", reason, "save the processor beside the model") from error
