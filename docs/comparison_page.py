"""Write comparison.md and comparison.svg: the first paper's ImageNet table, counted anew, with its figure and notes.

python docs/comparison_page.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metaformer.zoo.catalogue import CATALOGUE
from metaformer.zoo.tables.imagenet_plot import write_plot
from metaformer.zoo.tables.imagenet_table import Compared, comparison_markdown, counted, in_paper_order

DOCS = Path(__file__).resolve().parent
PAGE, FIGURE = DOCS / "comparison.md", DOCS / "comparison.svg"

HEAD = """# The paper's comparison, counted anew

<!-- written by docs/comparison_page.py -->

Table 2 of [MetaFormer Is Actually What You Need for Vision](https://arxiv.org/abs/2111.11418): what this library counts
beside what is in print. Top-1 on ImageNet-1K is the one in print. `metaformer models --compare` prints this table,
`metaformer models --compare --plot comparison.svg` draws this figure.

![Top-1 over multiply-adds and over parameters, a line for each family](comparison.svg)

"""
NOTES = """
## Notes on names and weights

What to know before comparing with a paper, for every system in the zoo:

"""
NEAREST = """
## No weights of their own

Nobody published weights of these models for the training in question. `pretrained=True` refuses them; the nearest are:

"""


def lines() -> list[Compared]:
    """The table, counted now."""
    return list(counted(in_paper_order(CATALOGUE.values())))


def notes() -> list[str]:
    """Each note of the zoo's rows once, with the models that it is about."""
    about: dict[str, list[str]] = {}
    for row in CATALOGUE.values():
        if row.note:
            about.setdefault(row.note, []).append(f"`{row.name}`")
    return [f"- {', '.join(names)}: {note}" for note, names in about.items()]


def nearest() -> list[str]:
    """The rows without weights and the nearest that were published."""
    rows = [row for row in CATALOGUE.values() if not row.weights]
    return [f"- `{row.name}`: {f'`{row.nearest}`' if row.nearest else 'none'}" for row in rows]


def page(table: Sequence[Compared]) -> str:
    """comparison.md."""
    return HEAD + comparison_markdown(table) + NOTES + "\n".join(notes()) + "\n" + NEAREST + "\n".join(nearest()) + "\n"


if __name__ == "__main__":
    table = lines()
    PAGE.write_text(page(table), encoding="utf-8")
    write_plot(table, FIGURE)
    print(f"{PAGE.name}, {FIGURE.name}: {len(table)} systems")
