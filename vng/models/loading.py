"""Loading trained models: what does not fit is refused, with the names of the weights, in words for people."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from vng.errors import DataError

M = TypeVar("M", bound=PreTrainedModel)

NAMED = 3  # names shown of each kind of misfit


def load_strictly(kind: type[M], path: str | Path, cure: str = "check the path or hub id") -> M:
    """A trained model of a class from a run folder or the hub, every weight of it, in single precision.

    Raises:
        DataError: nothing there; another model's configuration; weights that are missing, unknown or of another size
            (with their names); a file that is no safetensors file.
    """
    folder = Path(path)
    if folder.exists() and not (folder / "config.json").exists():
        raise DataError(folder, "", "", "no trained model here (no config.json)", "finish its `vng train` first")
    disable_progress_bar()  # it would write between the lines of an error
    try:
        loaded: Any = kind.from_pretrained(
            str(path),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            dtype=torch.float32,
        )
    except Exception as error:  # transformers, safetensors and the hub's client raise whatever they like
        lines = str(error).splitlines() or [""]
        reason = f"no model loads from here ({type(error).__name__}: {lines[0][:100]})"
        raise DataError(folder, "", "", reason, cure) from error
    model, report = loaded
    sizes = [f"{name} {list(there)} instead of {list(wanted)}" for name, there, wanted in report["mismatched_keys"]]
    misfits = [
        f"{len(names)} {what}: {_shown(names)}"
        for what, names in (
            ("missing", sorted(report["missing_keys"])),
            ("unknown", sorted(report["unexpected_keys"])),
            ("of another size", sorted(sizes)),
        )
        if names
    ]
    if misfits:
        raise DataError(folder, "", "weights", "; ".join(misfits), f"these are not the weights of a {kind.__name__}")
    return model


def _shown(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
