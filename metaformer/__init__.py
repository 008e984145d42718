"""One MetaFormer skeleton with the token mixer as an argument. This file is the table of contents.

Names are imported when they are first used, so that ``import metaformer`` and the command line's ``--help`` do not
wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .complexity import count_macs, count_parameters
    from .dense import create_detector, create_segmenter
    from .dense_spec import DenseSpec
    from .errors import DataError, InputError, MissingExtraError, RunError, SpecError, WeightsError
    from .factory import create_model
    from .model.build import MIXERS, build
    from .model.mixers.convolution import OnMap
    from .recipe import Recipe
    from .spec import (
        EmbeddingSpec,
        HeadSpec,
        MixerSpec,
        MLPSpec,
        ModelSpec,
        NormSpec,
        ResidualSpec,
        StageSpec,
        TimmSpec,
    )
    from .types import Preprocessing
    from .weights.hub import from_pretrained, push_to_hub, save_pretrained
    from .weights.load import load_pretrained, load_weights
    from .weights.save import load_model, save_weights
    from .zoo.catalogue import find, list_models

__version__ = "0.1.0"

_CONTENTS = {
    "complexity": ("count_macs", "count_parameters"),
    "dense": ("create_detector", "create_segmenter"),
    "dense_spec": ("DenseSpec",),
    "errors": ("DataError", "InputError", "MissingExtraError", "RunError", "SpecError", "WeightsError"),
    "factory": ("create_model",),
    "model.build": ("MIXERS", "build"),
    "model.mixers.convolution": ("OnMap",),
    "recipe": ("Recipe",),
    "spec": (
        "EmbeddingSpec",
        "HeadSpec",
        "MLPSpec",
        "MixerSpec",
        "ModelSpec",
        "NormSpec",
        "ResidualSpec",
        "StageSpec",
        "TimmSpec",
    ),
    "types": ("Preprocessing",),
    "weights.hub": ("from_pretrained", "push_to_hub", "save_pretrained"),
    "weights.load": ("load_pretrained", "load_weights"),
    "weights.save": ("load_model", "save_weights"),
    "zoo.catalogue": ("find", "list_models"),
}
_HOME = {name: module for module, names in _CONTENTS.items() for name in names}

__all__ = sorted(_HOME)


_ROOMS = ("export", "fast")
"""Modules that are reached as ``metaformer.fast.compile`` without an import of their own."""


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*(name for name in globals() if name.startswith("__")), *__all__]
