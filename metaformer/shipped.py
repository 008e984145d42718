"""Python files that people run by name or by path: the recipes and plans in ``experiments/``. No torch here.

They lie beside the package in a checkout and inside it in an installed wheel. A recipe file defines
``recipe(model: str) -> Recipe``, a plan file ``plan(side: int) -> Plan``; both introduce themselves in their docstring.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import RunError, did_you_mean
from .recipe import Recipe

_PACKAGE = Path(__file__).resolve().parent
_PLANS = "ablations/"


def shipped_folder() -> Path:
    """Where the shipped files lie."""
    inside = _PACKAGE / "experiments"
    return inside if inside.is_dir() else _PACKAGE.parent / "experiments"


def shipped_recipes() -> dict[str, Path]:
    """Names such as ``imagenet/poolformer`` and their files."""
    return {name: path for name, path in _shipped().items() if not name.startswith(_PLANS)}


def shipped_plans() -> dict[str, Path]:
    """Names such as ``paper`` and their files."""
    return {name.removeprefix(_PLANS): path for name, path in _shipped().items() if name.startswith(_PLANS)}


def _shipped() -> dict[str, Path]:
    folder = shipped_folder()
    files = sorted(path for path in folder.rglob("*.py") if not path.name.startswith("_"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def named_recipe(name: str, model: str | None = None) -> Recipe:
    """The recipe of a file or of a shipped name, for ``model`` or for the file's own choice.

    Raises:
        RunError: no such file or name, or a file that defines no recipe.
    """
    path = _recipe_file(name)
    make = getattr(executed(path, "--recipe"), "recipe", None)
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


def executed(path: Path, flag: str) -> ModuleType:
    """The module that a Python file makes; ``flag`` names it in the message when it is no such file."""
    name = f"metaformer_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RunError(f"{flag}: {path}: expected a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while they are made
    spec.loader.exec_module(module)
    return module
