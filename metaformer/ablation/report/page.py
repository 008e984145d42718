"""The report of a sweep: its folder in; report.html, table.csv, table.json, table.md and the figures out.

The page is one self-contained file. It can be written at any time: a sweep that is not finished says so at the top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ...errors import RunError
from ...render.numbers import DASH, capital, count, short
from ...render.page import drawing, write_page
from ...run.report.setting import recipe_sections
from . import setting
from .curves import learning_curves
from .findings import findings
from .formatting import digits_of, heading, interval, mean_text, points, probability
from .plots import against_published, metric_over_macs, metric_per_variant
from .results import SweepResults, SweepRow, read_results
from .table import counts_as, footnotes, write_tables


def write_sweep_page(folder: Path | str) -> Path:
    """Write the report of a sweep into its folder; returns the path of report.html.

    Raises:
        RunError: this is no sweep's folder, its plan or journal is damaged, or the folder cannot be written.
    """
    sweep = read_results(folder)
    try:
        write_tables(sweep)
        return write_page(sweep.files.folder / "report.html", "sweep.html.j2", _context(sweep), __package__)
    except OSError as error:
        raise RunError(
            f"{folder}: the report cannot be written ({error.strerror}); the runs are kept. "
            "Free some space and write it with `metaformer report`"
        ) from None


def _context(sweep: SweepResults) -> dict[str, Any]:
    plan = sweep.files.plan
    return {
        "title": sweep.files.title,
        "question": plan.question,
        "source": plan.source,
        "metric": capital(sweep.metric.label),
        "heading": capital(heading(sweep.metric)),
        "in_percent": sweep.metric.unit == "share",
        "notes": [*setting.notes(sweep), *plan.notes],
        "findings": findings(sweep),
        "tiles": setting.tiles(sweep),
        "groups": [{"title": name, "rows": [_table_row(row) for row in rows]} for name, rows in sweep.groups.items()],
        "has_print": sweep.has_published,
        "has_inference": any(row.inference_speed is not None for row in sweep.rows),
        "footnotes": footnotes(sweep),
        "figures": _figures(sweep),
        "reading": _reading(sweep),
        "seeds": len(plan.seeds),
        "command": plan.command,
        "recipe": recipe_sections(sweep.base.variant.recipe),
        "base": sweep.base.name,
        "data": setting.data(sweep),
        "machine": setting.machines(sweep),
        "cost": setting.cost_rows(sweep),
        "runs": setting.run_rows(sweep),
    }


def _table_row(row: SweepRow) -> dict[str, Any]:
    """A row of the page's table."""
    difference, published = row.difference, row.variant.published
    digits, rough = digits_of(row.metric), digits_of(row.metric, rough=True)
    return {
        "name": row.name,
        "about": row.variant.about,
        "is_base": row.kind == "base",
        "parameters": short(row.parameters),
        "macs": short(row.macs),
        "training": count(row.training_speed),
        "inference": count(row.inference_speed),
        "value": mean_text(row.summary, digits),
        "few": 0 < row.summary.number < len(row.runs),
        "seeds": row.summary.number,
        "difference": points(difference.mean, digits) if difference else DASH,
        "interval": interval(difference, digits),
        "significant": row.is_significant,
        "better": row.is_better,
        "p": probability(difference.p_holm if difference else None),
        "published": DASH if published is None else f"{published:.{rough}f}",
        "published_difference": points(row.published_difference, rough),
        "notes": row.notes,
        "failed": row.diverged > 0,
    }


_TITLES = {
    "variants": "Every variant's {label}",
    "macs": "{Label} and cost",
    "curves": "Learning curves",
    "published": "Measured and published order",
}


def _figures(sweep: SweepResults) -> list[dict[str, Any]]:
    """Title, drawing and caption of each figure that there is data for; each is saved as a PNG too."""
    has_results = any(row.summary.mean is not None for row in sweep.rows)
    made: dict[str, Figure | None] = {
        "variants": metric_per_variant(sweep) if has_results else None,
        "macs": metric_over_macs(sweep) if has_results else None,
        "curves": learning_curves(sweep),
        "published": against_published(sweep),
    }
    captions, label = _captions(sweep), sweep.metric.label
    figures = []
    for name, figure in made.items():
        if figure is not None:
            title = _TITLES[name].format(label=label, Label=capital(label))
            svg = drawing(figure, title, sweep.files.folder / f"{name}.png")
            figures.append({"title": title, "drawing": svg, "caption": captions[name]})
    return figures


def _captions(sweep: SweepResults) -> dict[str, str]:
    label, worse = sweep.metric.label, "below" if sweep.metric.better == "higher" else "above"
    variants = [f"The dashed lines mark the base. A triangle at the edge is a variant far {worse}, with its number."]
    if len(sweep.files.plan.seeds) > 1:
        variants.insert(0, "Mean and standard deviation over the seeds, and under them each seed as a small dot.")
    if sweep.has_published:
        variants.append("Hollow circles are the published numbers, on their own axis.")
    if any(row.diverged for row in sweep.rows):
        variants.append("Orange variants have runs that diverged.")
    error = " The error is on a logarithmic scale." if sweep.metric.unit == "share" else ""
    return {
        "variants": " ".join(variants),
        "macs": f"Mean {label} over multiply-adds for one image. Arrows mark variants {worse} the axis.",
        "curves": f"Validation {label} after each epoch: the mean over the seeds, with a band from the lowest to the "
        f"highest seed. The base is gray in every panel.{error} A run that diverged is drawn up to its last epoch.",
        "published": "Ranks by measured mean over ranks by published number; on the dashed line both agree. Equal "
        "values share the mean of their ranks.",
    }


def _reading(sweep: SweepResults) -> list[str]:
    """How the numbers were computed, and what they do not show."""
    sentences = []
    if len(sweep.files.plan.seeds) > 1:
        sentences += [
            "± is the standard deviation over the seeds (n − 1): the spread of single trainings, not the error of "
            "their mean.",
            "A seed decides the initial weights, the order of the images and their augmentation, so variants are "
            "compared seed by seed. The difference is the mean over the seeds of variant minus base, the interval "
            "is Student's 95 % interval of that mean, and p is that of a two-sided paired t-test.",
            "With many variants, some differ by chance. Therefore p is corrected by Holm's method over all variants "
            "that were tested. Intervals are not corrected.",
        ]
    else:
        sentences.append("One seed does not show the spread of trainings: there is no deviation, interval or test.")
    sentences += [
        f"The {sweep.metric.label} is that of the weights after the last epoch, so no epoch is chosen by it. All runs "
        "share the same validation images, and no number is corrected for that or for how few they are.",
        f"A run that diverged {counts_as(sweep)}.",
        "Samples per second are medians over epochs and seeds, measured while the sweep ran. With several workers on "
        "one machine they are below what a single run would reach.",
        "Overhead is the share of the workers' time (workers times wall time) outside epochs: starting, loading, the "
        "last evaluation, waiting for the last run, and epochs that were interrupted.",
    ]
    if sweep.ranks is not None:
        sentences.append(
            "ρ is Spearman's rank correlation between means and published numbers over the variants that have both, "
            "the base included. Its interval is Fisher's with the standard error of Bonett and Wright (2000), its p "
            "that of a permutation test. Both assume independent variants, which changes of one base are only in part."
        )
    return sentences
