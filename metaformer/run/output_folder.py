"""A folder that one command writes: what it may contain before, and what may be removed from it.

Runs, sweeps and exports each write to a folder of their own. Files that metaformer did not create are never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import RunError


@dataclass(frozen=True, kw_only=True)
class OutputFolder:
    """One kind of output folder."""

    kind: str
    """``run``, ``sweep`` or ``export``."""
    mark: str
    """The file that identifies such a folder."""
    written: tuple[str, ...]
    """Patterns for the names of all files that are written."""
    resumable: bool = True
    """Whether ``--resume`` exists for this kind."""

    def check(self, folder: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        """Check that the output can be written to a folder; nothing in it is changed.

        Raises:
            RunError: it is a file; it has an output already and neither ``resume`` nor ``overwrite`` is set; there is
                no output to resume; it contains files that metaformer did not create.
        """
        if resume and overwrite:
            raise RunError(
                f"--resume continues the {self.kind} in the folder, --overwrite removes it; pass one of them"
            )
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder} is a file; expected a folder for the {self.kind}. Choose another with --out")
        # without hidden files, which operating systems create (.DS_Store)
        names = sorted(e.name for e in folder.iterdir() if not e.name.startswith(".")) if folder.is_dir() else []
        if resume:
            self._expect_output(folder, names)
            return
        foreign = [name for name in names if not self.is_written(name)]
        # beside an existing output foreign files do no harm, unless that output is to be removed
        if foreign and (overwrite or not (folder / self.mark).is_file()):
            raise RunError(
                f"{folder} contains files that metaformer did not create: {listed(foreign)}. Nothing was changed. "
                "Choose another folder with --out, or move these files away"
            )
        if names and not overwrite:
            resume_it = "Resume it with --resume, replace" if self.resumable else "Replace"
            raise RunError(
                f"{folder} already contains {self._article}{self.kind}. {resume_it} it with --overwrite, or choose "
                "another folder with --out"
            )

    def _expect_output(self, folder: Path, names: list[str]) -> None:
        if (folder / self.mark).is_file():
            return
        problem = f"it contains {listed(names)}" if names else "the folder is empty or missing"
        if names and all(self.is_written(name) for name in names):
            problem = f"its {self.mark} is missing"
        raise RunError(
            f"{folder}: no {self.kind} to resume, {problem}. Pass the {self.kind}'s folder with --out, or leave out "
            "--resume"
        )

    @property
    def _article(self) -> str:
        return "an " if self.kind[0] in "aeiou" else "a "

    def is_written(self, name: str) -> bool:
        """Whether a file of this name is part of the output, complete or partly written."""
        # files.replace_file writes to a hidden .NAME.partial first, and a kill may leave it
        name = name.removeprefix(".").removesuffix(".partial") if name.endswith(".partial") else name
        return any(fnmatchcase(name, pattern) for pattern in self.written)

    def files(self, folder: Path) -> Iterator[Path]:
        """The files of the output."""
        return (entry for entry in folder.iterdir() if entry.is_file() and self.is_written(entry.name))

    def clear(self, folder: Path) -> None:
        """Remove the output's files, and only those; creates the folder where it is missing."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in list(self.files(folder)):
                path.unlink()
        except OSError as error:
            raise RunError(f"{folder} cannot be written: {error.strerror}. Choose another folder with --out") from None


def listed(names: list[str]) -> str:
    """Up to five names, and how many more there are."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
