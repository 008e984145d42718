"""A plan by its name or its file: a shipped one, Python that defines ``plan(side)``, or YAML. No torch here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
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
            return _plan_from_yaml(path)
        except InputError as error:
            raise type(error)(f"{path}: {error}") from None
    if path.suffix != ".py":
        raise RunError(f"{path}: expected a plan in Python (.py) or in YAML ({', '.join(_YAML)})")
    module = run_file(path)
    with user_code_errors(path):
        make = getattr(module, "plan", None)
        if not callable(make):
            raise RunError("defines no `plan(side: int) -> Plan`")
        plan = make(side) if inspect.signature(make).parameters else make()
        if not isinstance(plan, Plan):
            raise RunError(f"expected plan() to return a Plan, got {plan!r}")
        return plan


def _plan_from_yaml(path: Path) -> Plan:
    """A mapping with a plan's fields; ``recipe`` may be a recipe's name, or have one as its ``name``."""
    data = _parse_yaml(path)
    if not isinstance(data, Mapping):
        raise RunError(f"expected a plan's fields such as 'base:' and 'changes:', got {data!r}")
    fields: dict[str, Any] = {"name": path.stem, **data}
    recipe = fields.get("recipe", "short")
    if isinstance(recipe, str):
        fields["recipe"] = named_recipe(recipe, flag="recipe")
    elif isinstance(recipe, Mapping):
        changed = dict(recipe)
        start = named_recipe(str(changed.pop("name", "short")), flag="recipe.name")
        fields["recipe"] = start.updated(changed, "recipe")
    return Plan.from_dict(fields)  # which refuses any other recipe with its path


def _parse_yaml(path: Path) -> object:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2's booleans. PyYAML follows 1.1, where the key of ``residual: {on: false}`` is true."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if first in "tTfF" or not tag.endswith(":bool")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RunError(f"is not a text file ({error.reason})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise RunError(f"is not valid YAML: {' '.join(str(error).split())}") from None
