"""Recipes: shipped ones, their bases, overrides and faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from vng.config_files import find_config, shipped_configs
from vng.errors import DataError, UsageError
from vng.training.grounding.recipe import GroundingRecipe
from vng.training.loop import learning_rate
from vng.training.recipe import OptimizerSettings, load_settings
from vng.training.tasks import load_recipe

# those of engines are not recipes
CONFIGS = sorted(path for path in shipped_configs().rglob("*.yaml") if "engines" not in path.parts)
assert CONFIGS, "no recipes found"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(shipped_configs())))
def test_every_shipped_recipe_loads(path: Path) -> None:
    recipe = load_recipe(path)
    assert path.read_text().startswith("# Run:") and recipe.save_every % recipe.log_every == 0


class TestSettings:
    def test_base_and_overrides(self) -> None:
        recipe = load_settings(GroundingRecipe, Path("demo/finetune"), ["optimizer.lr=3e-5", "data.flip=0", "out=x/y"])
        assert recipe.optimizer.lr == 3e-5 and recipe.data.flip == 0 and recipe.out == Path("x/y")
        assert (
            recipe.model.sizes["num_queries"]
            == load_settings(GroundingRecipe, Path("demo/pretrain")).model.sizes["num_queries"]
        )

    def test_all_mistakes_in_one_message(self) -> None:
        wrong = ["optimizer.lr=-1", "optimizer.momentum=3", "data.frames=many", "model.sizes.depth=3"]
        with pytest.raises(UsageError) as error:
            load_settings(GroundingRecipe, Path("tiny"), wrong)
        for words in (
            "optimizer.lr",
            "optimizer.momentum: unknown setting, known ones: accumulate, batch_size",
            "data.frames",
            "unknown sizes ['depth']",
        ):
            assert words in str(error.value)

    def test_faults(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no such recipe; shipped ones: .*tiny\.yaml"):
            find_config(tmp_path / "none.yaml")
        (tmp_path / "a.yaml").write_text("out: [")
        with pytest.raises(DataError, match="broken YAML"):
            load_settings(GroundingRecipe, tmp_path / "a.yaml")
        with pytest.raises(UsageError, match="write key=value"):
            load_settings(GroundingRecipe, Path("tiny"), ["steps"])

    def test_tasks(self) -> None:
        assert isinstance(load_recipe(Path("tiny"), ["task=grounding"]), GroundingRecipe)
        with pytest.raises(
            UsageError, match="unknown task 'magic'; choose one of: abs, clicks, dynamite, grounding, instances, stcn"
        ):
            load_recipe(Path("tiny"), ["task=magic"])

    def test_learning_rate(self) -> None:
        steps = OptimizerSettings(steps=100, warmup=4)
        assert [round(learning_rate(s, steps), 6) for s in (0, 3, 4, 49, 50, 99)] == [0.2, 0.8, 1, 1, 0.1, 0.01]
        cosine = OptimizerSettings(steps=100, schedule="cosine")
        assert learning_rate(0, cosine) == 1 and learning_rate(99, cosine) < 0.02


@pytest.mark.parametrize("path", sorted(shipped_configs().rglob("*.yaml")), ids=lambda p: p.stem)
def test_a_recipe_says_what_came_of_it(path: Path) -> None:
    """A recipe that was run has a line with its result, any other one says that it was not run."""
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert ("# Result: " in header) != ("Not run" in header), header
