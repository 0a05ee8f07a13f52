"""Loading of trained models; weights that do not fit raise an error that names them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from vng.errors import DataError, UsageError
from vng.manifest import to_json
from vng.models.checkpoints import misfits

T = TypeVar("T")
M = TypeVar("M", bound=PreTrainedModel)

PACKAGE = Path(__file__).resolve().parents[1]
# name -> folder of the package that has the weights
SHIPPED = {"embedded": "segmenters", "stcn": "propagators", "abs": "propagators"}
GATED = "ask for access on its page, then log in with `hf auth login`"
_OF_NO_EFFECT = ("_name_or_path", "transformers_version", "dtype", "architectures")


def shipped_weights(name: str) -> Path:
    """The folder of weights that are shipped in the package: "embedded" (ClickNet), "stcn" or "abs"."""
    return PACKAGE / SHIPPED[name] / "weights" / name


def find_model(name: str | Path) -> str | Path:
    """The folder of the shipped weights of this name; any other name, and any folder that exists, as it is."""
    path = Path(name).expanduser()
    if str(name) in SHIPPED and not path.exists():
        return shipped_weights(str(name))
    return path if str(name).startswith("~") else name


def load_strictly(
    kind: type[M], path: str | Path, cure: str = "check the path or hub id", surplus: bool = False, **changes: Any
) -> M:
    """A trained model of a class from a run folder or the hub, every weight of it.

    Args:
        kind: the model's class.
        path: the run folder, the hub id, or the name of shipped weights ("embedded", "stcn", "abs").
        cure: the advice in the error if nothing loads.
        surplus: whether weights that the class does not know are left out, as some on the hub have; else an error.
        changes: fields of its configuration to change, such as weights of losses.

    Raises:
        DataError: no model there; the configuration of another model; weights that are missing, unknown or of another
            size (with their names); a file that is not a safetensors file.
    """
    path = find_model(path)
    folder = Path(path)
    if folder.exists() and not (folder / "config.json").exists():
        raise DataError(folder, reason="no trained model here (no config.json)", cure="finish its `vng train` first")
    config: dict[str, Any] = load_or_raise(path, lambda: PretrainedConfig.get_config_dict(str(path))[0], cure)
    if not isinstance(config, dict):
        raise DataError(folder, field="config.json", reason=f"holds {type(config).__name__}", cure=cure)
    expected: Any = kind.config_class
    # Only for our models: transformers' SAM 2 for images may open a SAM 2 for videos.
    ours = kind.__module__.startswith("vng.")
    if ours and config.get("model_type", expected.model_type) != expected.model_type:
        reason = f"holds a model of type {config['model_type']}, expected {expected.model_type}"
        raise DataError(folder, field="model_type", reason=reason, cure=cure)
    options: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, "use_safetensors": True}
    loaded: Any = load_or_raise(path, lambda: kind.from_pretrained(str(path), **options, **changes), cure)
    model, report = loaded
    sizes = [
        f"{name} {list(actual)} instead of {list(expected)}" for name, actual, expected in report["mismatched_keys"]
    ]
    names = {"missing": sorted(report["missing_keys"])}
    names |= {} if surplus else {"unknown": sorted(report["unexpected_keys"])}
    if reason := misfits(names | {"of another size": sorted(sizes)}):
        raise DataError(folder, field="weights", reason=reason, cure=f"these are not the weights of a {kind.__name__}")
    broken = [n for n, tensor in model.named_parameters() if not bool(torch.isfinite(tensor).all())]
    if reason := misfits({"not finite": broken}):
        raise DataError(folder, field="weights", reason=reason, cure="train it again; its training diverged")
    return model


def device_named(name: str | None) -> torch.device:
    """The device of this name; raises UsageError if it is not available.

    None: a GPU if there is one. Among the processes of a launcher, "cuda" is each process's own GPU in turn.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and (count := torch.cuda.device_count()):
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % count}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:80]
        raise UsageError(f"no device {name!r} here ({reason}); choose cpu, or leave it out") from error
    return device


def load_or_raise(path: str | Path, load: Callable[[], T], cure: str) -> T:
    """The result of `load`; any error of transformers, safetensors or the hub's client is raised as a DataError.

    A gated checkpoint, and one that the installed transformers does not know, have cures of their own.
    """
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    # Weights that do not fit raise our error; transformers would print a table of them as well.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return load()
    except Exception as error:
        raise DataError(path, **_unloadable(error, cure)) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _unloadable(error: BaseException, cure: str) -> dict[str, str]:
    """Reason and cure for an error of loading, by it and the errors that it came from."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    words = " ".join(f"{type(part).__name__} {part}" for part in chain)
    if "GatedRepo" in words or "gated repo" in words:
        return {"reason": "this checkpoint is gated", "cure": GATED}
    if "does not recognize this architecture" in words:
        reason = f"transformers {transformers.__version__} does not know this kind of model"
        return {"reason": reason, "cure": "install a newer transformers"}
    first = (str(error).splitlines() or [""])[0][:100]
    return {"reason": f"no model loads from here ({type(error).__name__}: {first})", "cure": cure}


def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 of a model's configuration and weights by name, on which results of the model depend."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in _OF_NO_EFFECT}
    digest = hashlib.sha256(to_json(config).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    """Whether two modules hold the same weights under the same names, in whatever precision."""
    own, other = (
        {n: v for n, v in m.state_dict().items() if not n.endswith("num_batches_tracked")} for m in (first, second)
    )
    if {n: v.shape for n, v in own.items()} != {n: v.shape for n, v in other.items()}:
        return False
    return all(torch.equal(v.float().cpu(), other[n].float().cpu()) for n, v in own.items())
