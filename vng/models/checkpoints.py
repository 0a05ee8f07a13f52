"""Checkpoints of other programs: read without running code, loaded completely or not at all."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vng.errors import DataError

SHOWN = 5  # most names in an error


def read_checkpoint(path: Path | str, entries: Sequence[str] = ("model", "state_dict")) -> dict[str, Tensor]:
    """Tensors by name from a `.pth` or `.pt` file; nothing in it is executed.

    `argparse.Namespace` is allowed, since programs keep their command line beside the weights; it holds only values.

    Args:
        path: the file.
        entries: keys under which programs keep the weights; the first one present is used, else the whole file.

    Raises:
        DataError: no such file, not a checkpoint, a pickle that would run code, or entries that are not tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, reason="no such file", cure="check the path")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            reason = f"holds more than tensors and could run code ({_first_line(error)})"
            raise DataError(
                path, reason=reason, cure="use a checkpoint of tensors only, from a source you trust"
            ) from error
        raise DataError(path, reason=f"is not a checkpoint ({_first_line(error)})", cure="download it again") from error
    except (EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile, OSError, AttributeError) as error:
        raise DataError(path, reason=f"is not a checkpoint ({_first_line(error)})", cure="download it again") from error
    for entry in entries:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(entry), Mapping):
            loaded = loaded[entry]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise DataError(path, reason=f"holds {type(loaded).__name__}, not weights by name", cure="choose another file")
    wrong = [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]
    if wrong:
        raise DataError(
            path, field=wrong[0], reason="is not a tensor", cure=f"choose another file, or one of the entries {entries}"
        )
    return {str(name): value for name, value in loaded.items()}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def misfits(problems: Mapping[str, Sequence[str]]) -> str:
    """Names of weights by problem ("missing", ...), as one line of text; "" where there are none."""
    return "; ".join(
        f"{len(names)} {kind}: {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
        for kind, names in problems.items()
        if names
    )


def load_exactly(
    model: nn.Module, state: Mapping[str, Tensor], origin: Mapping[str, str], may_miss: tuple[str, ...] = ()
) -> None:
    """Load the weights of a model, all or none.

    Args:
        model: changed in place, but only if everything fits.
        state: weights by the model's own names.
        origin: our name -> the name in the checkpoint, for the error; names without an entry are the same there.
        may_miss: prefixes or suffixes of our names that the checkpoint may lack (those weights keep their values).

    Raises:
        DataError: names that are missing, unknown or of another shape.
    """
    own = model.state_dict()
    missing = sorted(n for n in set(own) - set(state) if not (n.startswith(may_miss) or n.endswith(may_miss)))
    unknown = sorted(origin.get(n, n) for n in set(state) - set(own))
    sizes = [
        f"{origin.get(n, n)} {list(state[n].shape)}, expected {list(own[n].shape)}"
        for n in sorted(set(own) & set(state))
        if own[n].shape != state[n].shape
    ]
    problems = {"missing": missing, "unknown": unknown, "of another size": sizes}
    if reason := misfits(problems):
        raise DataError(
            "checkpoint",
            record=type(model).__name__,
            reason=reason,
            cure="give the configuration the weights were trained with; nothing was loaded",
        )
    model.load_state_dict(dict(state), strict=False)
