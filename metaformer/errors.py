"""Errors that people can fix: the message says what was expected, what was given, and what to do.

Everything raised as an ``InputError`` is about somebody's input (a name, a file, a folder, a number), never a bug of
this library. The command line prints it and exits with status 2; in Python it is an ordinary ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class InputError(ValueError):
    """An input that cannot be used; the message says why and what to do."""


class SpecError(InputError):
    """A model description that cannot be built; the message has the field."""


class WeightsError(InputError):
    """A checkpoint that is truncated, unsafe, missing or of another model."""


class DataError(InputError):
    """A dataset that cannot be used as it is; the message has the path."""


class RunError(InputError):
    """A training run that cannot start or continue: its recipe, its folder, its disk, its loss."""


class DivergedError(RunError):
    """Training diverged: the loss or the weights are not finite. Ablations record it as a result."""


class MissingExtraError(InputError, ImportError):
    """An optional dependency is not installed; the message has the extra that installs it."""


def either(words: Sequence[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def did_you_mean(word: str, choices: Iterable[str], limit: int = 3) -> str:
    """A sentence with the choices nearest to ``word``, else with all of them if they are few; '' if they are many.

    >>> did_you_mean("poling", ["pooling", "attention"])
    "Did you mean 'pooling'?"
    """
    known = sorted(choices)
    lower = {choice.lower(): choice for choice in known}
    near = [lower[found] for found in get_close_matches(word.lower(), lower, n=limit, cutoff=0.6)]
    if near:
        return f"Did you mean {either([repr(name) for name in near])}?"
    if len(known) <= 24:
        return f"Choose from: {', '.join(known)}."
    return ""
