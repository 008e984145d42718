"""``metaformer bench``: speed compared with other libraries and with the machine's peak; torch is imported inside."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .flags import command_line, option, several, switch

QUIET = 0.02
"""The share of CPU steal time above which ratios vary by more than the differences to be measured."""


def bench(
    *sections: Annotated[
        str, Parameter(help="What to measure: inference, training, scaling, start-up. [default: all]")
    ],
    model: Annotated[
        tuple[str, ...],
        several("Model names; sections other than inference measure the first."),
    ] = ("poolformer_s12",),
    batch_size: Annotated[
        tuple[int, ...],
        several("Images per batch; the first model is measured at each size."),
    ] = (8,),
    size: Annotated[int, option("Side of the images in pixels.")] = 224,
    rounds: Annotated[int, option("Rounds; every contender has one turn in each.")] = 15,
    threads: Annotated[int, option("CPU threads of every engine.")] = 2,
    device: Annotated[Literal["auto", "cpu", "cuda"], option("Device.")] = "cpu",
    peers: Annotated[bool, option("Measure timm, transformers and torchvision too.")] = True,
    compilers: Annotated[
        bool,
        option("Include what Inductor compiles (minutes per model) in the first comparison and in training."),
    ] = True,
    out: Annotated[
        Path, option("The JSON file, written after every round; the bar chart is written beside it as SVG.")
    ] = Path("bench.json"),
    quick: Annotated[bool, switch("Two short rounds without compilers, to see whether it runs.")] = False,
) -> None:
    """Measure speed and memory in turns with other libraries, and the machine's peak in the same rounds.

    Ratios are medians over the rounds. Implementations whose outputs differ are not timed. No other program should run.
    """
    from ..benchmark.bench import bench as run_bench
    from ..benchmark.chart import write_chart
    from ..benchmark.setting import Setting
    from ..benchmark.tables import notes, tables

    setting = Setting(
        models=model, batch_sizes=batch_size, size=size, rounds=rounds, threads=threads, device=device, peers=peers,
        compilers=compilers, quick=quick,
    )  # fmt: skip
    with _Bar() as bar:
        result = run_bench(setting, sections, out, bar, _without_out(command_line.get()))
    console = Console(highlight=False)
    wide = Console(highlight=False, width=max(console.width, 110))
    for table, rows in tables(result):
        wide.print(table)
        for line in notes(rows):
            console.print(line, style="yellow", markup=False, soft_wrap=True)
        console.print()
    if (steal := result["machine"].get("steal") or 0) > QUIET:
        console.print(f"CPU steal time was {steal:.0%}; measure again when the host is less busy", style="yellow")
    written = [out, *([write_chart(result, out.with_suffix(".svg"))] if "inference" in result else [])]
    for path in written:
        console.print(f"written to {path}", markup=False, soft_wrap=True)


def _without_out(command: str) -> str:
    """The command without --out, which does not change what is measured."""
    words = shlex.split(command)
    before = ["", *words]
    return shlex.join(word for last, word in zip(before, words, strict=False) if "--out" not in (last, word[:5]))


class _Bar:
    """A progress bar with the remaining time of a section, on stderr. Without a terminal: one line per section."""

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
        """Replace the bar by a new one."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        if not self._console.is_terminal:
            self._console.print(title, markup=False)
        self._task = self._progress.add_task(title, total=steps, doing="")

    def step(self, description: str) -> None:
        """Advance by one step."""
        assert self._task is not None
        self._progress.update(self._task, advance=1, doing=description)
