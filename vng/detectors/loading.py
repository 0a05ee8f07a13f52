"""Loading of detectors and of image-text models from the hub, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

from vng.errors import DataError
from vng.models.checkpoints import misfits
from vng.models.loading import load_or_raise

CURE = "check the name and the network, or give a folder with a copy of it"
GATED = "ask for access on its page, then log in with `hf auth login`"


def load_published(checkpoint: str | Path, classes: Mapping[str, str], named: str) -> tuple[PreTrainedModel, Any]:
    """A published model in float32, and its configuration.

    Weights that the class does not know are left out, as checkpoints of the hub have some; none may be missing.

    Args:
        checkpoint: a folder or hub id.
        classes: `model_type` -> class in transformers.
        named: what is expected, for messages.

    Raises:
        DataError: not in reach, gated, of another type, unknown to the installed transformers, or incomplete.
    """
    folder = Path(checkpoint)
    if folder.exists() and not (folder / "config.json").exists():
        raise DataError(checkpoint, reason="no model here (no config.json)", cure="name a folder with a model")
    config = _fetched(checkpoint, lambda: AutoConfig.from_pretrained(str(checkpoint)))
    if config.model_type not in classes:
        reason = f"a {config.model_type!r} model; expected one of {', '.join(sorted(classes))}"
        raise DataError(checkpoint, record="config.json", field="model_type", reason=reason, cure=f"name {named}")
    kind = getattr(transformers, classes[config.model_type], None)
    if kind is None:
        reason = f"transformers {transformers.__version__} has no {classes[config.model_type]}"
        raise DataError(checkpoint, reason=reason, cure="install a newer transformers, or name another checkpoint")
    options = {"output_loading_info": True, "ignore_mismatched_sizes": True, "use_safetensors": True}
    model, report = _fetched(checkpoint, lambda: kind.from_pretrained(str(checkpoint), **options))
    sizes = [
        f"{name} {list(actual)} instead of {list(expected)}" for name, actual, expected in report["mismatched_keys"]
    ]
    if reason := misfits({"missing": sorted(report["missing_keys"]), "of another size": sorted(sizes)}):
        raise DataError(
            checkpoint, field="weights", reason=reason, cure=f"these are not the weights of a {kind.__name__}"
        )
    return model.float().eval(), config


def load_processor(checkpoint: str | Path) -> Any:
    """The processor of a published model; raises DataError where there is none."""
    from transformers import AutoProcessor

    return _fetched(checkpoint, lambda: AutoProcessor.from_pretrained(str(checkpoint)))


def load_image_processor(checkpoint: str | Path) -> Any:
    """The image processor of a published model; raises DataError where there is none."""
    from transformers import AutoImageProcessor

    return _fetched(checkpoint, lambda: AutoImageProcessor.from_pretrained(str(checkpoint)))


def load_tokenizer(checkpoint: str | Path) -> Any:
    """The tokenizer of a published model; raises DataError where there is none."""
    from transformers import AutoTokenizer

    return _fetched(checkpoint, lambda: AutoTokenizer.from_pretrained(str(checkpoint)))


def _fetched(checkpoint: str | Path, load: Callable[[], Any]) -> Any:
    try:
        return load_or_raise(checkpoint, load, CURE)
    except DataError as error:
        chain, cause = [], error.__cause__
        while cause is not None and cause not in chain:
            chain.append(cause)
            cause = cause.__cause__ or cause.__context__
        words = " ".join(f"{type(part).__name__} {part}" for part in chain)
        if "GatedRepo" in words or "gated repo" in words or "401 Client Error" in words:
            raise DataError(checkpoint, reason="this checkpoint is gated", cure=GATED) from error
        if "does not recognize this architecture" in words:
            reason = f"transformers {transformers.__version__} does not know this kind of model"
            raise DataError(checkpoint, reason=reason, cure="install a newer transformers") from error
        raise


def on_device(values: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The tensors of a processor's output, on a device."""
    return {name: value.to(device) for name, value in values.items() if torch.is_tensor(value)}
