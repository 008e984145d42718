"""The report of one run: the files of a run folder in; curves.png, the task's figures and report.html out.

The page is a single file with all figures and images inside. It can be written at any time; it names what is not
there yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...render.page import drawing, write_page
from . import results, setting
from .files import RunFiles, read_run
from .plots import learning_curves


def write_run_page(folder: Path | str) -> Path:
    """Write the figures and the page of a run folder; returns the path of report.html.

    Raises:
        RunError: the folder does not exist, or a file in it is damaged; the message has its path.
    """
    run = read_run(folder)
    context = _results(run) | _settings(run)
    context["sections"] = run.task.sections(run.evaluation, run.folder) if run.evaluation is not None else []
    context["curves"] = None
    if len(run.metrics):
        figure = learning_curves(run.metrics, run.task.metrics, run.primary)
        context["curves"] = drawing(figure, "Learning curves", run.folder / "curves.png")
    return write_page(run.folder / "report.html", "run.html.j2", context)


def _results(run: RunFiles) -> dict[str, Any]:
    """Template variables from metrics.csv and evaluation.json."""
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


def _settings(run: RunFiles) -> dict[str, Any]:
    """Template variables from config.json."""
    config = run.config
    return {
        "command": config.command if config else "",
        "recipe": setting.recipe_sections(config.recipe) if config else [],
        "stages": setting.stage_rows(config.spec) if config else [],
        "data": setting.data_rows(config) if config else [],
        "machine": setting.machine_rows(config) if config else [],
        "skipped": [(file.path, file.reason) for file in config.data.skipped] if config else [],
        "sources": results.sources(run),
    }
