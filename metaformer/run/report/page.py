"""The page of one run: the files of a run folder in; curves.png, confusion.png, predictions.png, report.html out.

The page is one file that can be mailed: drawings and images are inside it, nothing is fetched. It can be written
at any time; what is not there yet is said instead of shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...metrics import figure_name
from ...render.page import drawing, evaluation_parts, write_page
from . import results as run_results
from . import setting as run_setting
from .files import RunFiles, part, read_run
from .plots import learning_curves


def write_run_page(folder: Path | str) -> Path:
    """Write the images and the page of a run folder; gives back the path of report.html.

    Raises:
        RunError: there is no such folder, or a file in it is damaged; the message names it.
    """
    run = read_run(folder)
    context = _story(run) | _setting(run) | evaluation_parts(run.evaluation, run.folder)
    context["curves"] = None
    if len(run.metrics):
        context["curves"] = drawing(learning_curves(run.metrics), "Learning curves", run.folder / "curves.png")
    return write_page(run.folder / "report.html", "run.html.j2", context)


def _story(run: RunFiles) -> dict[str, Any]:
    """What came out."""
    heads, rows = run_results.figure_table(run.metrics)
    return {
        "title": run_results.title(run),
        "folder": run.folder.resolve().name,
        "verdict": run_results.verdict(run),
        "judged": figure_name(run_results.judged(run)),
        "tiles": run_results.tiles(run),
        "notes": run_results.notes(run),
        "figure_heads": heads,
        "figure_rows": rows,
        "evaluation_rows": run_results.evaluation_rows(run),
        "epochs": run_results.epoch_table(run.metrics),
    }


def _setting(run: RunFiles) -> dict[str, Any]:
    """What went in."""
    config = run.config

    return {
        "command": config.get("command"),
        "recipe": run_setting.recipe_sections(part(config, "recipe")),
        "stages": run_setting.stage_rows(config.get("spec")),
        "data": run_setting.data_rows(config),
        "machine": run_setting.machine_rows(config),
        "skipped": run_setting.skipped_rows(part(config, "data")),
        "sources": run_results.sources(run),
    }
