"""Published models of `transformers`, from the hub or a folder: detectors, image-text models, the SAM family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer, PreTrainedModel

from vng.errors import DataError
from vng.models.loading import load_or_raise, load_strictly

CURE = "check the name and the network, or give a folder with a copy of it"


def load_published(
    checkpoint: str | Path, classes: Mapping[str, str], named: str, *, cure: str = CURE, surplus: bool = True
) -> tuple[PreTrainedModel, Any]:
    """A published model in float32, for inference, and its configuration.

    Args:
        checkpoint: a folder or hub id.
        classes: `model_type` -> class in transformers.
        named: what is expected, for messages.
        cure: the advice in the error if nothing loads.
        surplus: whether the checkpoint may have weights that the class does not know.

    Raises:
        DataError: not in reach, gated, of another type, unknown to the installed transformers, or incomplete.
    """
    folder = Path(checkpoint)
    if folder.exists() and not (folder / "config.json").exists():
        raise DataError(checkpoint, reason="no model here (no config.json)", cure="name a folder with a model")
    config: Any = load_or_raise(checkpoint, lambda: AutoConfig.from_pretrained(str(checkpoint)), cure)
    if config.model_type not in classes:
        reason = f"a {config.model_type!r} model; expected one of {', '.join(sorted(classes))}"
        raise DataError(checkpoint, record="config.json", field="model_type", reason=reason, cure=f"name {named}")
    kind = getattr(transformers, classes[config.model_type], None)
    if kind is None:
        reason = f"transformers {transformers.__version__} has no {classes[config.model_type]}"
        raise DataError(checkpoint, reason=reason, cure="install a newer transformers, or name another checkpoint")
    model: Any = load_strictly(kind, checkpoint, cure, surplus)
    return model.float().eval(), config


def load_processor(checkpoint: str | Path) -> Any:
    """The processor of a published model; raises DataError where there is none."""
    return load_or_raise(checkpoint, lambda: AutoProcessor.from_pretrained(str(checkpoint)), CURE)


def load_image_processor(checkpoint: str | Path) -> Any:
    """The image processor of a published model; raises DataError where there is none."""
    return load_or_raise(checkpoint, lambda: AutoImageProcessor.from_pretrained(str(checkpoint)), CURE)


def load_tokenizer(checkpoint: str | Path) -> Any:
    """The tokenizer of a published model; raises DataError where there is none."""
    return load_or_raise(checkpoint, lambda: AutoTokenizer.from_pretrained(str(checkpoint)), CURE)


def on_device(values: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The tensors of a processor's output, on a device."""
    return {name: value.to(device) for name, value in values.items() if torch.is_tensor(value)}
