"""Recipes from files and flags: what goes over what, former names, errors of users' Python files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import yaml

from metaformer.ablation.plan_files import read_plan
from metaformer.errors import RunError
from metaformer.run.recipes import assemble_recipe, named_recipe, run_file, shipped_recipes

OLD = Path(__file__).with_name("version_0_1_0")


def test_flags_go_over_yaml_and_yaml_over_the_recipe(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("optimizer:\n  lr: 1e-4\n  epochs: 7\nseed: 5\n")
    made = assemble_recipe(None, recipe="finetune", config=config, overrides={"optimizer": {"epochs": 9}})
    shipped = named_recipe("finetune")
    assert made.optimizer.epochs == 9
    assert (made.optimizer.lr, made.seed) == (1e-4, 5)
    assert made.optimizer.layer_decay == shipped.optimizer.layer_decay is not None


def test_every_recipe_survives_yaml(tmp_path: Path) -> None:
    for name in shipped_recipes():
        recipe = named_recipe(name)
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe.to_dict()))
        assert assemble_recipe(None, config=path) == recipe


def test_a_recipe_without_a_default_model_takes_that_of_the_flags_or_the_yaml_file(tmp_path: Path) -> None:
    file, config = tmp_path / "mine.py", tmp_path / "run.yaml"
    file.write_text(
        "from metaformer.recipe import ModelConfig, Recipe\n"
        "def recipe(model):\n    return Recipe(model=ModelConfig(name=model))\n"
    )
    flags = {"model": {"name": "caformer_s18"}}
    config.write_text("model: {name: convformer_s18}")
    assert assemble_recipe(None, recipe=str(file), overrides=flags).model.name == "caformer_s18"
    assert assemble_recipe(None, recipe=str(file), config=config).model.name == "convformer_s18"
    assert assemble_recipe(None, recipe=str(file), config=config, overrides=flags).model.name == "caformer_s18"


def test_an_error_in_a_users_file_has_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("import os\n\nraise KeyError('x')\n")
    monkeypatch.chdir(tmp_path)
    for path in (Path("mine.py"), tmp_path / "mine.py"):
        with pytest.raises(RunError, match=r"mine\.py: line 3: KeyError: 'x'"):
            run_file(path)


# ---- names of version 0.1.0 ------------------------------------------------------------------------------------------


def test_the_config_of_an_old_run_is_read_without_a_warning() -> None:
    path = OLD / "runs" / "photos" / "config.json"
    stored = json.loads(path.read_text())["recipe"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipe = assemble_recipe(None, config=path)
    assert recipe.optimizer.name == stored["optimisation"]["optimiser"]
    assert recipe.optimizer.lr == stored["optimisation"]["lr"]


def test_former_names_in_a_yaml_file_are_read_with_one_warning(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("optimisation: {optimiser: sgd, lr: 0.5}")
    with pytest.warns(FutureWarning) as caught:
        recipe = assemble_recipe(None, config=config, overrides={"optimisation": {"epochs": 3}})
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.epochs) == ("sgd", 0.5, 3)
    assert [str(warning.message) for warning in caught] == [
        f"{config}: optimisation is now optimizer, optimisation.optimiser is now optimizer.name; "
        "old names are still accepted"
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_recipe_file_of_version_0_1_0_runs(tmp_path: Path) -> None:
    file = tmp_path / "old.py"
    file.write_text(
        "from metaformer.recipe import DataChoice, ModelChoice, Optimisation, Recipe\n"
        "def recipe(model='poolformer_s12'):\n"
        "    return Recipe(model=ModelChoice(name=model), data=DataChoice(source='digits'),\n"
        "                  optimisation=Optimisation(optimiser='lamb', epochs=2))\n"
    )
    recipe = named_recipe(str(file))
    assert (recipe.optimizer.name, recipe.optimizer.epochs) == ("lamb", 2)


def test_a_plan_with_former_names_is_read(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(
        "recipe: {name: short, optimisation: {optimiser: sgd}}\n"
        "changes: [{name: lamb, recipe: {optimisation: {optimiser: lamb}}}]\n"
    )
    plan = read_plan(file, 32)
    assert plan.recipe.optimizer.name == "sgd"
    assert plan.recipe.updated(plan.changes[0].recipe).optimizer.name == "lamb"
