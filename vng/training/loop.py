"""The training loop: any model that returns `.loss`, any sampler whose item i depends on (seed, i) alone.

Resuming is exact by construction: data, dropout and learning rate of a step are functions of (seed, step), so a
checkpoint requires only weights, optimizer state and the step.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from vng.dataset import VngDataset, check_datasets
from vng.errors import DataError, UsageError, VngError
from vng.manifest import check_folder, check_same, file_hash, to_json, versions, write_atomic
from vng.training.progress import Score, plot_curves, score_model
from vng.training.recipe import OptimizerSettings, Recipe

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Recipe)

MANIFEST, LOG, CURVES, CHECKPOINTS = "training.json", "log.jsonl", "curves.png", "checkpoints"


@dataclass(frozen=True)
class Task:
    """Model, samples and saver of a task, for the loop."""

    model: nn.Module  # returns an output with `loss` and `loss_terms`
    samples: Callable[[int], Dataset]  # length -> samples; item i depends on (seed, i) alone
    collate: Callable[[list[Any]], dict[str, Tensor]]
    save: Callable[[nn.Module, Path], None]  # write the trained model, loadable by from_pretrained
    score: Score | None = None  # for `evaluate` of the recipe


def learning_rate(step: int, settings: OptimizerSettings) -> float:
    """The factor on every learning rate at a step, in (0, 1]."""
    if step < settings.warmup:
        return (step + 1) / (settings.warmup + 1)
    progress = step / settings.steps
    if settings.schedule == "cosine":
        return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * progress)))
    if settings.schedule == "steps":
        return 0.1 ** sum(progress >= drop for drop in settings.drops)
    return 1.0


def adamw(groups: list[dict[str, Any]], weight_decay: float) -> torch.optim.AdamW:
    """AdamW over groups of parameters with their own rates; fused, in one pass instead of a dozen."""
    return torch.optim.AdamW(groups, weight_decay=weight_decay, fused=True)


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """AdamW groups: backbone, text encoder and the rest, each with its own rate; frozen parameters are left out."""
    rates = {"backbone": settings.lr_backbone, "text_encoder": settings.lr_text}
    groups: dict[str, list[nn.Parameter]] = {"backbone": [], "text_encoder": [], "rest": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            prefix = name.split(".", 1)[0]
            groups[prefix if prefix in rates else "rest"].append(parameter)
    rest = {"rest": settings.lr, **rates}
    return [{"params": p, "lr": rest[n], "base_lr": rest[n], "name": n} for n, p in groups.items() if p]


def train(
    recipe: R,
    build: Callable[[R, Mapping[Path, VngDataset]], Task],
    progress: bool = True,
    datasets: Mapping[Path, VngDataset] | None = None,
) -> float:
    """Train, or resume an interrupted run; returns the last logged loss.

    The run folder then holds the model (`from_pretrained` opens it), `training.json` (settings, versions), `log.jsonl`
    and `curves.png`. If interrupted and called again, it gives the same output as an uninterrupted run.

    Raises:
        DataErrors: missing datasets, all of them at once and before anything is opened.
        DataError: the folder holds a run with other settings, or a model trained elsewhere.
        UsageError: `save_every` or `evaluate.every` is no multiple of `log_every`, or the task cannot be scored.
        VngError: the loss is not finite.
    """
    opened = datasets or {}
    settings = _check_run(recipe, opened)
    if (recipe.out / "config.json").exists():
        logger.info("%s: already trained", recipe.out)
        return _read_log(recipe.out)[-1]["loss"]
    set_seed(recipe.seed)
    # Allows a second run in one process to have another precision.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        # Without this, processes that torchrun starts on a machine without accelerator do not form one group.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=recipe.precision,
        gradient_accumulation_steps=recipe.optimizer.accumulate,
        step_scheduler_with_optimizer=False,
    )
    task = build(recipe, opened)
    if recipe.evaluate is not None and task.score is None:
        raise UsageError(f"evaluate: a model of the task {recipe.task} cannot be scored during training")
    if accelerator.is_main_process:
        write_atomic(recipe.out / MANIFEST, to_json({"settings": settings, "versions": versions()}))
    accelerator.wait_for_everyone()
    optimizer = adamw(parameter_groups(task.model, recipe.optimizer), recipe.optimizer.weight_decay)
    model, optimizer = accelerator.prepare(task.model, optimizer)
    start = _resume(accelerator, recipe)
    loss = _run_steps(accelerator, model, optimizer, task, recipe, start, progress)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _finish(accelerator.unwrap_model(model), task, recipe)
    accelerator.wait_for_everyone()
    return loss


def _check_run(recipe: Recipe, opened: Mapping[Path, VngDataset]) -> dict[str, Any]:
    """Check a run before anything is opened; returns the settings that the run folder keeps."""
    if recipe.save_every % recipe.log_every:
        raise UsageError(f"save_every={recipe.save_every} must be a multiple of log_every={recipe.log_every}")
    if recipe.evaluate is not None and recipe.evaluate.every % recipe.log_every:
        raise UsageError(f"evaluate.every={recipe.evaluate.every} must be a multiple of log_every={recipe.log_every}")
    check_folder(recipe.out)
    named = recipe.datasets()
    if recipe.evaluate is not None:
        named = {**named, "dataset_manifest.evaluate": recipe.evaluate.dataset}
    check_datasets(path for path in named.values() if path not in opened)
    ignored = {"out", "workers", "keep_checkpoints"} | ({"evaluate"} if recipe.evaluate is None else set())
    settings = json.loads(recipe.model_dump_json(exclude=ignored))
    for name, path in named.items():  # hashes: a rebuilt dataset counts as another one
        manifest = path / "manifest.json"
        settings[name] = file_hash(manifest) if manifest.exists() else None
        if path in opened:
            settings[name] = opened[path].content
    check_same(recipe.out / MANIFEST, settings, recipe.out)
    if (recipe.out / "config.json").exists() and not _read_log(recipe.out):
        reason = "this folder holds a model that was not trained here"
        raise DataError(recipe.out, reason=reason, cure="choose another out")
    return settings


def _run_steps(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Any,
    task: Task,
    recipe: Recipe,
    start: int,
    progress: bool,
) -> float:
    batches = iter(_loader(accelerator, task, recipe, start))
    bar = tqdm(
        total=recipe.optimizer.steps,
        initial=start,
        desc=f"train {recipe.out.name}",
        unit="step",
        disable=not progress or not accelerator.is_main_process,
        mininterval=1.0,
    )
    window: list[dict[str, Tensor]] = []
    loss = float("nan")
    model.train()
    for step in range(start, recipe.optimizer.steps):
        window.append(_train_step(accelerator, model, optimizer, batches, recipe, step))
        bar.update()
        last = step + 1 == recipe.optimizer.steps
        if (step + 1) % recipe.log_every == 0 or last:
            due = recipe.evaluate is not None and (last or (step + 1) % recipe.evaluate.every == 0)
            scores = score_model(accelerator, model, task.score) if due and task.score else {}
            loss = _log(accelerator, window, recipe, step + 1, scores)
            bar.set_postfix(loss=f"{loss:.3f}")
            window = []
        if (step + 1) % recipe.save_every == 0 and step + 1 < recipe.optimizer.steps:
            _save_checkpoint(accelerator, recipe, step + 1)
    bar.close()
    return loss


def _loader(accelerator: Accelerator, task: Task, recipe: Recipe, start: int) -> DataLoader:
    o = recipe.optimizer
    per_step = o.batch_size * o.accumulate * accelerator.num_processes
    total = o.steps * per_step
    samples = Subset(task.samples(total), range(start * per_step, total))
    loader = DataLoader(
        samples,
        batch_size=o.batch_size,
        collate_fn=task.collate,
        num_workers=recipe.workers,
        persistent_workers=recipe.workers > 0,
    )
    return accelerator.prepare_data_loader(loader)


def _train_step(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, batches: Any, recipe: Recipe, step: int
) -> dict[str, Tensor]:
    """One optimizer step; returns the loss and its terms, averaged over the accumulated passes."""
    factor = learning_rate(step, recipe.optimizer)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    terms: dict[str, Tensor] = {}
    for pass_index in range(recipe.optimizer.accumulate):
        batch = next(batches)
        # Dropout must not depend on earlier steps, or resuming would not be exact; the loader draws random numbers too.
        torch.manual_seed(((recipe.seed * 1_000_003 + step) * 1009 + pass_index) * 4099 + accelerator.process_index)
        with accelerator.accumulate(model):
            output = model(**batch)
            accelerator.backward(output.loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), recipe.optimizer.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        for name, value in {"loss": output.loss.detach(), **output.loss_terms}.items():
            terms[name] = terms.get(name, 0) + value / recipe.optimizer.accumulate
    return terms


def _log(
    accelerator: Accelerator, window: list[dict[str, Tensor]], recipe: Recipe, step: int, scores: dict[str, float]
) -> float:
    """Append the window's means and the scores to log.jsonl; raises VngError on a loss that is not finite."""
    means = {name: torch.stack([terms[name] for terms in window]).mean() for name in window[0]}
    means = accelerator.reduce(means, reduction="mean")
    record: dict[str, Any] = {"step": step} | {name: float(value) for name, value in means.items()}
    record["lr"] = recipe.optimizer.lr * learning_rate(step - 1, recipe.optimizer)
    if scores:
        record["score"] = scores
    if not np.isfinite(record["loss"]):
        raise VngError(
            f"{recipe.out}: the loss is {record['loss']} at step {step}; lower optimizer.lr or set precision=no"
        )
    if accelerator.is_main_process:
        with (recipe.out / LOG).open("a") as file:
            file.write(json.dumps(record) + "\n")
    return record["loss"]


def _read_log(out: Path) -> list[dict[str, Any]]:
    path = out / LOG
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _save_checkpoint(accelerator: Accelerator, recipe: Recipe, step: int) -> None:
    """Write checkpoints/step-N, whole or not at all, then delete older ones."""
    folder = recipe.out / CHECKPOINTS
    target = folder / f"step-{step:08d}"
    temporary = target.with_suffix(".tmp")
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.replace(temporary, target)
        for old in _checkpoints(recipe.out)[: -recipe.keep_checkpoints]:
            shutil.rmtree(old)


def _checkpoints(out: Path) -> list[Path]:
    return sorted(p for p in (out / CHECKPOINTS).glob("step-*") if p.suffix != ".tmp")


def _resume(accelerator: Accelerator, recipe: Recipe) -> int:
    """Load the newest checkpoint and truncate the log to it; returns the step to resume from."""
    checkpoints = _checkpoints(recipe.out)
    step = int(checkpoints[-1].name.split("-")[1]) if checkpoints else 0
    if checkpoints:
        accelerator.load_state(str(checkpoints[-1]))
        logger.info("resume from step %d", step)
    if accelerator.is_main_process:
        kept = [record for record in _read_log(recipe.out) if record["step"] <= step]
        write_atomic(recipe.out / LOG, "".join(json.dumps(record) + "\n" for record in kept))
    accelerator.wait_for_everyone()
    return step


def _finish(model: nn.Module, task: Task, recipe: Recipe) -> None:
    """Write the curves, then the model; config.json comes last, so a folder that has one is complete."""
    plot_curves(_read_log(recipe.out), recipe.out / CURVES)
    temporary = recipe.out / "model.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    task.save(model, temporary)
    for file in sorted(temporary.iterdir(), key=lambda path: path.name == "config.json"):
        os.replace(file, recipe.out / file.name)
    temporary.rmdir()
    shutil.rmtree(recipe.out / CHECKPOINTS, ignore_errors=True)
