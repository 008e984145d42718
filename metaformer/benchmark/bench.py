"""``metaformer bench``: measure one section after the other and write the result after every round.

In: a ``Setting`` and a path. Out: a JSON file with hardware, versions, commit, the times of every round and the metrics
computed from them. The file is always replaced as a whole, so an interrupted bench keeps its finished rounds.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from ..errors import InputError, did_you_mean
from ..files import replace_file
from ..model.device import resolve_device
from ..recipe import Machine
from ..zoo.catalogue import find
from .contenders import contenders
from .inference import compare
from .machine import cpu_ticks, machine, steal_share
from .scaling import MIXERS, SIDES, measure_scaling
from .setting import SECTIONS, Setting
from .start_up import as_dicts, start_up
from .training import measure_training, training_contenders
from .trial import Trial

log = logging.getLogger(__name__)

OLD_SCALING = "growth"
"""The name of the section ``scaling`` in version 0.1.0."""
RENAMED = {OLD_SCALING: "scaling", "figures": "metrics", "processor": "cpu", "stolen": "steal"}
"""Keys of files that version 0.1.0 wrote, and their names now."""


class Progress(Protocol):
    """Shows how far a bench is."""

    def section(self, title: str, steps: int) -> None:
        """A section of about so many steps begins."""

    def step(self, description: str) -> None:
        """The next step begins."""


def read_result(path: Path) -> dict[str, Any]:
    """The content of a file that ``bench`` wrote, also of version 0.1.0."""

    def renamed(mapping: dict[str, Any]) -> dict[str, Any]:
        return {RENAMED.get(key, key): value for key, value in mapping.items()}

    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_hook=renamed)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(found, dict) or not {"setting", "machine"} <= found.keys():
        raise InputError(f"{path}: expected the result of `metaformer bench`, with setting and machine")
    return found


def bench(
    setting: Setting, sections: Sequence[str], out: Path, progress: Progress, command: str = ""
) -> dict[str, Any]:
    """Measure and write the result.

    Args:
        setting: models, sizes and the number of rounds.
        sections: of ``SECTIONS``, or ``all``; empty means all.
        out: the JSON file; an existing one is replaced after the first round.
        progress: is called before every step.
        command: the command line, to be recorded in the file.

    Raises:
        InputError: an unknown section or model, a file that cannot be written, a device that this machine lacks.
    """
    chosen = _sections(sections)
    for name in setting.models:
        find(name)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot create its folder ({error.strerror}); choose another --out") from None
    if out.is_dir():
        raise InputError(f"{out}: expected a JSON file, got a folder")
    device = torch.device(resolve_device(Machine(device=setting.device)))  # type: ignore[arg-type]
    torch.set_num_threads(setting.threads)
    result: dict[str, Any] = {"command": command, "setting": setting.to_dict(), "machine": machine()}
    start = cpu_ticks()
    try:
        for section in chosen:
            for measured in _RUN[section](setting, device, progress):
                result[section.replace("-", "_")] = measured
                result["machine"]["steal"] = steal_share(start, cpu_ticks())
                replace_file(out, (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    except KeyboardInterrupt:
        if result.keys() & {section.replace("-", "_") for section in chosen}:
            log.info(f"the finished rounds are in {out}")
        raise
    return result


def _sections(names: Sequence[str]) -> list[str]:
    """The chosen sections in the order in which they run."""
    if OLD_SCALING in names:
        log.warning(f"the section {OLD_SCALING!r} is called 'scaling' now")
        names = ["scaling" if name == OLD_SCALING else name for name in names]
    unknown = [name for name in names if name not in (*SECTIONS, "all")]
    if unknown:
        raise InputError(f"unknown section {unknown[0]!r}. {did_you_mean(unknown[0], (*SECTIONS, 'all'))}")
    return [name for name in SECTIONS if name in names or "all" in names or not names]


def _trial(setting: Setting, name: str, batch: int, device: torch.device) -> Trial:
    return Trial(name, find(name).spec, batch=batch, size=setting.size, threads=setting.threads, device=device)


def _inference(setting: Setting, device: torch.device, progress: Progress) -> Iterator[list[dict[str, Any]]]:
    """All comparisons so far, after each round.

    Contenders compiled by Inductor take part in the first comparison only: compiling takes minutes for a deep model.
    """
    done: list[dict[str, Any]] = []
    for name, batch in setting.cells:
        chosen = contenders(device, peers=setting.peers, compilers=setting.compiles and not done)
        progress.section(f"inference, {name}, batch {batch}", len(chosen) * (setting.pace.total + 1))
        for comparison in compare(_trial(setting, name, batch, device), chosen, setting.pace, progress.step):
            current = comparison.to_dict()
            yield [*done, current]
        done.append(current)


def _training(setting: Setting, device: torch.device, progress: Progress) -> Iterator[list[dict[str, Any]]]:
    """The first model at the first batch size."""
    name, batch = setting.cells[0]
    chosen = training_contenders(peers=setting.peers, compilers=setting.compiles)
    progress.section(f"training, {name}, batch {batch}", len(chosen) * (setting.pace.total + 1))
    for result in measure_training(_trial(setting, name, batch, device), chosen, setting.pace, progress.step):
        yield [result.to_dict()]


def _scaling(setting: Setting, device: torch.device, progress: Progress) -> Iterator[list[dict[str, Any]]]:
    sides = SIDES[:3] if setting.quick else SIDES
    progress.section("scaling", len(MIXERS) * len(sides) * (setting.pace.total + 1))
    for curves in measure_scaling(sides, device, setting.pace, progress.step):
        yield [curve.to_dict() for curve in curves]


def _start_up(setting: Setting, device: torch.device, progress: Progress) -> Iterator[list[dict[str, Any]]]:
    trial = _trial(setting, *setting.cells[0], torch.device("cpu"))
    progress.section("start-up", 5 * (setting.pace.rounds + 1))
    with tempfile.TemporaryDirectory() as folder:
        for rows in start_up(trial.ours, Path(folder), setting.threads, setting.pace, progress.step):
            yield as_dicts(rows)


_RUN = {"inference": _inference, "training": _training, "scaling": _scaling, "start-up": _start_up}
