"""What a person got wrong, said so that they can mend it: what was expected, what came, what to do.

Everything raised as an ``InputError`` is somebody's input (a name, a file, a folder, a number), never a fault of
this library. The command line prints it and exits with status 2; in Python it is an ordinary ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something a person gave cannot be used; the message says why and what to do."""


class SpecError(InputError):
    """A model description that cannot be built; the message names the field."""


class WeightsError(InputError):
    """A checkpoint that is cut, unsafe, of another model, or cannot be found."""


class DataError(InputError):
    """A data set that cannot be read as it stands; the message names the path."""


class RunError(InputError):
    """A training run that cannot start or continue: its folder, its disk, its loss."""


class DivergedError(RunError):
    """Training diverged: the loss or the weights are not finite. Ablations record it as a result."""


class MissingExtraError(InputError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


def did_you_mean(word: str, choices: Iterable[str], limit: int = 3) -> str:
    """A sentence that names the choices nearest to ``word``, or all of them when they are few.

    >>> did_you_mean("poling", ["pooling", "attention"])
    "Did you mean 'pooling'?"
    """
    known = sorted(choices)
    lower = {choice.lower(): choice for choice in known}
    near = [lower[found] for found in get_close_matches(word.lower(), lower, n=limit, cutoff=0.6)]
    if near:
        return f"Did you mean {' or '.join(repr(name) for name in near)}?"
    if len(known) <= 24:
        return f"Choose from: {', '.join(known)}."
    return ""
