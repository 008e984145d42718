"""A plan by its name or its file: a shipped one, Python that defines ``plan(side)``, or YAML. No torch here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, RunError, did_you_mean
from ..records import merged
from ..shipped import executed, named_recipe, shipped_plans
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
    known = name.removesuffix(".py").removeprefix("experiments/").removeprefix("ablations/")
    if known in shipped:
        return shipped[known]
    raise RunError(f"{name!r} is neither a plan's file nor a shipped plan. {did_you_mean(known, shipped)}")


def read_plan(path: Path, side: int) -> Plan:
    """The plan in a file, for pictures of ``side`` pixels.

    Raises:
        RunError: no plan in it, a field that does not exist, a value that does not fit; the message names the file.
    """
    try:
        return _from_yaml(path) if path.suffix in _YAML else _from_python(path, side)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None


def _from_python(path: Path, side: int) -> Plan:
    make = getattr(executed(path, "plan"), "plan", None)
    if not callable(make):
        raise RunError("defines no `plan(side: int) -> Plan`")
    made = make(side) if inspect.signature(make).parameters else make()
    if not isinstance(made, Plan):
        raise RunError(f"expected plan() to return a Plan, got {made!r}")
    return made


def _from_yaml(path: Path) -> Plan:
    """A mapping with a plan's fields; ``recipe`` may be a recipe's name, or have one as its ``name``."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RunError(f"is not a text file ({error.reason})") from None
    except yaml.YAMLError as error:
        raise RunError(f"is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, Mapping):
        raise RunError(f"expected a plan's fields such as 'base:' and 'changes:', got {data!r}")
    plan: dict[str, Any] = {"name": path.stem, **data}
    plan["recipe"] = _recipe(plan.get("recipe", "short"))
    return Plan.from_dict(plan)


def _recipe(said: object) -> object:
    """The recipe's fields, over those of a named one."""
    if isinstance(said, str):
        return named_recipe(said).to_dict()
    if not isinstance(said, Mapping):
        return said  # refused with its path by the record
    fields = dict(said)
    start = named_recipe(str(fields.pop("name", "short"))).to_dict()
    return merged(start, fields)
