"""Inference as fast as the machine allows: exact folding, engines, precisions.

``fold(model)`` gives the same model with fewer steps; ``compile(model)`` the same model run by an engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiled import CompiledModel, FellBackWarning, compile
    from .folding import fold

_HOME = {"compile": "compiled", "CompiledModel": "compiled", "FellBackWarning": "compiled", "fold": "folding"}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*(name for name in globals() if name.startswith("__")), *__all__]
