"""Files that people run by name or by path: the recipes and plans in ``experiments/``. No torch here.

They lie beside the package in a checkout and inside it in an installed wheel. A recipe file defines
``recipe(model: str) -> Recipe``, a plan file ``plan(side: int) -> Plan``; a plan can be YAML too. All introduce
themselves at the top.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError, RunError, did_you_mean
from ..recipe import Recipe

_PACKAGE = Path(__file__).resolve().parents[1]
_PLANS = "ablations/"


def shipped_folder() -> Path:
    """Where the shipped files lie."""
    inside = _PACKAGE / "experiments"
    return inside if inside.is_dir() else _PACKAGE.parent / "experiments"


def shipped_recipes() -> dict[str, Path]:
    """Names such as ``imagenet/poolformer`` and their files."""
    return {name: path for name, path in _shipped(".py").items() if not name.startswith(_PLANS)}


def shipped_plans() -> dict[str, Path]:
    """Names such as ``paper`` and their files."""
    files = _shipped(".py", ".yaml").items()
    return {name.removeprefix(_PLANS): path for name, path in files if name.startswith(_PLANS)}


def _shipped(*suffixes: str) -> dict[str, Path]:
    folder = shipped_folder()
    files = sorted(path for path in folder.rglob("*") if path.suffix in suffixes and not path.name.startswith("_"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def named_recipe(name: str, model: str | None = None, said_as: str = "--recipe") -> Recipe:
    """The recipe of a file or of a shipped name, for ``model`` or for the file's own choice.

    Raises:
        RunError: no such file or name, or a file that defines no recipe; the message starts with ``said_as``.
    """
    try:
        path = _recipe_file(name)
        made = _recipe_of(path, model)
    except InputError as error:
        raise type(error)(f"{said_as}: {error}") from error
    if not isinstance(made, Recipe):
        raise RunError(f"{said_as}: {path}: expected recipe() to return a Recipe, got {made!r}")
    return made


def _recipe_of(path: Path, model: str | None) -> Any:
    make = getattr(executed(path), "recipe", None)
    if not callable(make):
        raise RunError(f"{path} defines no `recipe(model: str) -> Recipe`")
    with mistakes_in(path):
        return make(model) if model is not None else _for_own_model(make)


def _for_own_model(make: Any) -> Any:
    try:
        return make()
    except TypeError as error:
        if "required positional argument" not in str(error):
            raise
        raise RunError("wants to know which model; add --model") from None


def _recipe_file(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_recipes()
    known = name.removesuffix(".py").removeprefix("experiments/")
    if known in shipped:
        return shipped[known]
    raise RunError(f"{name!r} is neither a file nor a shipped recipe. {did_you_mean(known, shipped)}")


def executed(path: Path) -> ModuleType:
    """The module that a Python file makes.

    Raises:
        RunError: no Python file, or one that fails; the message names the file and its line.
    """
    name = f"metaformer_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RunError(f"{path}: expected a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while they are made
    with mistakes_in(path):
        spec.loader.exec_module(module)
    return module


@contextmanager
def mistakes_in(path: Path) -> Iterator[None]:
    """Around what a person's Python file does: whatever goes wrong there is told with the file and the line.

    Raises:
        RunError: in place of Python's own errors; an ``InputError`` keeps its kind.
    """
    try:
        yield
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
    except (Exception, SystemExit) as error:
        raise RunError(f"{path}: {_line(error, path)}{type(error).__name__}: {error}") from error


def _line(error: BaseException, path: Path) -> str:
    """``line 12: `` of the file, where the error passed through it."""
    if isinstance(error, SyntaxError):
        return ""  # its own text has it
    lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if Path(at.filename) == path]
    return f"line {lines[-1]}: " if lines else ""
