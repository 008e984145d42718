"""One MetaFormer skeleton with the token mixer as an argument. This file lists the public names.

A name is imported when it is first used, so that ``import metaformer`` and ``metaformer --help`` do not wait for
PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ablation.ablate import ablate
    from .deploy.compile import CompiledModel, FellBackWarning, compile
    from .deploy.export import export, load_exported
    from .deploy.fold import fold
    from .errors import DataError, InputError, MissingExtraError, RunError, SpecError, WeightsError
    from .factory.classifier import create_model
    from .factory.dense import create_detector, create_segmenter
    from .inference.predictor import Predictor, predict
    from .model.build import MIXERS, build
    from .model.complexity import count_macs, count_parameters
    from .model.mixers.convolution import OnMap
    from .recipe import Recipe
    from .run.evaluate import evaluate
    from .run.train import train
    from .spec.dense import DenseSpec
    from .spec.input import ImageInput, TokenInput
    from .spec.mixer import MixerSpec
    from .spec.model import EmbeddingSpec, HeadSpec, MLPSpec, ModelSpec, NormSpec, ResidualSpec, StageSpec, TimmSpec
    from .types import Preprocessing
    from .weights.hub import from_pretrained, push_to_hub, save_pretrained
    from .weights.load import load_pretrained, load_weights
    from .weights.save import load_model, save_weights
    from .zoo.catalogue import find, list_models

from .version import __version__

_CONTENTS = {
    "ablation.ablate": ("ablate",),
    "deploy.compile": (
        "CompiledModel",
        "FellBackWarning",
        "compile",
    ),
    "deploy.export": (
        "export",
        "load_exported",
    ),
    "deploy.fold": ("fold",),
    "errors": (
        "DataError",
        "InputError",
        "MissingExtraError",
        "RunError",
        "SpecError",
        "WeightsError",
    ),
    "inference.predictor": ("Predictor", "predict"),
    "factory.classifier": ("create_model",),
    "factory.dense": (
        "create_detector",
        "create_segmenter",
    ),
    "model.build": (
        "MIXERS",
        "build",
    ),
    "model.complexity": (
        "count_macs",
        "count_parameters",
    ),
    "model.mixers.convolution": ("OnMap",),
    "recipe": ("Recipe",),
    "run.evaluate": ("evaluate",),
    "run.train": ("train",),
    "spec.dense": ("DenseSpec",),
    "spec.input": ("ImageInput", "TokenInput"),
    "spec.mixer": ("MixerSpec",),
    "spec.model": (
        "EmbeddingSpec",
        "HeadSpec",
        "MLPSpec",
        "ModelSpec",
        "NormSpec",
        "ResidualSpec",
        "StageSpec",
        "TimmSpec",
    ),
    "types": ("Preprocessing",),
    "weights.hub": (
        "from_pretrained",
        "push_to_hub",
        "save_pretrained",
    ),
    "weights.load": (
        "load_pretrained",
        "load_weights",
    ),
    "weights.save": (
        "load_model",
        "save_weights",
    ),
    "zoo.catalogue": (
        "find",
        "list_models",
    ),
}
_HOME = {name: module for module, names in _CONTENTS.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:  # PEP 562
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return [*(name for name in globals() if name.startswith("__")), *__all__]
