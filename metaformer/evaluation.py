"""The results of an evaluation, as ``evaluation.json`` stores them. The same record writes and reads the file.

Each task adds fields in a subclass (``tasks/NAME/evaluation.py``). No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .errors import InputError, RunError
from .records import Record


@dataclass(frozen=True, kw_only=True)
class Evaluation(Record):
    """Metrics of a model on a dataset."""

    error: ClassVar[type[InputError]] = RunError
    renamed: ClassVar[Mapping[str, str]] = {"figures": "metrics", "pictures": "images"}

    task: str
    """The task's name."""
    metrics: Mapping[str, float]
    """Values by metric name, such as ``{"loss": 0.4, "top1": 0.91}``."""
    classes: tuple[str, ...]
    """A name for each label."""
    images: int
    """Number of evaluated samples."""
    weights: str = ""
    """The file with the evaluated weights, where there is one."""

    def class_name(self, label: int) -> str:
        """The name of a label, or its number where it has none."""
        return self.classes[label] if 0 <= label < len(self.classes) else f"class {label}"
