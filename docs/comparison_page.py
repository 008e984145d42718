"""Write comparison.md and comparison.svg: the first paper's ImageNet table with our own counts, a figure and notes.

python docs/comparison_page.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metaformer.zoo.catalogue import CATALOGUE
from metaformer.zoo.tables.imagenet_plot import write_plot
from metaformer.zoo.tables.imagenet_table import ComparedModel, comparison_markdown, count_models, in_paper_order

DOCS = Path(__file__).resolve().parent
PAGE, FIGURE = DOCS / "comparison.md", DOCS / "comparison.svg"

HEAD = """# The paper's comparison, recounted

<!-- written by docs/comparison_page.py -->

Table 2 of [MetaFormer Is Actually What You Need for Vision](https://arxiv.org/abs/2111.11418): this library's counts
beside the published numbers ("in print"). Top-1 on ImageNet-1K is the published one. `metaformer models --compare`
prints this table, `metaformer models --compare --plot comparison.svg` draws this figure.

![Top-1 over multiply-adds and over parameters, a line for each family](comparison.svg)

"""
NOTES = """
## Notes on names and weights

Read these before comparing with a paper:

"""
NEAREST = """
## Models without published weights

No weights of these models were published for the listed training. `pretrained=True` rejects them.
The nearest weights are:

"""


def lines() -> list[ComparedModel]:
    """The table with fresh counts."""
    return list(count_models(in_paper_order(CATALOGUE.values())))


def notes() -> list[str]:
    """Each note of the zoo once, with the models that have it."""
    about: dict[str, list[str]] = {}
    for row in CATALOGUE.values():
        if row.note:
            about.setdefault(row.note, []).append(f"`{row.name}`")
    return [f"- {', '.join(names)}: {note}" for note, names in about.items()]


def nearest() -> list[str]:
    """The models without weights, and the nearest weights that were published."""
    rows = [row for row in CATALOGUE.values() if not row.weights]
    return [f"- `{row.name}`: {f'`{row.nearest}`' if row.nearest else 'none'}" for row in rows]


def page(table: Sequence[ComparedModel]) -> str:
    """The text of comparison.md."""
    return HEAD + comparison_markdown(table) + NOTES + "\n".join(notes()) + "\n" + NEAREST + "\n".join(nearest()) + "\n"


if __name__ == "__main__":
    table = lines()
    PAGE.write_text(page(table), encoding="utf-8")
    write_plot(table, FIGURE)
    print(f"{PAGE.name}, {FIGURE.name}: {len(table)} systems")
