"""Loading trained models: what does not fit is refused, with the names of the weights, in words for people."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from vng.errors import DataError, UsageError
from vng.manifest import to_json
from vng.models.checkpoints import misfits

T = TypeVar("T")
M = TypeVar("M", bound=PreTrainedModel)

_OF_NO_EFFECT = ("_name_or_path", "transformers_version", "dtype", "architectures")


def load_strictly(kind: type[M], path: str | Path, cure: str = "check the path or hub id", **changes: Any) -> M:
    """A trained model of a class from a run folder or the hub, every weight of it.

    Args:
        kind: the model's class.
        path: where it lies.
        cure: what to do where nothing loads.
        changes: fields of its configuration to set to other values, such as weights of losses.

    Raises:
        DataError: nothing there; another model's configuration; weights that are missing, unknown or of another size
            (with their names); a file that is no safetensors file.
    """
    folder = Path(path)
    if folder.exists() and not (folder / "config.json").exists():
        raise DataError(folder, reason="no trained model here (no config.json)", cure="finish its `vng train` first")
    found: dict[str, Any] = told(path, lambda: PretrainedConfig.get_config_dict(str(path))[0], cure)
    wanted: Any = kind.config_class
    ours = kind.__module__.startswith("vng.")  # transformers' SAM 2 for images opens the one for videos, as it should
    if ours and found.get("model_type", wanted.model_type) != wanted.model_type:
        reason = f"holds a model of the type {found['model_type']}, {wanted.model_type} is wanted"
        raise DataError(folder, field="model_type", reason=reason, cure=cure)
    options: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, "use_safetensors": True}
    loaded: Any = told(path, lambda: kind.from_pretrained(str(path), **options, **changes), cure)
    model, report = loaded
    sizes = [f"{name} {list(there)} instead of {list(wanted)}" for name, there, wanted in report["mismatched_keys"]]
    names = {"missing": sorted(report["missing_keys"]), "unknown": sorted(report["unexpected_keys"])}
    if reason := misfits(names | {"of another size": sorted(sizes)}):
        raise DataError(folder, field="weights", reason=reason, cure=f"these are not the weights of a {kind.__name__}")
    return model


def device_named(name: str | None) -> torch.device:
    """The device of a name, or a GPU if there is one; raises UsageError for one that is not here."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:80]
        raise UsageError(f"no device {name!r} here ({reason}); choose cpu, or leave it out") from error
    return device


def told(path: str | Path, load: Callable[[], T], cure: str) -> T:
    """What `load` gives; whatever transformers, safetensors or the hub's client raise becomes a DataError."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # what does not fit is told as an error, not in a table of transformers' as well
    logging.disable_progress_bar()
    try:
        return load()
    except Exception as error:
        first = (str(error).splitlines() or [""])[0][:100]
        raise DataError(
            path, reason=f"no model loads from here ({type(error).__name__}: {first})", cure=cure
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 of a model's configuration and weights, by name: what a result made with it depends on."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in _OF_NO_EFFECT}
    digest = hashlib.sha256(to_json(config).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    """Whether two modules hold the same weights under the same names, whatever the precision they are kept in."""
    own, other = (
        {n: v for n, v in m.state_dict().items() if not n.endswith("num_batches_tracked")} for m in (first, second)
    )
    if {n: v.shape for n, v in own.items()} != {n: v.shape for n, v in other.items()}:
        return False
    return all(torch.equal(v.float().cpu(), other[n].float().cpu()) for n, v in own.items())
