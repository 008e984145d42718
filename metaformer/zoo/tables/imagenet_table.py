"""The first paper's ImageNet table (arXiv 2111.11418, table 2): published models in, their printed numbers beside the
counts here out.

Parameters and multiply-adds are counted on demand, on models without storage. Printed numbers are kept as they are,
misprints included. Where the two differ at the printed precision the number is marked, and a note gives the reason.
PyTorch is imported only to count, matplotlib never.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from rich.console import Group
from rich.text import Text

from ..published_model import PublishedModel, TableEntry
from .model_table import bare_table, input_size, markdown_line

GROUPS = {
    "Convolution": ("ResNet (RSB A2)",),
    "Attention": ("ViT", "DeiT", "PVT"),
    "Spatial MLP": ("MLP-Mixer", "ResMLP", "Swin-Mixer", "gMLP"),
    "Pooling": ("PoolFormer",),
}
"""The paper's headings and the families below each, in its order."""

DIFFERENT = "≠"
MILLION, BILLION = 6, 9
PRODUCTS_ONLY = (
    "Our MACs are the products of convolutions, linear layers and attention. Most papers use fvcore, which adds "
    "operations for every norm that is a library call."
)


@dataclass(frozen=True, kw_only=True)
class ComparedModel:
    """One line: a published model, its counts here and its numbers in print."""

    name: str
    family: str
    img_size: tuple[int, int]
    parameters: int
    """Counted on the built model."""
    macs: int
    """Products for one image of ``img_size``, counted likewise."""
    published: TableEntry
    note: str
    """Why a number differs; empty where none does or the reason is unknown."""

    @property
    def group(self) -> str:
        """The paper's heading."""
        return next(group for group, families in GROUPS.items() if self.family in families)

    @property
    def differs(self) -> tuple[str, ...]:
        """Which of ``parameters`` and ``macs`` is not, rounded, what is in print."""
        return differing(self.parameters, self.macs, self.published)


def differing(parameters: int, macs: int, published: TableEntry) -> tuple[str, ...]:
    """Which of the two counts differ from the printed numbers."""
    same = {
        "parameters": agrees(parameters, published.parameters, MILLION),
        "macs": agrees(macs, published.macs, BILLION),
    }
    return tuple(name for name, equal in same.items() if not equal)


def difference_note(row: PublishedModel, published: TableEntry, differs: tuple[str, ...]) -> str:
    """The entry's own note, or the MACs with fvcore's operations for norms where these explain the difference."""
    if not differs or published.note:
        return published.note if differs else ""
    with_norms = agrees(round(row.macs * 1e9), published.macs, BILLION)
    return f"{row.macs:.2f} G with fvcore's operations for the norms" if differs == ("macs",) and with_norms else ""


def agrees(counted: int, printed: float, power: int) -> bool:
    """Whether ``counted`` / 10^``power``, rounded half up to as many digits as were printed, is the printed number."""
    in_print = Decimal(str(printed))
    return Decimal(counted).scaleb(-power).quantize(in_print, ROUND_HALF_UP) == in_print


def in_paper_order(rows: Iterable[PublishedModel]) -> list[PublishedModel]:
    """The models with printed numbers, in the paper's order of families."""
    order = [family for families in GROUPS.values() for family in families]
    return sorted((row for row in rows if row.published is not None), key=lambda row: order.index(row.family))


def count_models(rows: Iterable[PublishedModel]) -> Iterator[ComparedModel]:
    """Build each model without storage and count. It takes some tenths of a second a model, most of it in PyTorch's
    tracing of shapes."""
    import torch

    from ...model.build import build
    from ...model.complexity import count_macs, count_parameters

    for row in rows:
        published = row.published
        assert published is not None, f"{row.name} has no printed numbers"
        with torch.device("meta"):
            model = build(row.spec, row.name)
        parameters, macs = count_parameters(model), count_macs(model, row.spec.img_size)
        yield ComparedModel(
            name=row.name,
            family=row.family,
            img_size=row.spec.img_size,
            parameters=parameters,
            macs=macs,
            published=published,
            note=difference_note(row, published, differing(parameters, macs, published)),
        )


# --- output -------------------------------------------------------------------------------------------------------

COLUMNS = (
    "name", "group", "family", "img_size", "parameters", "parameters_in_print", "macs", "macs_in_print",
    "top1", "source", "differs", "note",
)  # fmt: skip


def comparison_json(lines: Iterable[ComparedModel]) -> str:
    """A JSON list with exact counts; printed numbers in units of 10⁶ and 10⁹."""
    return json.dumps([_exact(line) for line in lines], indent=2, ensure_ascii=False)


def comparison_csv(lines: Iterable[ComparedModel]) -> str:
    """CSV with exact counts and a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow(_exact(line) | {"img_size": input_size(line.img_size), "differs": " ".join(line.differs)})
    return text.getvalue()


def _exact(line: ComparedModel) -> dict[str, Any]:
    return {
        "name": line.name,
        "group": line.group,
        "family": line.family,
        "img_size": list(line.img_size),
        "parameters": line.parameters,
        "parameters_in_print": line.published.parameters,
        "macs": line.macs,
        "macs_in_print": line.published.macs,
        "top1": line.published.top1,
        "source": line.published.source,
        "differs": list(line.differs),
        "note": line.note,
    }


def comparison_markdown(lines: Sequence[ComparedModel]) -> str:
    """A Markdown table with its notes below."""
    marks = _Marks(lines)
    heads = ("family", "model", "input", "parameters", "in print", "MACs", "in print", "top-1 (%)", "source")
    written = [markdown_line(heads), markdown_line(["---"] * 2 + ["---:"] * 6 + ["---"])]
    for line in lines:
        parameters, macs = (
            f"{value} {unit} {marks.of(line, name)}".strip()
            for (name, value), unit in zip(_printed(line), "MG", strict=True)
        )
        cells = (line.family, f"`{line.name}`", input_size(line.img_size), f"{line.parameters:,}", parameters)
        more = (f"{line.macs / 1e9:.2f} G", macs, f"{line.published.top1:.1f}", line.published.source)
        written.append(markdown_line((*cells, *more)))
    notes = [f"- {number} {note}" for number, note in marks.notes]
    return "\n".join([*written, "", " ".join(_legend(marks)), *([""] if notes else []), *notes]) + "\n"


def comparison_table(lines: Sequence[ComparedModel]) -> Group:
    """The table for the terminal, fit for 80 columns, with its notes below."""
    marks = _Marks(lines)
    sources = list(dict.fromkeys(line.published.source for line in lines))
    table = bare_table()
    for head, justify in (("model", "left"), ("input", "right"), ("params\n(M)", "right"), ("in\nprint", "left"),
                          ("MACs\n(G)", "right"), ("in\nprint", "left"), ("top-1\n(%)", "right")):  # fmt: skip
        table.add_column(head, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    if len(sources) > 1:
        table.add_column("ref", justify="right", no_wrap=True)
    group = None
    for line in lines:
        if line.group != group:
            group = line.group
            table.add_section()
            table.add_row(Text(group, style="bold"))
        table.add_row(*_terminal_cells(line, marks), *([_letter(sources, line)] if len(sources) > 1 else []))
    below = [f"{_letter(sources, line)}  {line.published.source}" for line in _first_of_each(lines)]
    below = below if len(sources) > 1 else [f"In print, top-1 too: arXiv {source}." for source in sources]
    return Group(table, "", *(Text(text) for text in (*_legend(marks), *below, *map("  ".join, marks.notes))))


def _terminal_cells(line: ComparedModel, marks: _Marks) -> Iterator[Text]:
    (_, parameters), (_, macs) = _printed(line)
    yield Text(line.name)
    yield Text(input_size(line.img_size))
    yield Text(f"{line.parameters / 1e6:.2f}")
    yield Text.assemble(f"{parameters:>3}", (marks.of(line, "parameters"), "yellow"))
    yield Text(f"{line.macs / 1e9:.2f}")
    yield Text.assemble(f"{macs:>4}", (marks.of(line, "macs"), "yellow"))
    yield Text(f"{line.published.top1:.1f}")


def _printed(line: ComparedModel) -> tuple[tuple[str, str], tuple[str, str]]:
    """The two printed numbers with their printed digits: 23.0 keeps its zero, 12 has none."""
    return ("parameters", str(line.published.parameters)), ("macs", str(line.published.macs))


def _first_of_each(lines: Sequence[ComparedModel]) -> list[ComparedModel]:
    return list({line.published.source: line for line in reversed(lines)}.values())[::-1]


def _letter(sources: Sequence[str], line: ComparedModel) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[sources.index(line.published.source)]


def _legend(marks: _Marks) -> list[str]:
    if not marks.any:
        return [PRODUCTS_ONLY]
    return [f"{DIFFERENT} differs from our count at the published precision.", PRODUCTS_ONLY]


_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class _Marks:
    """The mark of every number that differs, and the numbered notes; equal notes share a number."""

    def __init__(self, lines: Sequence[ComparedModel]) -> None:
        self.any = any(line.differs for line in lines)
        notes = dict.fromkeys(line.note for line in lines if line.note)
        self._numbers = {note: str(i).translate(_SUPERSCRIPTS) for i, note in enumerate(notes, start=1)}

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(number, text) of each note."""
        return [(number, note) for note, number in self._numbers.items()]

    def of(self, line: ComparedModel, name: str) -> str:
        """The mark of ``parameters`` or ``macs``; empty where the counts agree."""
        return f"{DIFFERENT}{self._numbers.get(line.note, '')}" if name in line.differs else ""
