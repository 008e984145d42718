"""The settings of a run as table rows: recipe, architecture, data and machine from config.json."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...recipe import Recipe
from ...render.numbers import compact, count, plain
from ...spec.dense import DenseSpec
from ...spec.mixer import MixerSpec
from ...spec.model import AnySpec, EmbeddingSpec, ModelSpec
from ..config import RunConfig

Row = tuple[str, str]


def recipe_sections(recipe: Recipe) -> list[dict[str, Any]]:
    """The recipe by sections; each setting has ``changed`` where it differs from the default."""
    defaults = Recipe().to_dict()
    sections, top_level = [], []
    for name, value in recipe.to_dict().items():
        if isinstance(value, dict):
            settings = [_setting(key, item, defaults[name][key]) for key, item in value.items()]
            sections.append({"title": name.capitalize(), "settings": settings})
        else:
            top_level.append(_setting(name, value, defaults[name]))
    return [*sections, {"title": "Run", "settings": top_level}]


def _setting(name: str, value: object, default: object) -> dict[str, Any]:
    # compact: 1e-5 and not 1e-05
    text = compact(value) if isinstance(value, float) and abs(value) < 1 else plain(value)
    return {"name": name.replace("_", " "), "value": text, "changed": value != default}


def stage_rows(spec: AnySpec | DenseSpec) -> list[dict[str, str]]:
    """The stages of a model, or of its backbone; timm's CNNs have none."""
    model = getattr(spec, "backbone", spec)
    return [
        {
            "depth": plain(stage.depth),
            "width": plain(stage.width),
            "mixer": _mixer(stage.mixer),
            "mlp": plain(stage.mlp.ratio if stage.mlp else None),
            "embedding": _embedding(stage.embedding),
        }
        for stage in (model.stages if isinstance(model, ModelSpec) else ())
    ]


def _mixer(mixer: object) -> str:
    if not isinstance(mixer, MixerSpec):
        return getattr(mixer, "__qualname__", str(mixer))
    arguments = plain(mixer.to_dict()["args"]) if mixer.args else ""
    return f"{mixer.name}({arguments})" if arguments else mixer.name


def _embedding(embedding: EmbeddingSpec) -> str:
    if embedding.kind != "conv":
        return embedding.kind
    return f"conv {embedding.kernel} × {embedding.kernel}, stride {embedding.stride}"


def data_rows(config: RunConfig) -> list[Row]:
    """The source of the images, their number, and their preprocessing."""
    rows = [
        ("Source", config.data.source),
        ("Training images", count(config.data.train)),
        ("Validation images", count(config.data.val)),
        ("Classes", count(len(config.classes))),
        ("Images left out", count(len(config.data.skipped))),
    ]
    return [*rows, *config.task.input_rows(config.spec, config.preprocessing)]


_MACHINE_LABELS = {
    "cpu": "Processor",
    "threads": "CPU threads",
    "torch": "PyTorch",
    "python": "Python",
    "device": "Device",
    "processes": "Processes",
}


def machine_rows(config: RunConfig) -> list[Row]:
    """Versions and hardware."""
    machine = asdict(config.machine)
    return [("metaformer", plain(config.version)), *((_MACHINE_LABELS[name], plain(machine[name])) for name in machine)]
