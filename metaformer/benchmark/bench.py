"""``metaformer bench``: sections one after the other, written down after every round.

In: a ``Setting`` and a file. Out: the file, JSON: hardware, versions, commit, every round's times and what follows from
them. It is replaced whole, so an interrupted bench keeps its finished rounds.
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
from ..recipe import Machine
from ..training.device import chosen_device
from ..zoo.catalogue import find
from .contenders import contenders
from .growth import MIXERS, SIDES, grow
from .inference import compare
from .machine import machine, processor_time, stolen_share
from .setting import SECTIONS, Setting
from .start_up import as_dicts, start_up
from .training import learn, learners
from .trial import Trial

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Somebody who looks on."""

    def section(self, title: str, steps: int) -> None:
        """Something of about so many steps begins."""

    def step(self, doing: str) -> None:
        """The next of them."""


def bench(setting: Setting, sections: Sequence[str], out: Path, watcher: Watcher, command: str = "") -> dict[str, Any]:
    """Measure and write.

    Args:
        setting: what, and how long.
        sections: of ``SECTIONS``, or ``all``.
        out: the JSON file; one that is there is replaced when the first round is done.
        watcher: hears of every step.
        command: what was typed, for the file.

    Raises:
        InputError: an unknown section or model, a file that cannot be written, a device that this machine lacks.
    """
    chosen = _sections(sections)
    for name in setting.models:
        find(name)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: its folder cannot be made ({error.strerror}); choose another --out") from None
    if out.is_dir():
        raise InputError(f"{out}: expected a JSON file, got a folder")
    device = torch.device(chosen_device(Machine(device=setting.device)))  # type: ignore[arg-type]
    torch.set_num_threads(setting.threads)
    result: dict[str, Any] = {"command": command, "setting": setting.to_dict(), "machine": machine()}
    start = processor_time()
    try:
        for section in chosen:
            for told in _RUN[section](setting, device, watcher):
                result[section.replace("-", "_")] = told
                result["machine"]["stolen"] = stolen_share(start, processor_time())
                replace_file(out, (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    except KeyboardInterrupt:
        if result.keys() & {section.replace("-", "_") for section in chosen}:
            log.info(f"the rounds that were finished are in {out}")
        raise
    return result


def _sections(words: Sequence[str]) -> list[str]:
    unknown = [word for word in words if word not in (*SECTIONS, "all")]
    if unknown:
        raise InputError(f"unknown section {unknown[0]!r}. {did_you_mean(unknown[0], (*SECTIONS, 'all'))}")
    return [name for name in SECTIONS if name in words or "all" in words or not words]


def _trial(setting: Setting, name: str, batch: int, device: torch.device) -> Trial:
    return Trial(name, find(name).spec, batch=batch, size=setting.size, threads=setting.threads, device=device)


def _inference(setting: Setting, device: torch.device, watcher: Watcher) -> Iterator[list[dict[str, Any]]]:
    """Every cell's comparison so far, after each round.

    What Inductor compiles takes part in the first of them only: it takes minutes for each deep model.
    """
    done: list[dict[str, Any]] = []
    for name, batch in setting.cells:
        rows = contenders(device, peers=setting.peers, compilers=setting.compiles and not done)
        watcher.section(f"inference, {name}, batch {batch}", len(rows) * (setting.pace.total + 1))
        for comparison in compare(_trial(setting, name, batch, device), rows, setting.pace, watcher.step):
            told = comparison.to_dict()
            yield [*done, told]
        done.append(told)


def _training(setting: Setting, device: torch.device, watcher: Watcher) -> Iterator[list[dict[str, Any]]]:
    """The first model at the first batch size."""
    name, batch = setting.cells[0]
    chosen = learners(peers=setting.peers, compilers=setting.compiles)
    watcher.section(f"training, {name}, batch {batch}", len(chosen) * (setting.pace.total + 1))
    for lesson in learn(_trial(setting, name, batch, device), chosen, setting.pace, watcher.step):
        yield [lesson.to_dict()]


def _growth(setting: Setting, device: torch.device, watcher: Watcher) -> Iterator[list[dict[str, Any]]]:
    sides = SIDES[:3] if setting.quick else SIDES
    watcher.section("growth", len(MIXERS) * len(sides) * (setting.pace.total + 1))
    for curves in grow(sides, device, setting.pace, watcher.step):
        yield [curve.to_dict() for curve in curves]


def _start_up(setting: Setting, device: torch.device, watcher: Watcher) -> Iterator[list[dict[str, Any]]]:
    trial = _trial(setting, *setting.cells[0], torch.device("cpu"))
    watcher.section("start-up", 5 * (setting.pace.rounds + 1))
    with tempfile.TemporaryDirectory() as folder:
        for rows in start_up(trial.ours, Path(folder), setting.threads, setting.pace, watcher.step):
            yield as_dicts(rows)


_RUN = {"inference": _inference, "training": _training, "growth": _growth, "start-up": _start_up}
