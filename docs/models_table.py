"""Write the table of models into README.md from the zoo, between its two markers.

python docs/models_table.py
"""

from __future__ import annotations

from pathlib import Path

from metaformer.zoo.catalogue import CATALOGUE, find
from metaformer.zoo.row import Row

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- models: written by docs/models_table.py -->", "<!-- end of models -->"

MIXERS = {
    "identity": "identity",
    "pooling": "pooling",
    "random": "random",
    "attention": "attention",
    "spatial_fc": "spatial FC",
    "separable_conv": "separable conv",
}
VARIANTS = ("_384", "_in21ft1k", "_384_in21ft1k")
"""ConvFormer's and CAFormer's larger inputs and weights that come from ImageNet-21K."""


def has_variants(row: Row) -> bool:
    """Whether the model was also published at 384 × 384 and from ImageNet-21K."""
    return row.name + VARIANTS[0] in CATALOGUE


def mixers(row: Row) -> str:
    """The token mixers of the stages in words: one, or from the first to the last stage."""
    names = [MIXERS[getattr(mixer, "name", "")] for mixer in row.spec.mixers]
    if len(set(names)) == 1:
        return names[0]
    runs = [(name, names.count(name)) for name in dict.fromkeys(names)]
    return ", ".join(f"{count} × {name}" for name, count in runs)


def single(rows: list[Row]) -> list[str]:
    """The models that were published once."""
    lines = ["| model | mixers | parameters | MACs | top-1 |", "| --- | --- | ---: | ---: | ---: |"]
    return lines + [
        f"| `{row.name}` | {mixers(row)} | {row.parameters:,} | {row.macs:.2f} G | {row.top1} |" for row in rows
    ]


def families(rows: list[Row]) -> list[str]:
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


def section() -> str:
    """The whole section with its markers."""
    suffixes = (*VARIANTS, "_in21k")
    bases = [row for row in CATALOGUE.values() if not any(row.name.endswith(suffix) for suffix in suffixes)]
    once = [row for row in bases if not has_variants(row)]
    often = [row for row in bases if has_variants(row)]
    note = "The variants are models too: add `_384`, `_in21ft1k`, `_384_in21ft1k` or, with 21,841 classes, `_in21k`."
    return "\n".join([START, "", *single(once), "", *families(often), "", note, "", END])


def written(readme: str) -> str:
    """A README with a fresh section."""
    before, rest = readme.split(START)
    return before + section() + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{README.name}: {len(CATALOGUE)} models in the zoo")
