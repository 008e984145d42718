"""``metaformer bench``: how fast, against whom, and how near to what the machine can do; torch is imported inside."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .flags import command_line, option, switch

QUIET = 0.02
"""A host that takes more of a virtual machine's time moves single ratios by more than what is to be measured."""


def bench(
    *sections: Annotated[
        Literal["inference", "training", "growth", "start-up", "all"], Parameter(help="What to measure [default: all].")
    ],
    model: Annotated[
        tuple[str, ...],
        option("Rows of the zoo; what is not inference takes the first.", consume_multiple=True, negative=()),
    ] = ("poolformer_s12",),
    batch_size: Annotated[
        tuple[int, ...],
        option("Images at a time; the first model is measured at each.", consume_multiple=True, negative=()),
    ] = (8,),
    size: Annotated[int, option("Side of the images in pixels.")] = 224,
    rounds: Annotated[int, option("In each of them everyone has a turn.")] = 15,
    threads: Annotated[int, option("Of every engine.")] = 2,
    device: Annotated[Literal["auto", "cpu", "cuda"], option("Where to compute.")] = "cpu",
    peers: Annotated[bool, option("Measure timm, transformers and torchvision too.")] = True,
    compilers: Annotated[
        bool, option("Let what Inductor compiles, minutes a model, take part in the first comparison and training.")
    ] = True,
    out: Annotated[
        Path, option("The JSON file, written after every round; the bar chart lies beside it as SVG.")
    ] = Path("bench.json"),
    quick: Annotated[bool, switch("Two short rounds, nothing compiled: does it run?")] = False,
) -> None:
    """Measure speed and memory, in turns with the other libraries, and the machine's own limit in the same rounds.

    Ratios are medians over the rounds. Whoever answers wrongly is not timed. Nothing else should run meanwhile.
    """
    from ..benchmark.bench import bench as measured
    from ..benchmark.chart import write_chart
    from ..benchmark.setting import Setting
    from ..benchmark.tables import tables, told_beside

    setting = Setting(
        models=model, batch_sizes=batch_size, size=size, rounds=rounds, threads=threads, device=device, peers=peers,
        compilers=compilers, quick=quick,
    )  # fmt: skip
    with _Bar() as bar:
        result = measured(setting, sections, out, bar, _without_out(command_line.get()))
    console = Console(highlight=False)
    wide = Console(highlight=False, width=max(console.width, 110))
    for table, rows in tables(result):
        wide.print(table)
        for line in told_beside(rows):
            console.print(line, style="yellow", markup=False, soft_wrap=True)
        console.print()
    if (stolen := result["machine"].get("stolen") or 0) > QUIET:
        console.print(f"others took {stolen:.0%} of this machine's processor meanwhile: measure again", style="yellow")
    written = [out, *([write_chart(result, out.with_suffix(".svg"))] if "inference" in result else [])]
    for path in written:
        console.print(f"written to {path}", markup=False, soft_wrap=True)


def _without_out(command: str) -> str:
    """A command without the file it writes to: whoever repeats it has another."""
    words = shlex.split(command)
    before = ["", *words]
    return shlex.join(word for last, word in zip(before, words, strict=False) if "--out" not in (last, word[:5]))


class _Bar:
    """A bar with the time left for each section, on standard error and on terminals only; a line each elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[doing]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def section(self, title: str, steps: int) -> None:
        """A new bar in the place of the one before."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        if not self._console.is_terminal:
            self._console.print(title, markup=False)
        self._task = self._progress.add_task(title, total=steps, doing="")

    def step(self, doing: str) -> None:
        """One step further."""
        assert self._task is not None
        self._progress.update(self._task, advance=1, doing=doing)
