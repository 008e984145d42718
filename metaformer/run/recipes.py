"""Recipes from files and flags: a recipe file, then a YAML file, then flags; the later one wins. No torch here.

The files in ``experiments/`` can be named without their path. They are beside the package in a checkout and inside it
in an installed wheel. A recipe file defines ``recipe(model: str) -> Recipe``, a plan file ``plan(side: int) -> Plan``;
a plan can be YAML too. The docstring of each file introduces it.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError, RunError, did_you_mean
from ..recipe import Recipe

_PACKAGE = Path(__file__).resolve().parents[1]
_PLANS = "ablations/"


def assemble_recipe(
    base: Recipe | None,
    *,
    recipe: str | None = None,
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """A recipe, updated from a YAML file, then from flags.

    Args:
        base: the recipe to start from; None means the defaults.
        recipe: a recipe file or the name of a shipped one, instead of ``base``.
        config: a YAML file with some fields of a recipe, or the ``config.json`` of a run.
        overrides: the values of flags, as a nested mapping.

    Raises:
        InputError: a file that is missing or cannot be read, an unknown field, or a value of a wrong type.
    """
    fields = read_config(config) if config else {}
    flags = Recipe.with_current_names(overrides or {})
    if recipe is not None:
        # the model is needed first, because the settings in a recipe file depend on it
        base = named_recipe(recipe, _model_of(flags) or _model_of(fields))
    base = base or Recipe()
    if fields:
        try:
            base = base.updated(fields)
        except InputError as error:
            raise type(error)(f"{config}: {error}") from None
    return base.updated(flags) if flags else base


def _model_of(fields: Mapping[str, Any]) -> str | None:
    model = fields.get("model")
    return model.get("name") if isinstance(model, Mapping) else None


def read_config(path: Path) -> dict[str, Any]:
    """The fields in a YAML file, under their present names; of a run's ``config.json``, those of its recipe.

    Former names cause a warning in a YAML file, which people write, and none in ``config.json``.
    """
    import yaml  # only here, so that --help does not wait for it

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"--config: cannot read {path}: {error.strerror}.{_similar_files(path)}") from None
    except UnicodeDecodeError as error:
        raise RunError(f"--config: {path} is not a text file ({error.reason})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""  # PyYAML counts from 0
        raise RunError(f"--config: {path} is not valid YAML: {place}{error.problem}") from None
    except yaml.YAMLError as error:
        raise RunError(f"--config: {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise RunError(f"--config: {path}: expected fields such as 'optimizer:', got {data!r}")
    if isinstance(data.get("recipe"), dict):
        return Recipe.with_current_names(data["recipe"])
    warn_of_former_names(Recipe.former_names(data), str(path))
    return Recipe.with_current_names(data)


def warn_of_former_names(former: Mapping[str, str], place: str) -> None:
    """Issue one warning for all former names in a file or a command line, if there are any."""
    if former:
        names = ", ".join(f"{old} is now {new}" for old, new in former.items())
        warnings.warn(f"{place}: {names}; old names are still accepted", FutureWarning, stacklevel=2)


def _similar_files(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml", ".json")]
    return f" {did_you_mean(path.name, names)}" if names else ""


# ---- files in experiments/ -------------------------------------------------------------------------------------------


def experiments_folder() -> Path:
    """The folder with the shipped recipes and plans."""
    inside = _PACKAGE / "experiments"
    return inside if inside.is_dir() else _PACKAGE.parent / "experiments"


def shipped_recipes() -> dict[str, Path]:
    """The shipped recipes by name, such as ``imagenet/poolformer``."""
    return {name: path for name, path in _shipped(".py").items() if not name.startswith(_PLANS)}


def shipped_plans() -> dict[str, Path]:
    """The shipped plans by name, such as ``paper``."""
    files = _shipped(".py", ".yaml").items()
    return {name.removeprefix(_PLANS): path for name, path in files if name.startswith(_PLANS)}


def _shipped(*suffixes: str) -> dict[str, Path]:
    folder = experiments_folder()
    files = sorted(path for path in folder.rglob("*") if path.suffix in suffixes and not path.name.startswith("_"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def named_recipe(name: str, model: str | None = None, *, flag: str = "--recipe") -> Recipe:
    """The recipe of a file, for ``model`` or for the file's default model.

    Args:
        name: a path, or a shipped name such as ``finetune``.
        model: passed to the file's ``recipe`` function.
        flag: where ``name`` was given; messages start with it.

    Raises:
        RunError: no such file or name, or a file that does not define a recipe.
    """
    try:
        path = _recipe_file(name)
        recipe = _call_recipe(path, model)
    except InputError as error:
        raise type(error)(f"{flag}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise RunError(f"{flag}: {path}: expected recipe() to return a Recipe, got {recipe!r}")
    return recipe


def _recipe_file(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_recipes()
    known = name.removesuffix(".py").removeprefix("experiments/")
    if known in shipped:
        return shipped[known]
    raise RunError(f"{name!r} is neither a file nor a shipped recipe. {did_you_mean(known, shipped)}")


def _call_recipe(path: Path, model: str | None) -> object:
    make = getattr(run_file(path), "recipe", None)
    if not callable(make):
        raise RunError(f"{path}: expected a function `recipe(model: str) -> Recipe`, found none")
    with user_code_errors(path):
        if model is not None:
            return make(model)
        try:
            return make()
        except TypeError as error:
            # Python has no other sign that an argument was missing
            if "required positional argument" not in str(error):
                raise
            raise RunError("this recipe has no default model; add --model") from None


# ---- Python files of users -------------------------------------------------------------------------------------------


def run_file(path: Path) -> ModuleType:
    """Run a Python file and return it as a module.

    Raises:
        RunError: not a Python file, or one that fails; the message has the file and the line.
    """
    name = f"metaformer_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RunError(f"{path}: expected a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module when the class is created
    with user_code_errors(path):
        spec.loader.exec_module(module)
    return module


@contextmanager
def user_code_errors(path: Path) -> Iterator[None]:
    """Convert an error in a user's Python file to one message with the file and the line.

    Raises:
        RunError: instead of Python's own errors; an ``InputError`` keeps its class.
    """
    try:
        yield
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
    except (Exception, SystemExit) as error:  # sys.exit() in a recipe must not end the command without a message
        raise RunError(f"{path}: {_line_of(error, path)}{type(error).__name__}: {error}") from error


def _line_of(error: BaseException, path: Path) -> str:
    """``line 12: ``, if the error passed through the file."""
    if isinstance(error, SyntaxError):
        return ""  # its own message has the line
    file = path.resolve()  # Python keeps absolute paths, a user may name the file by a relative one
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == file]
    return f"line {lines[-1]}: " if lines else ""
