"""What a published system is, as a row of data: its spec, its exact size, its accuracy and where its weights lie."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..spec.model import AnySpec
from ..types import Preprocessing


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """Where a checkpoint is published: a file in a hub repository, or an address."""

    repo: str | None = None
    """Hub repository such as ``timm/poolformer_s12.sail_in1k``."""
    file: str = "model.safetensors"
    """The file in it."""
    url: str | None = None
    """Address of the file where no hub has it."""

    def __str__(self) -> str:
        return self.url or f"{self.repo}/{self.file}"


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a table in print says of a model, misprints included."""

    parameters: float
    """In units of 10⁶, as printed."""
    macs: float
    """Multiply-adds in units of 10⁹, as printed."""
    top1: float
    """ImageNet-1K top-1 in percent, as printed."""
    source: str
    """The table, such as ``2111.11418, table 2``."""
    note: str = ""
    """Why a printed number is not what is counted here, where that is known."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published model."""

    name: str
    """What ``create_model`` calls it."""
    family: str
    """Heading of the zoo table."""
    spec: AnySpec
    """Everything that decides its shape and arithmetic."""
    parameters: int
    """Exact count, frozen ones included."""
    macs: float
    """Published multiply-adds in units of 10⁹ for one image of ``spec.img_size``, counted by fvcore: it adds five
    per element of every norm that is a library call; ``metaformer.complexity`` counts products only. The rows of
    timm's CNNs give products only (``zoo/cnn.py``)."""
    top1: float | None
    """Published ImageNet-1K top-1 in percent."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """How images are prepared at evaluation."""
    weights: tuple[WeightSource, ...] = ()
    """Where its weights are published, the preferred place first."""
    paper: str = "2111.11418"
    """arXiv number."""
    nearest: str = ""
    """For a row whose own weights were never published: the nearest that were, as ``load_weights`` takes them."""
    note: str = ""
    """What a person should know who compares with the paper: wrong tags, misprints, renamed sizes."""
    published: Published | None = None
    """Its line in the first paper's ImageNet comparison (or, for models that it lacks, in the model's own paper)."""

    def with_changes(self, **changes: object) -> Row:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]
