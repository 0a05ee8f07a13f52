"""Trackers of packages that a user installs: found, loaded with their authors' weights, and refused clearly."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from vng.errors import DataError, UsageError


def import_tracker(module: str, package: str, source: str) -> Any:
    """A module of a tracker's package; raises UsageError, naming where it comes from, if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        cure = f"pip install git+{source}, or choose the tracker lucas_kanade"
        raise UsageError(f"this tracker needs the package {package!r} ({error}); {cure}") from error


def load_state(path: str | Path) -> dict[str, torch.Tensor]:
    """Weights by name from the authors' file, read with `weights_only=True`; raises DataError for anything else."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(file, reason="no such file of weights", cure="download the tracker's released checkpoint")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0][:100]
        raise DataError(file, reason=f"no weights load from here ({first})", cure="download it again") from error
    state = state.get("model", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(file, reason="holds no weights by name", cure="give the tracker's released checkpoint")
    return state
