"""Checkpoints of other programs: read without running code, loaded completely or not at all."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from torch import Tensor, nn

from vng.errors import DataError

logger = logging.getLogger(__name__)
# Keys under which programs keep weights, the likeliest first.
ENTRIES = ("network", "model", "state_dict", "model_state_dict", "net", "weights", "params", "checkpoint", "ema")
SHOWN = 5  # most names in an error


def read_checkpoint(path: Path | str) -> dict[str, Tensor]:
    """Tensors by name from a `.pth` or `.pt` file; nothing in it is executed.

    Weights are found below the keys under which programs keep them (`ENTRIES`), and a prefix that all names share
    ("module.", "_orig_mod.", "model.": of wrappers) is left out. Beside weights, the plain values that programs keep
    are read: their command line, numpy scalars, paths.

    Raises:
        DataError: no such file, not a checkpoint, a pickle that would run code, or entries that are not tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, reason="no such file", cure="check the path")
    try:
        with torch.serialization.safe_globals(_plain_values()):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        culprit = re.search(r"GLOBAL ([\w.]+)", str(error))
        if culprit or "weights_only" in str(error) or "Unsupported" in str(error):
            named = f"a {culprit[1]}" if culprit else "more than tensors"
            cure = "save the weights alone: torch.save(model.state_dict(), FILE), on a machine that trusts the file"
            raise DataError(path, reason=f"holds {named}, which could run code", cure=cure) from error
        raise DataError(path, reason=f"is not a checkpoint ({_first_line(error)})", cure="download it again") from error
    except (EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile, OSError, AttributeError) as error:
        raise DataError(path, reason=f"is not a checkpoint ({_first_line(error)})", cure="download it again") from error
    weights = _weights_in(loaded)
    if not isinstance(weights, Mapping) or not weights:
        raise DataError(path, reason=f"holds {type(loaded).__name__}, not weights by name", cure="choose another file")
    wrong = [str(name) for name, value in weights.items() if not isinstance(value, Tensor)]
    if wrong:
        cure = f"choose another file, or one with the weights below one of: {', '.join(ENTRIES)}"
        raise DataError(path, field=wrong[0], reason="is not a tensor", cure=cure)
    return _without_prefix({str(name): value for name, value in weights.items()})


def _plain_values() -> list[Any]:
    """Types beside tensors whose values are read: they hold data only."""
    import numpy as np

    scalar, of_bytes = np._core.multiarray.scalar, np._core.multiarray._reconstruct  # type: ignore[attr-defined]
    dtypes = [type(np.dtype(kind)) for kind in (*np.typecodes["AllInteger"], *np.typecodes["Float"], "?")]
    named = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, function in (("scalar", scalar), ("_reconstruct", of_bytes))
    ]
    paths = [
        (kind, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name, kind in (("PosixPath", PurePosixPath), ("WindowsPath", PureWindowsPath))
    ]
    return [argparse.Namespace, np.dtype, np.ndarray, *set(dtypes), *named, *paths]


def _weights_in(loaded: Any, depth: int = 2) -> Any:
    """The mapping of weights in a loaded file: itself, or below one of `ENTRIES`."""
    if not isinstance(loaded, Mapping) or all(isinstance(value, Tensor) for value in loaded.values()):
        return loaded
    below = next((loaded[entry] for entry in ENTRIES if isinstance(loaded.get(entry), Mapping)), None)
    return loaded if below is None or not depth else _weights_in(below, depth - 1)


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the first parts that all their names share."""
    first, _, rest = next(iter(weights)).partition(".")
    if not rest or not all(name.startswith(f"{first}.") for name in weights):
        return weights
    logger.info("all names of the checkpoint begin with %r, which is left out", f"{first}.")
    return _without_prefix({name.removeprefix(f"{first}."): value for name, value in weights.items()})


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
