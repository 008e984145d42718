"""``make demo``: the paper's question on pictures that need no download, in about a minute and a half on two cores.

One small pyramid, five times, on scikit-learn's 1,797 handwritten digits: three models that differ only in the token
mixer, and two whose architecture is broken on purpose (MetaFormer, table 5, with and without these parts). Same
recipe, same seed, same pictures; a fifth of them is the test set. What is reported is the accuracy after the last
epoch. Prints a table and writes ``runs/demo/report.html``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import nan, sqrt
from pathlib import Path
from typing import Literal

from rich.console import Console

from .errors import InputError, RunError
from .recipe import Augmentation, DataChoice, Machine, ModelChoice, Optimisation, Recipe
from .report.comparison_page import ComparisonRow, comparison_table, write_comparison
from .report.numbers import duration, percent
from .report.run_files import read_run
from .run import train
from .spec import EmbeddingSpec, HeadSpec, MixerSpec, MLPSpec, ModelSpec, NormSpec, ResidualSpec, StageSpec
from .training.interrupt import RunInterrupted

FOLDER = Path("runs/demo")
QUESTION = (
    "Is it the token mixer that makes the model, or the architecture around it? Three rows differ only in the token "
    "mixer, two rows lack a part of the architecture; everything else is the same."
)
CLOSE = 0.02
"""Mixers within two points of each other are called close: about two standard errors of a difference between
accuracies near 98 % on the 359 test pictures."""


@dataclass(frozen=True)
class Row:
    """One model of the comparison."""

    title: str
    what: str
    group: Literal["mixer", "broken"]
    spec: ModelSpec

    @property
    def folder(self) -> str:
        """The name of its run folder."""
        return self.title.replace(" ", "-")


def pyramid(mixer: MixerSpec) -> ModelSpec:
    """Ten blocks in three stages on grids of 8, 4 and 2: the published pyramid, most of its depth in the middle,
    shrunk to pictures of 8 × 8."""
    norm = NormSpec(kind="layer")
    stages = tuple(
        StageSpec(
            depth=depth,
            width=width,
            embedding=EmbeddingSpec(kernel=3, stride=stride, padding=1),
            mixer=mixer,
            mlp=MLPSpec(ratio=2.0),
            norm=norm,
        )
        for depth, width, stride in ((2, 16, 1), (6, 32, 2), (2, 64, 2))
    )
    return ModelSpec(stages=stages, head=HeadSpec(norm=norm), num_classes=10, in_chans=1, img_size=(8, 8))


def altered(spec: ModelSpec, change: Callable[[StageSpec], StageSpec]) -> ModelSpec:
    """The same model with every stage changed."""
    return spec.with_changes(stages=tuple(change(stage) for stage in spec.stages))


def rows() -> list[Row]:
    """What is compared."""
    pooling = pyramid(MixerSpec(name="pooling"))
    attention = pyramid(MixerSpec(name="attention", args={"head_dim": 16}))
    no_residual = altered(pooling, lambda stage: stage.with_changes(residual=ResidualSpec(on=False)))
    no_mlp = altered(pooling, lambda stage: stage.with_changes(mlp=None))
    return [
        Row("identity", "tokens are not mixed at all", "mixer", pyramid(MixerSpec(name="identity"))),
        Row("pooling", "each token takes its neighbours' mean", "mixer", pooling),
        Row("attention", "each token looks at all others", "mixer", attention),
        Row("no residual", "pooling, but no shortcut past mixer and MLP", "broken", no_residual),
        Row("no channel MLP", "pooling, but no channel MLP", "broken", no_mlp),
    ]


def recipe() -> Recipe:
    """The same for every row."""
    return Recipe(
        model=ModelChoice(name="demo"),
        data=DataChoice(source="digits", val_fraction=0.2, split_seed=0, workers=1 if (os.cpu_count() or 1) > 1 else 0),
        augmentation=Augmentation(policy="none", mixup=0.2),
        optimisation=Optimisation(
            epochs=12,
            batch_size=64,
            lr=4e-3,
            weight_decay=0.05,
            warmup_epochs=1,
            min_lr=1e-5,
            clip_grad=1.0,
        ),
        machine=Machine(device="cpu", threads=1, save_minutes=60),
        seed=0,
    )


def run_row(row: Row, folder: Path, plan: Recipe, console: Console) -> ComparisonRow:
    """Train one row in its own run folder; a run that breaks down is a result too."""
    console.print(f"[bold]{row.title}[/]  [dim]{row.what}[/]")
    here = folder / row.folder
    result = ComparisonRow(row.title, row.what, row.group, here, 0, 0, nan, nan)
    try:
        done = train(
            plan,
            here,
            overwrite=True,
            command="make demo",
            spec=row.spec,
            judged="last",
            page=False,
            title=row.title,
            console=console,
        )
    except RunError as error:
        config = read_run(here).config
        known = {"parameters": config.get("parameters", 0), "macs": config.get("macs", 0)}
        console.print(f"  {error}", style="red", markup=False)
        return replace(result, **known, error=str(error).split(".")[0])
    assert done is not None, "the demo is a single process"
    console.print(f"  test accuracy {percent(done.last['top1'])} after {duration(done.seconds)}", highlight=False)
    return replace(result, parameters=done.parameters, macs=done.macs, seconds=done.seconds, top1=done.last["top1"])


def findings(results: Sequence[ComparisonRow], pictures: int) -> list[str]:
    """What the numbers say, in sentences, whether or not it is what the paper found.

    ``pictures`` is the number of test pictures: a difference within the chance of drawing them is called so.
    """
    mixers = [row for row in results if row.group == "mixer" and row.error is None]
    told = [_closeness(mixers, pictures)] if len(mixers) > 1 else []
    reference = next((row for row in mixers if row.title == "pooling"), None)
    for row in results:
        if row.group == "broken":
            told.append(_fall(row, reference, pictures))
        elif row.error is not None:
            told.append(f"With {row.title}, the run broke down: {row.error}.")
    chance = 100 * _error(reference or results[0], pictures)
    told.append(
        f"One seed and {pictures} test pictures: each accuracy has a standard error of about {chance:.1f} points. "
        "A small check, not the paper's experiment."
    )
    return told


def _closeness(mixers: Sequence[ComparisonRow], pictures: int) -> str:
    best, worst = max(mixers, key=lambda row: row.top1), min(mixers, key=lambda row: row.top1)
    spread = best.top1 - worst.top1
    verdict = "end close together" if spread <= CLOSE else "do not end close together"
    ends = f"from {percent(worst.top1)} ({worst.title}) to {percent(best.top1)} ({best.title})"
    return f"The token mixers {verdict}: {ends}, {100 * spread:.1f} points apart."


def _fall(row: ComparisonRow, reference: ComparisonRow | None, pictures: int) -> str:
    if row.error is not None:
        return f"With {row.title}, training broke down ({row.error})."
    if reference is None:
        return f"With {row.title}, accuracy is {percent(row.top1)}."
    fall = reference.top1 - row.top1
    noise = 2 * sqrt(_error(row, pictures) ** 2 + _error(reference, pictures) ** 2)
    if fall > noise:
        verdict = f"falls by {100 * fall:.1f} points"
    elif fall < -noise:
        verdict = f"rises by {-100 * fall:.1f} points, against the paper"
    else:
        verdict = f"does not fall measurably ({0.0 - 100 * fall:+.1f} points, within chance)"
    return f"With {row.title}, accuracy {verdict}, from {percent(reference.top1)} to {percent(row.top1)}."


def _error(row: ComparisonRow, pictures: int) -> float:
    """Standard error of an accuracy measured on so many pictures."""
    share = row.top1 if row.top1 == row.top1 else 0.5
    return sqrt(max(share * (1 - share), 1e-4) / pictures)


def compare(folder: Path = FOLDER, plan: Recipe | None = None, console: Console | None = None) -> list[ComparisonRow]:
    """Train all rows, print the table, write the page."""
    console = console or Console()
    plan = plan or recipe()
    results = [run_row(row, folder, plan, console) for row in rows()]
    evaluations = [read_run(row.folder).evaluation for row in results if row.error is None]
    pictures = next((seen.pictures for seen in evaluations if seen is not None), 0)
    told = findings(results, pictures) if pictures else ["No row could be trained."]
    page = write_comparison(folder, results, "Is the token mixer what you need?", QUESTION, told, chosen="pooling")
    console.print()
    console.print(comparison_table(results))
    for sentence in told:
        console.print(f"• {sentence}", highlight=False)
    console.print(f"\nreport  {page}", highlight=False, soft_wrap=True)
    return results


def main() -> int:
    """The demo; gives back the exit status."""
    try:
        compare()
    except InputError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False)
        return 2
    except RunInterrupted as stop:
        Console(stderr=True).print("stopped; `make demo` starts it again", style="yellow")
        return stop.exit_status
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
