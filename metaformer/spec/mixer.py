"""Token mixers as data: a name with arguments, and every way to write one. No torch here."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import SpecError
from .record import SpecRecord


@dataclass(frozen=True, kw_only=True)
class MixerSpec(SpecRecord):
    """A token mixer by its name in ``model/build.py`` and its own arguments."""

    name: str
    """A key of the mixer table, such as ``pooling`` or ``attention``."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """The mixer's own arguments, such as ``{"kernel": 5}``; others keep the mixer's defaults."""

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.args.items())})" if self.args else self.name

    def widened(self, factor: float) -> MixerSpec:
        """The same mixer for a width times ``factor``, with as many heads as before."""
        return self.with_changes(args=_widened(self.args, factor))


Mixer = MixerSpec | Callable[..., Any]
"""A named mixer, or any callable that takes the width and returns a module: ``MyMixer``, ``lambda dim: ...``."""

MixerLike = Mixer | str | Mapping[str, Any] | tuple[str, Mapping[str, Any]]
"""Every way to write a mixer; ``as_mixer`` reads them."""

MixersLike = MixerLike | Sequence[MixerLike]
"""One mixer for all stages of a model, or one for each."""

_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", re.DOTALL)


def as_mixer(value: object, path: str = "mixer") -> Mixer:
    """A mixer from its many spellings.

    Args:
        value: ``"pooling"``, ``"pooling(kernel=5)"``, ``("pooling", {"kernel": 5})``, ``{"name": "pooling", "kernel":
            5}``, a ``MixerSpec``, or a callable that builds a module from the width.
        path: put before the message of an error.

    Raises:
        SpecError: none of these.
    """
    if isinstance(value, MixerSpec):
        return value
    if isinstance(value, str):
        return _parse(value, path)
    if isinstance(value, Mapping):
        args = dict(value)
        nested = args.pop("args", {})
        if not isinstance(args.get("name"), str):
            raise SpecError(f"{path}: expected a 'name' in {value!r}")
        if not isinstance(nested, Mapping) or not all(isinstance(key, str) for key in {**args, **nested}):
            raise SpecError(f"{path}: expected arguments by name such as {{'kernel': 5}}, got {value!r}")
        return MixerSpec(name=args.pop("name"), args={**args, **nested})
    if _is_pair(value):
        return MixerSpec(name=value[0], args=dict(value[1]))  # type: ignore[index]
    if hasattr(value, "forward") and not isinstance(value, type):
        raise SpecError(
            f"{path}: expected a class or a function that builds a mixer for each block, got the module "
            f"{type(value).__name__}; pass its class, or `lambda dim: {type(value).__name__}(...)`"
        )
    if callable(value):
        return value
    raise SpecError(f"{path}: expected a mixer's name, a (name, arguments) pair or a callable, got {value!r}")


def as_mixers(value: object, count: int) -> list[Mixer]:
    """``count`` mixers from one for all, or from a list of so many.

    Raises:
        SpecError: another number of mixers, or something that is no mixer.
    """
    single = isinstance(value, (str, Mapping, MixerSpec)) or not isinstance(value, Sequence) or _is_pair(value)
    chosen = [value] if single else list(value)  # type: ignore[call-overload]
    if len(chosen) == 1:
        chosen *= count
    if len(chosen) != count:
        wanted = f"1 or {count} mixers, one for each stage" if count > 1 else "1 mixer: the model has a single stage"
        raise SpecError(f"mixers: expected {wanted}, got {len(chosen)}")
    return [as_mixer(mixer, f"mixers[{i}]") for i, mixer in enumerate(chosen)]


def _is_pair(value: object) -> bool:
    """Whether it is a mixer's name with its arguments: ``("pooling", {"kernel": 5})``."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    return pair and isinstance(value[0], str) and isinstance(value[1], Mapping)  # type: ignore[index]


def _parse(text: str, path: str) -> MixerSpec:
    """``"pooling(kernel=5, subtract=False)"`` read as literals, never evaluated."""
    match = _CALL.fullmatch(text)
    if match is None:
        raise SpecError(f"{path}: expected a mixer such as 'pooling' or 'pooling(kernel=5)', got {text!r}")
    try:
        call = ast.parse(f"f({match[2] or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        args = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError):
        raise SpecError(
            f"{path}: expected arguments as name=value, strings in quotes, such as 'pooling(kernel=5)' or "
            f"'window(mixer=\"attention\")', got {text!r}"
        ) from None
    return MixerSpec(name=match[1], args=args)


def _widened(args: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """A mixer's arguments with the widths among them times ``factor``, those of a mixer inside it too."""
    wider = {key: max(1, round(args[key] * factor)) for key in ("head_dim", "hidden") if isinstance(args.get(key), int)}
    if isinstance(args.get("mixer"), Mapping):
        inner = args["mixer"]
        own = {"args": _widened(inner["args"], factor)} if isinstance(inner.get("args"), Mapping) else {}
        wider["mixer"] = {**_widened(inner, factor), **own}
    return {**args, **wider}
