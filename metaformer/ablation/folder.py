"""A sweep's folder: its plan as resolved, its journal, its runs, and the lock that keeps a second sweep out.

plan.json          what is trained: rows with whole models and recipes, seeds, the images' classes and numbers
journal.jsonl      what happened, a line an event, on the disk before the sweep goes on
runs/ROW/seed-N/   ordinary run folders
report.html, table.csv, table.json, table.md, *.png
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from ..errors import RunError
from ..files import replace_file
from ..run import folder as run_folder
from .lock import LOCK

PLAN, JOURNAL, RUNS = "plan.json", "journal.jsonl", "runs"
FORMAT = 1
SETTLED = ("finished", "broke down")
"""Events after which a run is not begun again."""
_STATE = "checkpoint*.safetensors"
_WRITTEN = (PLAN, JOURNAL, RUNS, "report.html", "table.*", "*.png", "comparison")


class SweepFolder:
    """The files of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, slug: str, seed: int) -> Path:
        """The folder of one run."""
        return self.path / RUNS / slug / f"seed-{seed}"

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that cannot hold this sweep; nothing in it is touched.

        Raises:
            RunError: a sweep is there and neither ``resume`` nor ``overwrite`` was asked for; nothing to resume;
                files that no sweep writes.
        """
        if resume and overwrite:
            raise RunError("--resume goes on with the sweep in the folder, --overwrite removes it; give one of them")
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; expected a folder for the sweep. Choose another with --out")
        found = sorted(e.name for e in self.path.iterdir() if not e.name.startswith(".")) if self.path.is_dir() else []
        is_sweep = PLAN in found
        if resume and not is_sweep:
            there = f"its {PLAN} is missing" if JOURNAL in found or RUNS in found else "there is none"
            raise RunError(
                f"{self.path}: no sweep to resume, {there}. Name a sweep's folder with --out, or leave out --resume"
            )
        foreign = [name for name in found if not any(fnmatchcase(name, pattern) for pattern in _WRITTEN)]
        if found and not is_sweep:
            raise RunError(
                f"{self.path} holds what is no sweep: {', '.join(found[:5])}. Choose another folder with --out"
            )
        if overwrite and foreign:
            raise RunError(f"{self.path} holds what no sweep writes: {', '.join(foreign[:5])}. Move these away first")
        if is_sweep and not resume and not overwrite:
            raise RunError(
                f"{self.path} holds a sweep already. Go on with it: --resume. Remove it and start over: --overwrite. "
                "Or keep it and choose another folder with --out"
            )

    def clear(self) -> None:
        """Remove the sweep that is here, and only what sweeps and runs write.

        The journal goes first, so that no half-removed run counts as finished, and the plan, which tells what there is
        to remove, last: after a kill in between the folder is still a sweep's.
        """
        if not (self.path / PLAN).is_file():
            return
        (self.path / JOURNAL).unlink(missing_ok=True)
        for name in self.planned_runs():
            folder = self.path / RUNS / name
            if folder.is_dir():
                run_folder.RUN_FOLDER.clear(folder)
                _remove_empty(folder, self.path)
        for entry in self.path.iterdir():
            if entry.name != PLAN and entry.is_file() and any(fnmatchcase(entry.name, p) for p in _WRITTEN):
                entry.unlink()
        (self.path / PLAN).unlink()

    def planned_runs(self) -> list[str]:
        """``ROW/seed-N`` for every run of plan.json."""
        plan = self.read_plan()
        return [f"{row['slug']}/seed-{seed}" for seed in plan["seeds"] for row in plan["variants"]]

    def read_plan(self) -> dict[str, Any]:
        """plan.json.

        Raises:
            RunError: it is damaged.
        """
        path = self.path / PLAN
        try:
            plan = json.loads(path.read_text(encoding="utf-8"))
            if plan["format"] != FORMAT:
                raise RunError(f"{path}: written by another version of this library (format {plan['format']})")
            return {**plan, "variants": list(plan["variants"]), "seeds": list(plan["seeds"])}
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is damaged ({error})") from None

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write plan.json, all or nothing."""
        replace_file(self.path / PLAN, (json.dumps({"format": FORMAT, **plan}, indent=1) + "\n").encode())

    def note(self, event: str, **told: Any) -> None:
        """Add a line to the journal and wait until it is on the disk.

        Raises:
            RunError: the disk is full or the folder is gone.
        """
        line = json.dumps({"time": round(time.time(), 3), "event": event, **told}) + "\n"
        path = self.path / JOURNAL
        try:
            with path.open("ab+") as file:
                _drop_cut_line(file)
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(
                f"{path} cannot be written: {error.strerror}. Finished runs are kept; --resume goes on"
            ) from None

    def events(self) -> list[dict[str, Any]]:
        """The journal's whole lines, in order."""
        path = self.path / JOURNAL
        if not path.is_file():
            return []
        found = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue  # cut by a kill
            if isinstance(event, dict) and "event" in event:
                found.append(event)
        return found

    def settled(self, runs: Iterable[str] | None = None) -> set[str]:
        """The runs, as ``ROW/seed-N``, that have come to a result which is still there: of ``runs``, or of all planned.

        The files are asked, not the journal: it may be lost, and so may they. That a run broke down is in the journal
        alone.
        """
        broken = {event.get("run") for event in self.events() if event["event"] == "broke down"}
        return {run for run in runs or self.planned_runs() if self._has_result(self.path / RUNS / run, run in broken)}

    def _has_result(self, folder: Path, broke_down: bool) -> bool:
        needed = (run_folder.CONFIG,) if broke_down else (run_folder.CONFIG, run_folder.EVALUATION)
        return all(_is_whole(folder / name) for name in needed)

    def drop_state(self, run: str) -> None:
        """Remove a settled run's checkpoints: it is not gone on with, and they are its largest files."""
        for path in (self.path / RUNS / run).glob(_STATE):
            path.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Whether a run's JSON file is there and can be read; an evaluation has to say the accuracy."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return path.name != run_folder.EVALUATION or isinstance(data["metrics"]["top1"], float)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def sweep_of(run: Path) -> Path:
    """The folder of the sweep that a run's folder belongs to."""
    return run.parents[2]


def _drop_cut_line(file: IO[bytes]) -> None:
    """Remove what a kill left of the last line, so that all lines but the last one are whole at any time."""
    file.seek(0)
    whole = file.read().rfind(b"\n") + 1
    file.truncate(whole)
    file.seek(whole)


def _remove_empty(folder: Path, stop: Path) -> None:
    while folder != stop and not any(entry for entry in folder.iterdir() if entry.name != LOCK):
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
        folder = folder.parent


def expect_same_plan(stored: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Refuse to resume a sweep whose rows mean something else now; new rows and new seeds are welcome.

    Raises:
        RunError: naming the first difference.
    """
    _expect_same_images(stored["data"], now["data"], folder)
    rows = {row["slug"]: row for row in now["variants"]}
    for before in stored["variants"]:
        row = rows.get(before["slug"])
        if row is None:
            raise RunError(
                f"{folder}: the sweep was begun with {before['name']!r}, which is no row now. "
                "A resumed sweep keeps its rows; leave the plan as it was, or choose another folder with --out"
            )
        for part in ("spec", "recipe"):
            old, new = _flat(before[part]), _flat(row[part])
            for path in (*old, *(path for path in new if path not in old)):
                if _told(old, path) != _told(new, path) and path not in run_folder.FREE_ON_RESUME:
                    raise RunError(
                        f"{folder}: {before['name']!r} was begun with {part}.{path} = {_told(old, path)}, now it is "
                        f"{_told(new, path)}. A resumed sweep keeps its rows; leave the plan as it was, or choose "
                        "another folder with --out"
                    )


def _told(flat: Mapping[str, Any], path: str) -> str:
    """A field's value; a part that is gone altogether has no fields."""
    return repr(flat[path]) if path in flat else "nothing"


def _expect_same_images(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    difference = ""
    if tuple(before["classes"]) != tuple(now["classes"]):
        difference = run_folder.class_difference(tuple(before["classes"]), tuple(now["classes"]))
    for part, name in (("train", "training"), ("val", "validation")):
        if not difference and before[part] != now[part]:
            difference = f"it was begun with {before[part]} {name} images, now there are {now[part]}"
    if difference:
        raise RunError(f"{folder}: {difference}. Resume with the images it was begun with, or choose another --out")


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A plain tree as ``{"stages[2].norm.kind": "layer"}``."""
    if isinstance(tree, Mapping):
        parts = [_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in tree.items()]
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        parts = [_flat(value, f"{prefix}[{i}]") for i, value in enumerate(tree)]
    else:
        return {prefix: tree}
    return {key: value for part in parts for key, value in part.items()}
