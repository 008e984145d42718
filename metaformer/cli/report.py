"""``metaformer report``: write the reports of runs and sweeps again. torch is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import InputError
from .flags import option


def report(
    *folders: Annotated[Path, Parameter(help="Run folders, or folders of sweeps.")],
    out: Annotated[
        Path | None, option("Where two or more sweeps are compared [default: comparison/ in the first].")
    ] = None,
) -> None:
    """Write the reports of runs or sweeps again, from the files in their folders; compare two or more sweeps."""
    from ..ablation.folder import is_sweep

    if not folders:
        raise InputError("which runs? Give one or more run folders, such as runs/*, or folders of sweeps")
    sweeps = [folder for folder in folders if is_sweep(folder)]
    if len(sweeps) == len(folders):
        _report_sweeps(sweeps, out)
        return
    if out is not None:
        raise InputError("--out is for the comparison of two or more sweeps; the report of a run stays in its folder")
    _report_runs(folders, sweeps)


def _report_sweeps(folders: list[Path], out: Path | None) -> None:
    from ..ablation.report.comparison import write_sweep_comparison
    from ..ablation.report.page import write_sweep_page

    if out is not None and len(folders) < 2:
        raise InputError("--out is for the comparison of two or more sweeps; the report of one stays in its folder")
    # First, since it says what does not fit together before any page is written.
    compared = [write_sweep_comparison(folders, out)] if len(folders) > 1 else []
    for page in [*map(write_sweep_page, folders), *compared]:
        print(page)


def _report_runs(folders: tuple[Path, ...], sweeps: list[Path]) -> None:
    from ..run.folder import CONFIG
    from ..run.report.page import write_run_page
    from ..training.journal import METRICS

    runs = [folder for folder in folders if any((folder / name).is_file() for name in (CONFIG, METRICS))]
    foreign = next((folder for folder in folders if folder not in runs and folder not in sweeps), None)
    if foreign is not None:
        raise InputError(
            f"{foreign}: expected a run folder, with the {CONFIG} and {METRICS} that a run writes, or a sweep's, with "
            "the plan.json that `metaformer ablate` writes"
        )
    if sweeps:
        raise InputError(
            f"{sweeps[0]} is a sweep and {runs[0]} a run; give either runs or sweeps. A sweep's runs are in its runs/"
        )
    for folder in folders:
        print(write_run_page(folder))
