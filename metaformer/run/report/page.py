"""The page of one run: the files of a run folder in; curves.png, the task's drawings and report.html out.

The page is one file that can be mailed: drawings and images are inside it, nothing is fetched. It can be written
at any time; what is not there yet is said instead of shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...render.page import drawing, write_page
from . import results, setting
from .files import RunFiles, read_run
from .plots import learning_curves


def write_run_page(folder: Path | str) -> Path:
    """Write the drawings and the page of a run folder; gives back the path of report.html.

    Raises:
        RunError: there is no such folder, or a file in it is damaged; the message names it.
    """
    run = read_run(folder)
    context = _results(run) | _setting(run)
    context["sections"] = run.task.sections(run.evaluation, run.folder) if run.evaluation is not None else []
    context["curves"] = None
    if len(run.metrics):
        figure = learning_curves(run.metrics, run.task.metrics, run.primary)
        context["curves"] = drawing(figure, "Learning curves", run.folder / "curves.png")
    return write_page(run.folder / "report.html", "run.html.j2", context)


def _results(run: RunFiles) -> dict[str, Any]:
    """What came out."""
    heads, rows = results.metric_table(run)
    return {
        "title": results.title(run),
        "folder": run.folder.resolve().name,
        "verdict": results.verdict(run),
        "primary": run.primary.label,
        "tiles": results.tiles(run),
        "notes": results.notes(run),
        "metric_heads": heads,
        "metric_rows": rows,
        "evaluation_rows": results.evaluation_rows(run),
        "epochs": results.epoch_table(run),
    }


def _setting(run: RunFiles) -> dict[str, Any]:
    """What went in."""
    config = run.config
    return {
        "command": config.command if config else "",
        "recipe": setting.recipe_sections(config.recipe) if config else [],
        "stages": setting.stage_rows(config.spec) if config else [],
        "data": setting.data_rows(config) if config else [],
        "machine": setting.machine_rows(config) if config else [],
        "skipped": [(one.path, one.reason) for one in config.data.skipped] if config else [],
        "sources": results.sources(run),
    }
