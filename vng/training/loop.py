"""The training loop: any model that returns `.loss`, any sampler whose item i depends on (seed, i) alone.

Resuming is exact by construction: data, dropout and learning rate of a step are functions of (seed, step), so a
checkpoint requires only weights, optimizer state and the step.

A step takes a fixed number of samples: batch_size x accumulate x processes. Its gradient is that of one pass over all
of them, however they are divided over passes and processes.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from vng.dataset import VngDataset, check_datasets
from vng.errors import DataError, UsageError, VngError
from vng.manifest import (
    check_folder,
    check_same,
    claimed_folder,
    file_hash,
    to_json,
    versions,
    write_atomic,
)
from vng.models.batch_norm import share_batch_norms, takes_statistics
from vng.processes import current_processes
from vng.training.launch import MANIFEST, PER_STEP, native_convolutions, samples_per_step, start_run
from vng.training.progress import Score, plot_curves, score_model
from vng.training.recipe import OptimizerSettings, Recipe

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Recipe)

COUNT = "count"  # of a step: what its sums are divided by
LOG, CURVES, CHECKPOINTS = "log.jsonl", "curves.png", "checkpoints"


@dataclass(frozen=True)
class Task:
    """Model, samples and saver of a task, for the loop."""

    # Returns an output with `loss` and `loss_terms`, and with `loss_count` where they are sums divided by a number that
    # differs from pass to pass, such as that of the objects: this number, a scalar.
    model: nn.Module
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


def make_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW, or Adam with L2 regularisation, over the groups of parameters; fused, in one pass instead of a dozen."""
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings.kind]
    return kind(parameter_groups(model, settings), weight_decay=settings.weight_decay, fused=True)


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """The groups of trained parameters: backbone, text encoder and the rest, each with its own rate.

    A model whose backbone has another name has `pretrained_parts`, the beginnings of its parameters' names. Frozen
    parameters are left out. A rate of 0 freezes a group, so that its gradient does not count when gradients are
    clipped.
    """
    rates = {
        "backbone": settings.rate_of("backbone"),
        "text_encoder": settings.rate_of("text_encoder"),
        "rest": settings.lr,
    }
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
    for name, parameter in model.named_parameters():
        prefix = name.split(".", 1)[0]
        group = prefix if prefix in rates else "rest"
        if name.startswith(getattr(model, "pretrained_parts", ())):
            group = "backbone"
        if not rates[group]:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            groups[group].append(parameter)
    return [{"params": p, "lr": rates[n], "base_lr": rates[n], "name": n} for n, p in groups.items() if p]


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
    with ExitStack() as stack:
        current_processes(trains=True).on_main(lambda: stack.enter_context(claimed_folder(recipe.out)))
        return _train(recipe, build, settings, progress, opened)


def _train(
    recipe: R,
    build: Callable[[R, Mapping[Path, VngDataset]], Task],
    settings: dict[str, Any],
    progress: bool,
    opened: Mapping[Path, VngDataset],
) -> float:
    set_seed(recipe.seed)
    recipe, accelerator = start_run(recipe)
    task = build(recipe, opened)
    if recipe.evaluate is not None and task.score is None:
        raise UsageError(f"evaluate: a model of the task {recipe.task} cannot be scored during training")
    if accelerator.is_main_process:
        manifest = {"settings": settings, PER_STEP: samples_per_step(recipe, accelerator), "versions": versions()}
        write_atomic(recipe.out / MANIFEST, to_json(manifest))
    accelerator.wait_for_everyone()
    # Weights that are stored in half precision train in float32; `precision` concerns the computation alone.
    task.model.float()
    if accelerator.num_processes > 1:
        share_batch_norms(task.model)
    optimizer = make_optimizer(task.model, recipe.optimizer)
    model, optimizer = accelerator.prepare(task.model, optimizer)
    start = _resume(accelerator, recipe)
    if accelerator.is_main_process:
        _tell(recipe, accelerator, task, start)
    if recipe.log_with:
        accelerator.init_trackers("vng", config=flat_settings(settings))
    with native_convolutions(task.model):
        loss = _run_steps(accelerator, model, optimizer, task, recipe, start, progress)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _finish(accelerator.unwrap_model(model), task, recipe)
    accelerator.wait_for_everyone()
    if recipe.log_with:
        accelerator.end_training()
    return loss


def _tell(recipe: Recipe, accelerator: Accelerator, task: Task, start: int) -> None:
    """Say on the console what is trained on what."""
    per_step = samples_per_step(recipe, accelerator)
    trained = sum(p.numel() for p in task.model.parameters() if p.requires_grad)
    paths = ", ".join(map(str, recipe.datasets().values()))
    logger.info(
        "%s: steps %s to %s of %s samples each from %s; %s trained weights; %s, %s process(es)",
        recipe.out,
        f"{start + 1:,}",
        f"{recipe.optimizer.steps:,}",
        per_step,
        paths,
        f"{trained:,}",
        accelerator.device,
        accelerator.num_processes,
    )


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
    ignored = {"out", "workers", "keep_checkpoints", "log_with"} | ({"evaluate"} if recipe.evaluate is None else set())
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
    model.train()
    if takes_statistics(model):
        # Passes would have statistics of their own; one pass over the whole batch of the process has those of the step.
        accelerator.gradient_accumulation_steps = 1
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
    per_step = samples_per_step(recipe, accelerator)
    total = o.steps * per_step
    samples = Subset(task.samples(total), range(start * per_step, total))
    loader = DataLoader(
        samples,
        batch_size=o.batch_size * o.accumulate // accelerator.gradient_accumulation_steps,
        collate_fn=task.collate,
        num_workers=recipe.workers,
        persistent_workers=recipe.workers > 0,
        pin_memory=accelerator.device.type == "cuda",
    )
    return accelerator.prepare_data_loader(loader)


def _train_step(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, batches: Any, recipe: Recipe, step: int
) -> dict[str, Tensor]:
    """One optimizer step; returns sums of the loss and its terms over this process's passes, and their `COUNT`."""
    factor = learning_rate(step, recipe.optimizer)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    passes, processes = accelerator.gradient_accumulation_steps, accelerator.num_processes
    sums: dict[str, Tensor] = {}
    for pass_index in range(passes):
        batch = next(batches)
        # Dropout must not depend on earlier steps, or resuming would not be exact; the loader draws random numbers too.
        # Nor may it depend on how the batches of a step are divided over processes.
        place = pass_index * processes + accelerator.process_index
        torch.manual_seed(((recipe.seed * 1_000_003 + step) * 1009 + place) * 4099)
        with accelerator.accumulate(model):
            output = model(**batch)
            count = getattr(output, "loss_count", None)
            count = torch.ones_like(output.loss) if count is None else count.to(output.loss)
            shared = passes * processes > 1
            # A sum over objects, divided by the count of the step below; `backward` divides by the number of passes.
            accelerator.backward(output.loss * count.clamp(min=1) * passes if shared else output.loss)
            values = {"loss": output.loss.detach(), **output.loss_terms}
            for name, value in {**{n: v * count.clamp(min=1) for n, v in values.items()}, COUNT: count}.items():
                sums[name] = sums.get(name, 0) + value.detach()
            if accelerator.sync_gradients:
                if shared:
                    total = accelerator.reduce(sums[COUNT], reduction="sum").clamp(min=1)
                    _scale_gradients(model, processes / total)
                accelerator.clip_grad_norm_(model.parameters(), recipe.optimizer.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
    return sums


def _scale_gradients(model: nn.Module, factor: Tensor) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def _log(
    accelerator: Accelerator, window: list[dict[str, Tensor]], recipe: Recipe, step: int, scores: dict[str, float]
) -> float:
    """Append the window's means and the scores to log.jsonl; raises VngError on a loss that is not finite."""
    sums = {name: torch.stack([terms[name] for terms in window]) for name in window[0]}
    sums = accelerator.reduce(sums, reduction="sum")
    counts = sums.pop(COUNT).clamp(min=1)
    record: dict[str, Any] = {"step": step} | {name: float((value / counts).mean()) for name, value in sums.items()}
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
    if recipe.log_with:
        figures = {name: value for name, value in record.items() if name not in ("step", "score")}
        accelerator.log({**figures, **{f"score/{name}": value for name, value in scores.items()}}, step=step)
    return record["loss"]


def flat_settings(settings: Mapping[str, Any], above: str = "") -> dict[str, int | float | str]:
    """Settings by dotted name, as trackers of experiments take them: numbers and texts."""
    flat: dict[str, int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flat_settings(value, f"{above}{name}.")
        else:
            flat[above + name] = value if isinstance(value, (int, float, str)) else json.dumps(value)
    return flat


def _read_log(out: Path) -> list[dict[str, Any]]:
    """The records of the log; without the last line if a crash cut it.

    Raises:
        DataError: another line is damaged.
    """
    path = out / LOG
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            float(record["loss"]), int(record["step"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if number == len(lines):
                logger.info("%s: the last line was cut by a crash and is dropped", path)
                break
            reason = "expected a record of a step"
            raise DataError(path, record=f"line {number}", reason=reason, cure="delete this line") from error
        records.append(record)
    return records


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
        accelerator.step = 0  # its count of passes would be off where their number differs from before
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
