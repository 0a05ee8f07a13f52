"""Scores of the model during training, by the accumulators of `vng.evaluation`, over all processes; curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

if TYPE_CHECKING:
    from vng.evaluation.narrative.accumulator import NarrativeScore

Score = Callable[[nn.Module, int, int], "NarrativeScore"]  # model, process, processes -> the score of its videos


def score_model(accelerator: Accelerator, model: nn.Module, score: Score) -> dict[str, float]:
    """The score of all processes' videos, the same in each of them; the model is left in training mode.

    Nothing random is drawn, so a run that is scored trains to the same weights as one that is not.
    """
    own = score(accelerator.unwrap_model(model), accelerator.process_index, accelerator.num_processes)
    first, *others = gather_object([own]) if accelerator.num_processes > 1 else [own]
    for other in others:
        first.merge(other)
    model.train()
    return first.compute()


def plot_curves(log: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot the loss and its terms over the steps (log scale), and the scores if there are any, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = [record["step"] for record in log]
    terms = [name for name in (log[0] if log else {}) if name not in ("step", "loss", "lr", "score")]
    scored = [record for record in log if "score" in record]
    count = 3 if scored else 2
    figure, (left, right, *more) = plt.subplots(1, count, figsize=(5.5 * count, 4), constrained_layout=True)
    left.plot(steps, [record["loss"] for record in log], color="black", linewidth=1.2)
    left.set(title="loss (weighted, all decoder layers)", xlabel="step", yscale="log")
    for name in terms:
        right.plot(steps, [max(record[name], 1e-6) for record in log], label=name, linewidth=1.0)
    right.set(title="terms of the last layer", xlabel="step", yscale="log")
    if terms:
        right.legend(frameon=False)
    for axes in more:
        for name in scored[0]["score"]:
            axes.plot([r["step"] for r in scored], [r["score"][name] for r in scored], marker=".", label=name)
        axes.set(title="score on evaluate.dataset", xlabel="step", ylim=(0, 1))
        axes.legend(frameon=False)
    for axes in (left, right, *more):
        axes.grid(alpha=0.25, which="both")
    figure.savefig(path, dpi=110)
    plt.close(figure)
