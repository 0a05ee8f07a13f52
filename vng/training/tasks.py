"""Tasks by name: what a recipe's `task` stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from vng.errors import one_of
from vng.training.clicks.recipe import ClicksRecipe, DynamiteRecipe
from vng.training.grounding.recipe import GroundingRecipe
from vng.training.recipe import Recipe, check_settings, load_tree
from vng.training.stcn.recipe import StcnRecipe

if TYPE_CHECKING:
    from vng.training.loop import Task


@dataclass(frozen=True)
class TaskKind:
    """How a task's recipe looks, and who makes model, samples and saver of it ("module:function")."""

    recipe: type[Recipe]
    builder: str


TASKS = {
    "grounding": TaskKind(GroundingRecipe, "vng.training.grounding.task:build_grounding"),
    "clicks": TaskKind(ClicksRecipe, "vng.training.clicks.task:build_clicks"),
    "dynamite": TaskKind(DynamiteRecipe, "vng.training.clicks.dynamite:build_dynamite"),
    "stcn": TaskKind(StcnRecipe, "vng.training.stcn.task:build_stcn"),
}


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The typed recipe of a file; its `task` says of which kind, "grounding" where it says none.

    Raises:
        DataError: the file is missing or broken YAML. UsageError: an unknown task, an unknown key, a wrong value.
    """
    tree = load_tree(path, overrides)
    name = one_of(str(tree.get("task", "grounding")), TASKS, "task")
    return check_settings(TASKS[name].recipe, tree, str(path))


def build(recipe: Recipe) -> Task:
    """Model, samples and saver of a recipe."""
    module, _, function = TASKS[recipe.task].builder.partition(":")
    return getattr(import_module(module), function)(recipe)
