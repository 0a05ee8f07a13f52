"""The command `vng train`."""

from __future__ import annotations

import argparse
from typing import Any

from vng.cli.options import command, path

NAME, SUMMARY = (
    "train",
    "train a grounder or a click segmenter from a recipe; an interrupted run resumes when started again",
)


def add(commands: Any) -> None:
    """Add the parser of `vng train`."""
    parser = command(
        commands,
        NAME,
        run,
        SUMMARY,
        "vng train configs/grounder.yaml data.path=data/oops-vng out=out/run optimizer.lr=5e-5\n"
        "  accelerate launch -m vng.cli train configs/grounder.yaml data.path=data/oops-vng out=out/run",
    )
    parser.add_argument("config", type=path, help="recipe: a YAML file, or the name of a shipped one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, by dotted name")


# What a model of a task is used for.
NEXT = {
    "grounding": "vng predict --model {run} --dataset TEST --out RESULTS, or --video CLIP --narrative 'A [noun] ...'",
    "clicks": "vng convert points --source DATA --segmenter embedded --segmenter-checkpoint {run} --out OUT",
    "dynamite": "vng convert points --source DATA --segmenter dynamite --segmenter-checkpoint {run} --out OUT",
    "stcn": "vng propagate --video CLIP --points POINTS --propagator stcn --propagator-checkpoint {run} --out OUT",
    "instances": "vng convert points --source DATA --propagator proposals --propagator-checkpoint {run} "
    "--propagator-set source=mask2former --propagator-set confidence=score --out OUT",
    "abs": "vng propagate --video CLIP --points POINTS --propagator abs --propagator-checkpoint {run} --out OUT",
}


def run(arguments: argparse.Namespace) -> None:
    """Train; print the loss."""
    from vng.training.tasks import load_recipe, train_recipe

    recipe = load_recipe(arguments.config, arguments.overrides)
    if arguments.quiet:
        from transformers.utils import logging as bars

        bars.disable_progress_bar()  # shown by transformers while it saves weights
    loss = train_recipe(recipe, progress=not arguments.quiet)
    print(f"{recipe.out}: trained, loss {loss:.4f}")
    if not arguments.quiet and recipe.task in NEXT:
        print(f"next: {NEXT[recipe.task].format(run=recipe.out)}")
