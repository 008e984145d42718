"""``metaformer report``: write the reports of runs and sweeps again. torch is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import InputError
from .flags import option


def report(
    *folders: Annotated[Path, Parameter(help="Run folders, or sweep folders.")],
    out: Annotated[
        Path | None, option("Folder for the comparison of several sweeps. [default: comparison/ in the first]")
    ] = None,
) -> None:
    """Rewrite the reports of runs or sweeps from the files in their folders; compare several sweeps."""
    from ..ablation.folder import is_sweep

    if not folders:
        raise InputError("no folders given; pass run folders, such as runs/*, or sweep folders")
    sweeps = [folder for folder in folders if is_sweep(folder)]
    if out is not None and len(sweeps) < max(2, len(folders)):
        raise InputError("--out is for the comparison of two or more sweeps; other reports stay in their folders")
    if len(sweeps) == len(folders):
        _report_sweeps(sweeps, out)
    else:
        _report_runs(folders, sweeps)


def _report_sweeps(folders: list[Path], out: Path | None) -> None:
    from ..ablation.report.comparison import write_sweep_comparison
    from ..ablation.report.page import write_sweep_page

    # The comparison first: it refuses sweeps that cannot be compared before any page is written.
    compared = [write_sweep_comparison(folders, out)] if len(folders) > 1 else []
    for page in [*map(write_sweep_page, folders), *compared]:
        print(page)


def _report_runs(folders: Sequence[Path], sweeps: Sequence[Path]) -> None:
    from ..run.config import CONFIG
    from ..run.report.page import write_run_page
    from ..training.journal import METRICS

    runs = [folder for folder in folders if any((folder / name).is_file() for name in (CONFIG, METRICS))]
    foreign = next((folder for folder in folders if folder not in runs and folder not in sweeps), None)
    if foreign is not None:
        raise InputError(
            f"{foreign}: expected a run folder, with {CONFIG} and {METRICS}, or a sweep folder, with plan.json"
        )
    if sweeps:
        raise InputError(
            f"{sweeps[0]} is a sweep folder and {runs[0]} a run folder; pass only one kind. The runs of a sweep are in "
            "its runs/"
        )
    for folder in folders:
        print(write_run_page(folder))
