"""From what a person says to a ``Recipe``: a recipe file, a YAML file over it, flags over both. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, RunError, did_you_mean
from ..recipe import Recipe
from .recipe_files import named_recipe


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
            base = base.updated(said)
        except InputError as error:
            raise type(error)(f"{config}: {error}") from None
    return base.updated(flags) if flags else base


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
        raise RunError(f"--config: {path}: expected fields such as 'optimizer:', got {data!r}")
    return data["recipe"] if isinstance(data.get("recipe"), dict) else data


def _beside(path: Path) -> str:
    """Files of the same folder with a name like the one that is missing."""
    if not path.parent.is_dir():
        return ""
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml", ".json")]
    return f" {did_you_mean(path.name, names)}" if names else ""
