"""``metaformer data check``: what is in a data set, and what is broken in it; torch is imported inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..errors import DataError
from ..recipe import DataConfig
from .flags import nested, option, switch, with_flags

if TYPE_CHECKING:
    from ..data.inspection import PartSummary
    from ..tasks.inspection import Inspection

data = App(name="data", help="Look at data sets.", help_format="plaintext", result_action="return_value")

_WIDTH = 16  # of a bar, in characters


@data.command
@with_flags(DataConfig, "data.", "Data", without=("data.source",))
def check(
    folder: Annotated[str, Parameter(help="A folder, 'digits' or the name of a torchvision data set.")],
    *,
    task: Annotated[
        Literal["classification", "detection", "segmentation"] | None,
        option("What it is to be used for [default: what its layout says].", show_default=False),
    ] = None,
    as_json: Annotated[bool, switch("Print one JSON document.", "--json")] = False,
    **flags: Any,
) -> None:
    """Count what is in a data set and name everything that is broken in it.

    Its images, their sizes, a histogram of its classes, objects and their areas, ignored pixels. The exit status is 2
    where something is broken, unless it is to be left out (--on-bad-image skip).
    """
    from ..tasks.inspection import inspect_data

    choice = DataConfig.from_dict({**nested(flags).get("data", {}), "source": folder}, "data")
    told = Console(stderr=True)
    with told.status("looking at it") as status:  # drawn on terminals only

        def progress(doing: str, done: int, total: int) -> None:
            status.update(f"{doing}: {done} of {total}")

        found = inspect_data(choice, task, progress)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print(found)
    if found.bad and choice.on_bad_image == "refuse":
        faults = "fault" if len(found.bad) == 1 else "faults"
        raise DataError(
            f"{len(found.bad)} {faults} in {folder}, named above. Repair or remove them, or leave them out with "
            "--data.on-bad-image skip"
        )


def _print(found: Inspection) -> None:
    console = Console(highlight=False)
    masks = " with masks" if found.has_masks else ""
    classes = "1 class" if len(found.classes) == 1 else f"{len(found.classes)} classes"
    console.print(f"[bold]{found.task}{masks}[/], {classes}", end="")
    console.print(" (val is held out here)" if found.held_out_here else "")
    console.print(_parts(found))
    console.print(_histogram(found))
    for note in sorted({part.note for part in found.parts if part.note}):
        console.print(note)
    for part in found.parts:
        absent = [name for name, count in zip(found.classes, part.counts, strict=True) if count == 0]
        if absent:
            shown = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
            console.print(f"not in {part.name}: {shown}", style="yellow", markup=False)
    if not found.bad:
        console.print("nothing is broken", style="green")
        return
    console.print(f"broken: {len(found.bad)}", style="bold red")
    for fault in found.bad:
        console.print(f"  {fault.path}: {fault.reason}", markup=False, soft_wrap=True)


def _parts(found: Inspection) -> Table:
    """A column for each part."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for part in found.parts:
        table.add_column(part.name, justify="right", style="bold")
    for name, cells in _rows(found.parts):
        table.add_row(name, *cells)
    return table


def _rows(parts: Sequence[PartSummary]) -> list[tuple[str, list[str]]]:
    """What is known of every part, a row each."""
    from ..render.numbers import count

    rows = [("images", [count(part.images) for part in parts])]
    for name in ("smallest", "median", "largest"):
        rows.append((f"{name} image", [_size(getattr(part, name)) for part in parts]))
    details = [part.details for part in parts]
    return rows + [(name, [each[name] for each in details]) for name in details[0] if all(name in d for d in details)]


def _size(size: tuple[int, int] | None) -> str:
    return f"{size[1]} × {size[0]}" if size else "–"


def _histogram(found: Inspection) -> Table:
    """The classes with bars of their counts in the training part, the commonest first."""
    from ..render.numbers import count, short
    from ..tasks.task import task_named

    units = task_named(found.task).unit
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    for part in found.parts:
        table.add_column(f"{units}, {part.name}", justify="right")
        table.add_column("")
    order = sorted(range(len(found.classes)), key=lambda label: -found.parts[0].counts[label])
    for label in order:
        cells: list[Any] = []
        for part in found.parts:
            bar = ProgressBar(total=max(*part.counts, 1), completed=part.counts[label], width=_WIDTH, style="none")
            cells += [short(part.counts[label]) if part.counts[label] > 99_999 else count(part.counts[label]), bar]
        table.add_row(Text(found.classes[label]), *cells)
    return table
