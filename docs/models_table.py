"""Write the tables of models into README.md from the zoo, between the two markers.

python docs/models_table.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metaformer.zoo.catalogue import CATALOGUE, find
from metaformer.zoo.published_model import PublishedModel

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- models: written by docs/models_table.py -->", "<!-- end of models -->"

MIXERS = {
    "identity": "identity",
    "pooling": "pooling",
    "random": "random",
    "attention": "attention",
    "reduced_attention": "reduced attention",
    "spatial_fc": "spatial FC",
    "spatial_mlp": "spatial MLP",
    "gating_unit": "gating unit",
    "fourier": "Fourier",
    "separable_conv": "separable conv",
}
VARIANTS = ("_384", "_in21ft1k", "_384_in21ft1k")
"""ConvFormer's and CAFormer's larger inputs and weights that come from ImageNet-21K."""
OWN = ("2111.11418", "2210.13452")
"""The two MetaFormer papers; the other rows are the systems that they compare with."""


def is_variant(row: PublishedModel) -> bool:
    """Whether the row repeats another row's architecture at 384 × 384 or with weights from ImageNet-21K."""
    return any(row.name.removesuffix(suffix) in CATALOGUE for suffix in (*VARIANTS, "_in21k") if suffix in row.name)


def has_variants(row: PublishedModel) -> bool:
    """Whether the model was also published at 384 × 384 and from ImageNet-21K."""
    return row.name + VARIANTS[0] in CATALOGUE


def mixers(row: PublishedModel) -> str:
    """The token mixers of the stages in words: one, or from the first to the last stage."""
    if not hasattr(row.spec, "stages"):
        return "convolution"
    names = [mixer_in_words(stage.mixer.name, stage.mixer.args) for stage in row.spec.stages]
    if len(set(names)) == 1:
        return names[0]
    runs = [(name, names.count(name)) for name in dict.fromkeys(names)]
    return ", ".join(f"{count} × {name}" for name, count in runs)


def mixer_in_words(name: str, args: dict[str, Any]) -> str:
    """A mixer without its numbers; a window says what is inside it."""
    return f"{MIXERS[args['mixer']['name']]} in windows" if name == "window" else MIXERS[name]


def single(rows: list[PublishedModel]) -> list[str]:
    """The models that were published once."""
    lines = ["| model | mixers | parameters | MACs | top-1 |", "| --- | --- | ---: | ---: | ---: |"]
    return lines + [
        f"| `{row.name}` | {mixers(row)} | {row.parameters:,} | {row.macs:.2f} G | {row.top1} |" for row in rows
    ]


def families(rows: list[PublishedModel]) -> list[str]:
    """The models that were published in four variants."""
    lines = [
        "| model | mixers | parameters | MACs | MACs at 384 | top-1 | at 384 | from 21K | from 21K at 384 |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        larger, *others = (find(row.name + suffix) for suffix in VARIANTS)
        cells = [f"`{row.name}`", mixers(row), f"{row.parameters:,}", f"{row.macs:.2f} G", f"{larger.macs:.2f} G"]
        cells += [str(one.top1) for one in (row, larger, *others)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def compared(rows: list[PublishedModel]) -> list[str]:
    """The systems that the papers compare with."""
    lines = [
        "| family | model | mixers | parameters | MACs | top-1 | weights |",
        "| --- | --- | --- | ---: | ---: | ---: | :---: |",
    ]
    before = None
    for row in rows:
        cells = [row.family if row.family != before else "", f"`{row.name}`", mixers(row), f"{row.parameters:,}"]
        cells += [f"{row.macs:.2f} G", "–" if row.top1 is None else f"{row.top1:.1f}", "yes" if row.weights else "no"]
        lines.append(f"| {' | '.join(cells)} |")
        before = row.family
    return lines


def section() -> str:
    """The whole section with its markers."""
    bases = [row for row in CATALOGUE.values() if not is_variant(row)]
    once = [row for row in bases if row.paper in OWN and not has_variants(row)]
    often = [row for row in bases if row.paper in OWN and has_variants(row)]
    others = [row for row in bases if row.paper not in OWN]
    also = "The variants are models too: add `_384`, `_in21ft1k`, `_384_in21ft1k` or, with 21,841 classes, `_in21k`."
    others_are = "The systems that the papers compare with. `no` means that no weights were published:"
    parts = (START, "", *single(once), "", *families(often), "", also, "", others_are, "", *compared(others), "", END)
    return "\n".join(parts)


def written(readme: str) -> str:
    """The README with the section replaced."""
    before, rest = readme.split(START)
    return before + section() + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{README.name}: {len(CATALOGUE)} models in the zoo")
