"""From what a person says to a ``Recipe``: a recipe file, a YAML file over it, flags over both. No torch here.

A recipe file is Python that defines ``recipe(model: str) -> Recipe`` and introduces itself in its docstring. The
shipped ones lie in ``experiments/``: beside the package in a checkout, inside it in an installed wheel.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError, RunError, did_you_mean
from ..recipe import Recipe

_PACKAGE = Path(__file__).resolve().parent.parent


def assembled(
    base: Recipe | None,
    *,
    recipe: str | None = None,
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """A recipe, with what stands in a YAML file over it, with the given flags over that.

    Args:
        base: where to start; the defaults when nothing is given.
        recipe: a recipe file or the name of a shipped one, in place of ``base``.
        config: a YAML file with any of a recipe's fields, or a run's ``config.json``.
        overrides: nested values of flags.

    Raises:
        InputError: a file that is missing or cannot be read, a field that does not exist, a value that does not fit.
    """
    said = read_config(config) if config else {}
    flags = dict(overrides or {})
    if recipe is not None:
        base = named_recipe(recipe, _model_of(flags) or _model_of(said))
    base = base or Recipe()
    if said:
        try:
            base = Recipe.from_dict(merged(base.to_dict(), said))
        except InputError as error:
            raise type(error)(f"{config}: {error}") from None
    return Recipe.from_dict(merged(base.to_dict(), flags)) if flags else base


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``below`` with the values of ``above`` over it, mappings field by field."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def _model_of(tree: Mapping[str, Any]) -> str | None:
    model = tree.get("model")
    return model.get("name") if isinstance(model, Mapping) else None


def read_config(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; of a run's ``config.json`` its recipe."""
    import yaml  # only here: ``--help`` does without

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"--config: {path} cannot be read: {error.strerror}.{_beside(path)}") from None
    except UnicodeDecodeError as error:
        raise RunError(f"--config: {path} is not a text file ({error.reason})") from None
    except yaml.YAMLError as error:
        raise RunError(f"--config: {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise RunError(f"--config: {path}: expected fields such as 'optimisation:', got {data!r}")
    return data["recipe"] if isinstance(data.get("recipe"), dict) else data


def _beside(path: Path) -> str:
    """Files of the same folder with a name like the one that is missing."""
    if not path.parent.is_dir():
        return ""
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml", ".json")]
    return f" {did_you_mean(path.name, names)}" if names else ""


def shipped_folder() -> Path:
    """Where the shipped recipes lie."""
    inside = _PACKAGE / "experiments"
    return inside if inside.is_dir() else _PACKAGE.parent / "experiments"


def shipped_recipes() -> dict[str, Path]:
    """Names such as ``imagenet/poolformer`` and their files."""
    folder = shipped_folder()
    files = sorted(path for path in folder.rglob("*.py") if not path.name.startswith("_"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def named_recipe(name: str, model: str | None = None) -> Recipe:
    """The recipe of a file or of a shipped name, for ``model`` or for the file's own choice.

    Raises:
        RunError: no such file or name, or a file that defines no recipe.
    """
    path = _recipe_file(name)
    make = getattr(_executed(path), "recipe", None)
    if not callable(make):
        raise RunError(f"--recipe: {path} defines no `recipe(model: str) -> Recipe`")
    made = make(model) if model is not None else _for_own_model(make, path)
    if not isinstance(made, Recipe):
        raise RunError(f"--recipe: {path}: expected recipe() to return a Recipe, got {made!r}")
    return made


def _for_own_model(make: Any, path: Path) -> Any:
    try:
        return make()
    except TypeError as error:
        if "required positional argument" not in str(error):
            raise
        raise RunError(f"--recipe: {path} wants to know which model; add --model") from None


def _recipe_file(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_recipes()
    known = name.removesuffix(".py").removeprefix("experiments/")
    if known in shipped:
        return shipped[known]
    raise RunError(f"--recipe: {name!r} is neither a file nor a shipped recipe. {did_you_mean(known, shipped)}")


def _executed(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"metaformer_recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RunError(f"--recipe: {path}: expected a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
