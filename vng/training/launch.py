"""Processes, passes and precision of a training run: what a launcher asks for, and what the recipe says."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, GradientAccumulationPlugin
from torch import nn

from vng.errors import UsageError, one_of
from vng.manifest import read_manifest
from vng.training.recipe import Recipe

logger = logging.getLogger(__name__)
R = TypeVar("R", bound=Recipe)
UNSUPPORTED_LAUNCHES = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")
MANIFEST, PER_STEP = "training.json", "samples_per_step"  # settings of a run, and a key of them


def start_run(recipe: R) -> tuple[R, Accelerator]:
    """The processes of a run; its number of passes follows from theirs if it was started with other processes.

    Raises:
        UsageError: the environment asks for what the recipe does not have, or the processes cannot divide the samples
            of a step.
    """
    # Without `cpu`, processes that torchrun starts on a machine without accelerator do not form one group.
    cpu = not torch.accelerator.is_available()
    check_launch(recipe.precision, cpu)
    # Allows a second run in one process to have another precision.
    AcceleratorState._reset_state()
    processes = PartialState(cpu=cpu).num_processes
    recipe = _keep_samples_of_a_step(recipe, processes)
    # A plugin, because the argument `gradient_accumulation_steps` is overruled by an environment variable.
    passes = GradientAccumulationPlugin(num_steps=recipe.optimizer.accumulate, sync_with_dataloader=False)
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=recipe.precision,
        gradient_accumulation_plugin=passes,
        step_scheduler_with_optimizer=False,
        log_with=check_trackers(recipe.log_with) or None,
        project_dir=recipe.out,
        dataloader_config=DataLoaderConfiguration(non_blocking=not cpu),
    )
    return recipe, accelerator


def check_trackers(names: Sequence[str]) -> list[str]:
    """The trackers of a recipe; raises UsageError for one that Accelerate does not know, or that is not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    ready = [str(name) for name in get_available_trackers()]
    for name in names:
        one_of(name, LOGGER_TYPE_TO_CLASS, "tracker (log_with)")
        if name not in ready:
            raise UsageError(f"log_with: {name} is not installed; pip install {name}, or leave it out")
    return list(names)


def check_launch(precision: str, cpu: bool) -> None:
    """Check what a launcher asks for in the environment; raises UsageError where the recipe has something else."""
    asked = {name.removeprefix("ACCELERATE_"): value for name, value in os.environ.items()}
    mixed = asked.get("MIXED_PRECISION", "no").lower()
    if mixed not in ("no", precision):
        raise UsageError(
            f"accelerate launch --mixed_precision {mixed}: the recipe has precision={precision}; set precision={mixed}"
            " in the recipe or on the command line, or leave the option out"
        )
    if precision == "fp16" and cpu:
        raise UsageError(
            "precision=fp16: there is no GPU here, and a CPU does not train in it; set precision=bf16 or no"
        )
    for name in UNSUPPORTED_LAUNCHES:
        if asked.get(f"USE_{name}", "false").lower() in ("true", "1"):
            raise UsageError(f"accelerate launch with {name}: not supported; use its plain multi-GPU launch")
    if asked.get("DYNAMO_BACKEND", "no").lower() != "no":
        raise UsageError("accelerate launch --dynamo_backend: not supported for training; leave it out")


def samples_per_step(recipe: Recipe, accelerator: Accelerator) -> int:
    """The number of samples of a step."""
    return recipe.optimizer.batch_size * recipe.optimizer.accumulate * accelerator.num_processes


def _keep_samples_of_a_step(recipe: R, processes: int) -> R:
    """The recipe with as many passes as give a step the samples that it had when the run was started."""
    path = recipe.out / MANIFEST
    started = read_manifest(path).get(PER_STEP) if path.exists() else None
    settings = recipe.optimizer
    if not isinstance(started, int) or started == settings.batch_size * settings.accumulate * processes:
        return recipe
    passes, rest = divmod(started, settings.batch_size * processes)
    if rest or not passes:
        raise UsageError(
            f"{recipe.out}: this run was started with {started} samples a step, which {processes} processes with"
            f" batch_size {settings.batch_size} cannot divide; use a number of processes that divides"
            f" {started // settings.batch_size}, or choose another out"
        )
    logger.info("%d passes a step, so that a step has the same %d samples as before", passes, started)
    return recipe.model_copy(update={"optimizer": settings.model_copy(update={"accumulate": passes})})


@contextmanager
def native_convolutions(model: nn.Module) -> Iterator[None]:
    """Without oneDNN where the model has a convolution that it breaks on a CPU.

    The gradient of a channels-last 1x1 convolution with a stride, from 8 to 12 channels, writes past its memory in
    torch 2.13 (oneDNN): the process aborts. Widths that are multiples of 8 are right.
    """
    faulty = any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and (layer.in_channels % 8 or layer.out_channels % 8)
        for layer in model.modules()
    )
    if not faulty:
        yield
        return
    with torch.backends.mkldnn.flags(enabled=False):
        yield
