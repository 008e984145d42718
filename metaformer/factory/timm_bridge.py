"""The published models inside ``timm.create_model``, under names with the prefix ``mf_``.

After ``register()`` scripts and libraries built on timm can create them with timm's arguments. timm's own models, the
CNNs among ours too, keep their names.

    import timm
    from metaformer.factory import timm_bridge

    timm_bridge.register()
    model = timm.create_model("mf_metaformer_ppaa_s12_224", num_classes=10)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models import is_model, register_model
from torch import nn

from ..errors import InputError
from ..model.build import Model
from ..model.classifier import timm_config
from ..spec.model import TimmSpec
from ..zoo.catalogue import CATALOGUE
from ..zoo.published_model import PublishedModel
from .classifier import Extractor, create_model

PREFIX = "mf_"

__all__ = ["PREFIX", "register"]

default_cfgs: dict[str, dict[str, Any]] = {}
"""Preprocessing by name; timm looks for it under this name in the module of an entry point."""


def register() -> list[str]:
    """Register every model but timm's own with timm, once, and return their names."""
    public = list(__all__)
    rows = [row for row in CATALOGUE.values() if not isinstance(row.spec, TimmSpec)]
    for row in rows:
        name = PREFIX + row.name
        if not is_model(name):
            default_cfgs[name] = _published(row)
            register_model(_entry_point(name, row))
    __all__[:] = public  # timm adds each name, but they are no attributes of this module
    return [PREFIX + row.name for row in rows]


def _entry_point(name: str, row: PublishedModel) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **arguments: Any) -> nn.Module:
        weights = _weights_file(arguments)
        if arguments.pop("cache_dir", None):  # timm hands it to every entry point
            raise InputError("cache_dir: these models keep downloads in the usual cache; set HF_HOME instead")
        asked = {"weights": weights} if pretrained and weights else {"pretrained": pretrained}
        model: Model | Extractor = create_model(row.name, **asked, **arguments)
        model.name = name
        return model

    create.__name__ = create.__qualname__ = name
    create.__module__ = __name__
    create.__doc__ = f"{row.name}: {row.family} (arXiv {row.paper})."
    return create


def _weights_file(arguments: dict[str, Any]) -> str | None:
    """The file of timm's ``pretrained_cfg_overlay={"file": ...}``: --pretrained-path in its scripts."""
    overlay = arguments.pop("pretrained_cfg_overlay", None) or {}
    unknown = sorted(set(overlay) - {"file"})
    if arguments.pop("pretrained_cfg", None) or unknown:
        raise InputError(
            "pretrained_cfg: these models know their own; only pretrained_cfg_overlay={'file': PATH} is read"
        )
    return overlay.get("file")


def _published(row: PublishedModel) -> dict[str, Any]:
    hub = next((source.repo for source in row.weights if source.repo), None)
    url = next((source.url for source in row.weights if source.url), None)
    return timm_config(PREFIX + row.name, row.spec, row.preprocessing) | {"hf_hub_id": hub, "url": url or ""}
