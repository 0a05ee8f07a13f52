"""Training tasks by name (a recipe's `task`), and training of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vng.config_files import apply_setting, load_tree
from vng.errors import UsageError, one_of
from vng.training.abs.recipe import AbsRecipe
from vng.training.clicks.recipe import ClicksRecipe, DynamiteRecipe
from vng.training.grounding.recipe import GroundingRecipe
from vng.training.instances.recipe import InstancesRecipe
from vng.training.recipe import Recipe, check_settings
from vng.training.stcn.recipe import StcnRecipe

if TYPE_CHECKING:
    from vng.dataset import VngDataset
    from vng.training.loop import Task


@dataclass(frozen=True)
class TaskKind:
    """The recipe class of a task, and the function ("module:function") that builds its model, samples and saver."""

    recipe: type[Recipe]
    builder: str


TASKS = {
    "grounding": TaskKind(GroundingRecipe, "vng.training.grounding.task:build_grounding"),
    "clicks": TaskKind(ClicksRecipe, "vng.training.clicks.task:build_clicks"),
    "dynamite": TaskKind(DynamiteRecipe, "vng.training.clicks.dynamite:build_dynamite"),
    "stcn": TaskKind(StcnRecipe, "vng.training.stcn.task:build_stcn"),
    "instances": TaskKind(InstancesRecipe, "vng.training.instances.task:build_instances"),
    "abs": TaskKind(AbsRecipe, "vng.training.abs.task:build_abs"),
}


def train(
    recipe: str | Path,
    dataset: VngDataset | str | Path | Any = None,
    *,
    out: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> Path:
    """Train a model from a recipe, or resume an interrupted run.

    train("configs/grounder.yaml", "data/oops-vng", out="out/oops-vng", **{"optimizer.lr": 1e-4})

    Args:
        recipe: a YAML file, or the name of a shipped one ("grounder", "point-vos/points").
        dataset: the training dataset, in place of the recipe's `data.path`: a folder, a hub id, a `VngDataset`, or a
            `datasets.Dataset` that was filtered or mapped.
        out: the run folder, in place of the recipe's.
        progress: whether a bar counts steps.
        settings: settings of the recipe to change, dotted.

    Returns:
        The run folder, which `from_pretrained` opens.

    Raises:
        UsageError: an unknown recipe or setting, a wrong value.
        DataError: a missing dataset, a folder with a run of other settings.
        VngError: the loss is not finite.
    """
    from vng.dataset import as_dataset

    tree = load_tree(Path(recipe))
    for key, value in settings.items():
        apply_setting(tree, key, value)
    opened: dict[Path, VngDataset] = {}
    if dataset is not None:
        path = Path(dataset) if isinstance(dataset, (str, Path)) else None
        if path is None:
            opened_dataset = as_dataset(dataset)
            path = opened_dataset.path
            opened[path] = opened_dataset
        apply_setting(tree, "data.sources", [])
        apply_setting(tree, "data.path", str(path))
    if out is not None:
        apply_setting(tree, "out", str(out))
    typed_recipe = recipe_of(tree, str(recipe))
    train_recipe(typed_recipe, progress=progress, datasets=opened)
    return typed_recipe.out


def train_recipe(recipe: Recipe, progress: bool = True, datasets: dict[Path, VngDataset] | None = None) -> float:
    """Train a loaded recipe; returns the last logged loss. See `vng.training.loop.train`.

    Args:
        recipe: the recipe to train.
        progress: whether a bar counts steps.
        datasets: opened ones, by the path under which the recipe names them; the others are opened.
    """
    from vng.training.loop import train as run

    return run(recipe, build, progress=progress, datasets=datasets)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The typed recipe of a file; its `task` names the kind, "grounding" by default.

    Raises:
        DataError: the file is missing or not valid YAML. UsageError: an unknown task, an unknown key, a wrong value.
    """
    return recipe_of(load_tree(path, overrides), str(path))


def recipe_of(tree: dict[str, Any], source: str) -> Recipe:
    """The typed recipe of plain settings; raises UsageError, naming the `source`."""
    name = tree.get("task", "grounding")
    if not isinstance(name, str):
        raise UsageError(f"{source}: task: expected a name, got {name!r}")
    return check_settings(TASKS[one_of(name, TASKS, "task")].recipe, tree, source)


def build(recipe: Recipe, datasets: Mapping[Path, VngDataset]) -> Task:
    """Model, samples and saver of a recipe; `datasets` as for `train_recipe`."""
    module, _, function = TASKS[recipe.task].builder.partition(":")
    return getattr(import_module(module), function)(recipe, datasets)
