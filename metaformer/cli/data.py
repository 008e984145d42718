"""``metaformer data check``: count what is in a dataset and find its problems. torch is imported inside the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..errors import DataError
from ..recipe import DataConfig
from ..tasks.task import TASKS
from .flags import AsJson, nested, option, paragraphs, with_flags

if TYPE_CHECKING:
    from ..data.inspection import PartSummary
    from ..tasks.inspection import Inspection

data = App(name="data", help="Check datasets.", help_format="plaintext", result_action="return_value")

_WIDTH = 16  # of a bar, in characters


@with_flags(DataConfig, "data.", "Data", without=("data.source",))
def check(
    folder: Annotated[str, Parameter(help="Dataset: a folder, 'digits' or the name of a torchvision dataset.")],
    *,
    task: Annotated[
        str | None, option(f"Task to check it for. [choices: {', '.join(TASKS)}] [default: by its layout]")
    ] = None,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Check a dataset: count its images and classes, and list every problem.

    Prints image sizes, a histogram of the classes, and for labeled objects or pixels their number and areas. The exit
    status is 2 if there are problems, unless --on-bad-image skip is given.
    """
    from ..tasks.inspection import inspect_data

    config = DataConfig.from_dict({**nested(flags).get("data", {}), "source": folder}, "data")
    with Console(stderr=True).status("Scanning dataset") as status:  # visible on terminals only

        def progress(doing: str, done: int, total: int) -> None:
            status.update(f"Scanning dataset: {doing}, {done} of {total}")

        found = inspect_data(config, task, progress)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print(found, config)
    if found.bad and config.on_bad_image == "refuse":
        problems = "1 problem" if len(found.bad) == 1 else f"{len(found.bad)} problems"
        raise DataError(
            f"{problems} in {folder}, listed above. Fix or remove these files, or skip them with "
            "--data.on-bad-image skip"
        )


data.command(check, help=paragraphs(check))


def _print(found: Inspection, config: DataConfig) -> None:
    console = Console(highlight=False)
    masks = " with masks" if found.has_masks else ""
    classes = "1 class" if len(found.classes) == 1 else f"{len(found.classes)} classes"
    held_out = f" (val: {config.val_fraction:.0%} of each class, held out)" if found.held_out_here else ""
    console.print(f"[bold]{found.task}{masks}[/], {classes}{held_out}")
    console.print(_parts(found))
    console.print(_histogram(found))
    for note in sorted({part.note for part in found.parts if part.note}):
        console.print(note, soft_wrap=True)
    for part in found.parts:
        absent = [name for name, count in zip(found.classes, part.counts, strict=True) if count == 0]
        if absent:
            names = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
            console.print(f"not in {part.name}: {names}", style="yellow", markup=False)
    if not found.bad:
        console.print("No problems found", style="green")
        return
    console.print(f"problems: {len(found.bad)}", style="bold red")
    for bad in found.bad:
        console.print(f"  {bad.path}: {bad.reason}", markup=False, soft_wrap=True)


def _parts(found: Inspection) -> Table:
    """A column for each split."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for part in found.parts:
        table.add_column(part.name, justify="right", style="bold")
    for name, cells in _rows(found.parts):
        table.add_row(name, *cells)
    return table


def _rows(parts: Sequence[PartSummary]) -> list[tuple[str, list[str]]]:
    """Name and cells of each row."""
    from ..render.numbers import count

    rows = [("images", [count(part.images) for part in parts])]
    for name in ("smallest", "median", "largest"):
        rows.append((f"{name} image", [_size(getattr(part, name)) for part in parts]))
    details = [part.details for part in parts]
    return rows + [(name, [each[name] for each in details]) for name in details[0] if all(name in d for d in details)]


def _size(size: tuple[int, int] | None) -> str:
    return f"{size[1]} × {size[0]}" if size else "–"


def _histogram(found: Inspection) -> Table:
    """The classes with their counts and bars in each split, the most frequent first."""
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
