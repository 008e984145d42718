"""A plan by its name or its file: a shipped one, Python that defines ``plan(side)``, or YAML. No torch here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError, RunError, did_you_mean
from ..run.recipes import named_recipe, run_file, shipped_plans, user_code_errors
from .plan import Plan

_YAML = (".yaml", ".yml", ".json")


def plan_file(name: str) -> Path:
    """The file of a plan.

    Raises:
        RunError: neither a file nor a shipped plan.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_plans()
    known = name.removeprefix("experiments/").removeprefix("ablations/")
    known = known.removesuffix(".py").removesuffix(".yaml")
    if known in shipped:
        return shipped[known]
    raise RunError(f"{name!r} is neither a plan's file nor a shipped plan. {did_you_mean(known, shipped)}")


def read_plan(path: Path, side: int) -> Plan:
    """The plan in a file, for images of ``side`` pixels.

    Raises:
        RunError: no plan in it, a field that does not exist, a value that does not fit, Python that fails; the message
            names the file.
    """
    if path.suffix in _YAML:
        try:
            return _from_yaml(path)
        except InputError as error:
            raise type(error)(f"{path}: {error}") from None
    if path.suffix != ".py":
        raise RunError(f"{path}: expected a plan in Python (.py) or in YAML ({', '.join(_YAML)})")
    module = run_file(path)
    with user_code_errors(path):
        return _from_python(module, side)


def _from_python(module: ModuleType, side: int) -> Plan:
    make = getattr(module, "plan", None)
    if not callable(make):
        raise RunError("defines no `plan(side: int) -> Plan`")
    made = make(side) if inspect.signature(make).parameters else make()
    if not isinstance(made, Plan):
        raise RunError(f"expected plan() to return a Plan, got {made!r}")
    return made


def _from_yaml(path: Path) -> Plan:
    """A mapping with a plan's fields; ``recipe`` may be a recipe's name, or have one as its ``name``."""
    data = _parsed(path)
    if not isinstance(data, Mapping):
        raise RunError(f"expected a plan's fields such as 'base:' and 'changes:', got {data!r}")
    plan: dict[str, Any] = {"name": path.stem, **data}
    plan["recipe"] = _recipe(plan.get("recipe", "short"))
    return Plan.from_dict(plan)


def _parsed(path: Path) -> object:
    import yaml

    class Words(yaml.SafeLoader):
        """YAML 1.2's booleans: ``on`` is a word, as in ``residual: {on: false}``."""

    Words.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if first in "tTfF" or not tag.endswith(":bool")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Words)
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RunError(f"is not a text file ({error.reason})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise RunError(f"is not valid YAML: {' '.join(str(error).split())}") from None


def _recipe(said: object) -> object:
    """The recipe's fields, over those of a named one."""
    if isinstance(said, str):
        return named_recipe(said, flag="recipe")
    if not isinstance(said, Mapping):
        return said  # refused with its path by the record
    fields = dict(said)
    start = named_recipe(str(fields.pop("name", "short")), flag="recipe.name")
    return start.updated(fields, "recipe")
