"""What went into a run, as table rows ready to print: recipe, architecture, data and machine from config.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...recipe import Recipe
from ...render.numbers import compact, count, plain
from ...spec.dense import TITLES
from .files import part

Row = tuple[str, str]


def recipe_sections(recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The recipe by sections; each setting says whether it differs from the default."""
    defaults = Recipe().to_dict()
    sections, loose = [], []
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            usual = defaults.get(name) or {}
            settings = [_setting(key, item, usual.get(key)) for key, item in value.items()]
            sections.append({"title": name.capitalize(), "settings": settings})
        else:
            loose.append(_setting(name, value, defaults.get(name)))
    return [*sections, {"title": "Run", "settings": loose}] if loose else sections


def _setting(name: str, value: Any, default: Any) -> dict[str, Any]:
    text = compact(value) if isinstance(value, float) and abs(value) < 1 else plain(value)
    return {"name": name.replace("_", " "), "value": text, "changed": value != default}


def stage_rows(spec: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """The stages of a model's spec, or of its backbone's."""
    return [
        {
            "depth": plain(stage.get("depth")),
            "width": plain(stage.get("width")),
            "mixer": _mixer(stage.get("mixer")),
            "mlp": plain((stage.get("mlp") or {}).get("ratio")),
            "embedding": _embedding(stage.get("embedding") or {}),
        }
        for stage in ((spec or {}).get("backbone") or spec or {}).get("stages") or ()
    ]


def _mixer(mixer: Any) -> str:
    if not isinstance(mixer, Mapping):
        return plain(mixer)
    arguments = plain(mixer.get("args")) if mixer.get("args") else ""
    return f"{mixer.get('name')}({arguments})" if arguments else plain(mixer.get("name"))


def _embedding(embedding: Mapping[str, Any]) -> str:
    if embedding.get("kind") != "conv":
        return plain(embedding.get("kind"))
    kernel, stride = (plain(embedding.get(name)) for name in ("kernel", "stride"))
    return f"conv {kernel} × {kernel}, stride {stride}"


def data_rows(config: Mapping[str, Any]) -> list[Row]:
    """Where the images came from, how many, how they were prepared."""
    data, preparation = part(config, "data"), part(config, "preprocessing")
    rows = [
        ("Source", plain(data.get("source"))),
        ("Training images", count(data.get("train"))),
        ("Validation images", count(data.get("val"))),
        ("Classes", count(len(config.get("classes") or ()) or None)),
        ("Images left out", count(skipped_count(data))),
    ]
    if "system" in part(config, "spec"):
        rows += _dense_rows(part(config, "spec"))
    elif preparation:
        size = " × ".join(plain(side) for side in preparation.get("size") or ())
        rows.append(
            (
                "Input",
                f"{size} pixels, {plain(preparation.get('interpolation'))}, crop {plain(preparation.get('crop'))}",
            )
        )
    return rows


def _dense_rows(spec: Mapping[str, Any]) -> list[Row]:
    """What a detector or a segmenter is, and which sizes it sees."""
    system = str(spec.get("system"))
    short, long = plain(spec.get("short_side")), plain(spec.get("long_side"))
    size = f"{short} × {short} pixels" if spec.get("square") else f"short side {short}, long side at most {long} pixels"
    return [("System", TITLES.get(system, system)), ("Input", size)]


_MACHINE_WORDS = {
    "cpu": "Processor", "threads": "CPU threads", "torch": "PyTorch", "python": "Python", "device": "Device",
}  # fmt: skip


def machine_rows(config: Mapping[str, Any]) -> list[Row]:
    """Versions and hardware, in the words of config.json."""
    machine = part(config, "machine")
    rows = [(_MACHINE_WORDS.get(name, str(name).replace("_", " ")), plain(value)) for name, value in machine.items()]
    return [("metaformer", plain(config.get("version"))), *rows]


def skipped_count(data: Mapping[str, Any]) -> int | None:
    """How many files were left out; config.json holds their list or their number."""
    skipped = data.get("skipped")
    return len(skipped) if isinstance(skipped, Sequence) else skipped


def skipped_rows(data: Mapping[str, Any]) -> list[Row]:
    """Path and reason of each file that was left out."""
    skipped = data.get("skipped")
    return [_skipped(entry) for entry in skipped] if isinstance(skipped, (list, tuple)) else []


def _skipped(entry: Any) -> Row:
    if isinstance(entry, Mapping):
        return plain(entry.get("path")), plain(entry.get("reason"))
    if isinstance(entry, (list, tuple)) and len(entry) == 2:
        return str(entry[0]), str(entry[1])
    return str(entry), plain(None)
