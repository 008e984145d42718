"""A published model as data: its spec, its exact size, its accuracy and where its weights are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..spec.model import AnySpec
from ..types import Preprocessing


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """Where a checkpoint is published: a file in a hub repository, or a URL."""

    repo: str | None = None
    """Hub repository, such as ``timm/poolformer_s12.sail_in1k``."""
    file: str = "model.safetensors"
    """The file in it."""
    url: str | None = None
    """URL of the file, where no hub has it."""

    def __str__(self) -> str:
        return self.url or f"{self.repo}/{self.file}"


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """A model's numbers in a printed table, misprints included."""

    parameters: float
    """In units of 10⁶, as printed."""
    macs: float
    """Multiply-adds in units of 10⁹, as printed."""
    top1: float
    """ImageNet-1K top-1 in percent, as printed."""
    source: str
    """The table, such as ``2111.11418, table 2``."""
    note: str = ""
    """Why a printed number differs from the count here, where that is known."""


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """One published model."""

    name: str
    """Its name in ``create_model``."""
    family: str
    """Heading of its part of the table of models."""
    spec: AnySpec
    """The model as data."""
    parameters: int
    """Exact count, frozen ones included."""
    macs: float
    """Published multiply-adds in units of 10⁹ for one image of ``spec.img_size``, as fvcore counts them: with five for
    every element of a norm that is a library call. ``count_macs`` counts products only, and so do these numbers of
    timm's CNNs (``zoo/cnn.py``)."""
    top1: float | None
    """Published ImageNet-1K top-1 in percent."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """How images are prepared at evaluation."""
    weights: tuple[WeightSource, ...] = ()
    """Where its weights are published, the preferred source first."""
    paper: str = "2111.11418"
    """arXiv number."""
    nearest: str = ""
    """Where its own weights were never published: the nearest that were, as a source for ``load_weights``."""
    note: str = ""
    """Differences from the paper: wrong tags, misprints, renamed sizes."""
    published: TableEntry | None = None
    """Its numbers in the first paper's ImageNet table, or in its own paper where that table lacks it."""

    def with_changes(self, **changes: object) -> PublishedModel:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]
