"""The report of a sweep: its folder in; report.html, table.csv, table.json, table.md and the figures out.

The page is one file that can be mailed; nothing in it is typed by hand. It can be written at any time: a sweep that is
not finished says so at the top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from rich.table import Table

from ...errors import RunError
from ...recipe import Recipe
from ...render.numbers import DASH, count, known, short
from ...render.page import drawing, write_page
from ...run.report.setting import recipe_sections
from . import setting
from .curves import learning_curves
from .files import read_sweep
from .findings import told
from .formatting import accuracy, interval, points, probability
from .plots import accuracies, accuracy_over_macs, against_print
from .results import SweepResults, SweepRow, gathered
from .table import footnotes, is_sure, terminal_table, write_tables


def write_sweep_page(folder: Path | str) -> Path:
    """Write everything that is reported of a sweep into its folder; gives back the path of report.html.

    Raises:
        RunError: this is no sweep's folder, a file in it is damaged, or nothing can be written there.
    """
    sweep = gathered(read_sweep(folder))
    try:
        write_tables(sweep)
        return write_page(sweep.files.folder / "report.html", "sweep.html.j2", _context(sweep))
    except OSError as error:
        raise RunError(
            f"{folder}: the report cannot be written ({error.strerror}); the runs are kept. "
            "Make room and write it with `metaformer report`"
        ) from None


def sweep_table(folder: Path | str) -> Table:
    """The table for the terminal.

    Raises:
        RunError: this is no sweep's folder, or a file in it is damaged.
    """
    return terminal_table(gathered(read_sweep(folder)))


def findings(folder: Path | str) -> list[str]:
    """What the sweep found, a sentence each, the most important first.

    Raises:
        RunError: this is no sweep's folder, or a file in it is damaged.
    """
    return told(gathered(read_sweep(folder)))


def _context(sweep: SweepResults) -> dict[str, Any]:
    plan = sweep.files.plan
    return {
        "title": sweep.files.title,
        "question": str(plan.get("question") or ""),
        "source": str(plan.get("source") or ""),
        "notes": [*setting.notes(sweep), *map(str, plan.get("notes") or ())],
        "findings": told(sweep),
        "tiles": setting.tiles(sweep),
        "groups": [{"title": name, "rows": [_shown(row) for row in rows]} for name, rows in sweep.groups.items()],
        "has_print": any(row.variant.published is not None for row in sweep.rows),
        "has_inference": any(row.inference_speed is not None for row in sweep.rows),
        "footnotes": footnotes(sweep),
        "figures": _figures(sweep),
        "reading": _reading(sweep),
        "seeds": len(sweep.files.seeds),
        "command": plan.get("command"),
        "recipe": recipe_sections(Recipe.from_dict(sweep.base.variant.recipe)),
        "base": sweep.base.name,
        "data": setting.data(sweep),
        "machine": setting.machines(sweep),
        "cost": setting.cost_rows(sweep),
        "runs": setting.run_rows(sweep),
    }


def _shown(row: SweepRow) -> dict[str, Any]:
    """A line of the page's table."""
    difference, published = row.difference, row.variant.published
    return {
        "name": row.name,
        "about": row.variant.about,
        "is_base": row.kind == "base",
        "parameters": short(row.parameters),
        "macs": short(row.macs),
        "training": count(row.training_speed),
        "inference": count(row.inference_speed),
        "accuracy": accuracy(row),
        "few": 0 < row.summary.number < len(row.runs),
        "seeds": row.summary.number,
        "difference": points(difference.mean) if difference else DASH,
        "interval": interval(difference),
        "sure": is_sure(row),
        "better": difference is not None and difference.mean > 0,
        "p": probability(difference.p_holm if difference else None),
        "published": f"{published:.1f}" if known(published) else DASH,
        "published_difference": points(row.published_difference, 1),
        "notes": row.notes,
        "failed": row.broken > 0,
    }


_CAPTIONS = {
    "macs": "Mean accuracy over multiply-adds for one image. Arrows mark variants below the axis.",
    "curves": "Validation top-1 after each epoch: the mean over the seeds, the band from the lowest to the highest "
    "seed, the base in gray in every panel; the error is on a logarithmic scale. A run that broke down has its epochs "
    "up to there.",
    "published": "Ranks by measured mean over ranks in print; on the dashed line both agree. Equal accuracies share "
    "the mean of their ranks.",
}


def _caption(sweep: SweepResults, name: str) -> str:
    if name in _CAPTIONS:
        return _CAPTIONS[name]
    said = "The dashed lines mark the base. A triangle at the edge is a variant far below, with its number."
    if len(sweep.files.seeds) > 1:
        said = f"The mean and the standard deviation over the seeds, below them the seeds as small dots. {said}"
    if any(row.variant.published is not None for row in sweep.rows):
        said = f"{said} Hollow circles are the numbers in print, on their own axis."
    return f"{said} Orange means that runs broke down." if any(row.broken for row in sweep.rows) else said


_TITLES = {
    "accuracy": "Accuracy per variant",
    "macs": "Accuracy and cost",
    "curves": "Learning curves",
    "published": "Measured and published order",
}


def _figures(sweep: SweepResults) -> list[dict[str, Any]]:
    """Title, drawing and caption of each figure that there is data for; a PNG of each lies beside the page."""
    has_results = any(row.summary.mean is not None for row in sweep.rows)
    made: dict[str, Figure | None] = {
        "accuracy": accuracies(sweep) if has_results else None,
        "macs": accuracy_over_macs(sweep) if has_results else None,
        "curves": learning_curves(sweep),
        "published": against_print(sweep),
    }
    return [
        {"title": _TITLES[name], "drawing": _drawn(sweep, name, figure), "caption": _caption(sweep, name)}
        for name, figure in made.items()
        if figure is not None
    ]


def _drawn(sweep: SweepResults, name: str, figure: Figure) -> Markup:
    return drawing(figure, _TITLES[name], sweep.files.folder / f"{name}.png")


def _reading(sweep: SweepResults) -> list[str]:
    """How the numbers came about and what they cannot say."""
    said = []
    if len(sweep.files.seeds) > 1:
        said += [
            "± is the standard deviation over the seeds (n − 1), the spread of single trainings, not the error of "
            "their mean.",
            "A seed decides the initial weights, the order of the images and what happens to them, so variants are "
            "compared seed by seed: the difference is the mean over the seeds of variant minus base, the interval "
            "Student's 95 % interval of that mean, p that of a two-sided paired t-test.",
            "With many variants some differ by chance; p is therefore corrected by Holm's method over all variants "
            "that were tested. Intervals are not corrected.",
        ]
    else:
        said.append("One seed says nothing about the spread of trainings: there is no deviation, interval or test.")
    said += [
        "The accuracy is that of the weights after the last epoch, so no epoch is chosen by it. Nothing corrects for "
        "having looked at the same validation images in every run, nor for how few they are.",
        f"A run whose training broke down counts as guessing, {sweep.files.chance:g} %, in means, differences and "
        "ranks.",
        "Images a second are medians over epochs and seeds, as the machine was loaded while the sweep ran; with "
        "several workers on one machine they are below what one run alone would reach.",
        "Overhead is the share of the workers' time (workers times wall time) that went into no epoch: starting, "
        "loading, the last evaluation, waiting for the last run, and epochs that broke off.",
    ]
    if sweep.ranks is not None:
        said.append(
            "ρ is Spearman's rank correlation between mean accuracies and those in print over the variants that have "
            "both, the base included. Its interval is Fisher's with the standard error of Bonett and Wright (2000), "
            "its p a permutation test; both take variants as independent, which changes of one base are not entirely."
        )
    return said
