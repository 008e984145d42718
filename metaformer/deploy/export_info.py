"""``export.json``: what an exported model is, and how it compares with the original. Written and read by one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Self, get_args

from ..errors import InputError
from ..files import read_json, write_json
from ..records import Record
from ..weights.description import Description
from .engines.graph import Sizes
from .precision import Precision

ABOUT = "export.json"
Format = Literal["onnx", "openvino", "torch", "aot", "safetensors"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True, kw_only=True)
class Comparison(Record):
    """The exported model, read from the disk, against the original."""

    renamed: ClassVar[Mapping[str, str]] = {"pictures": "images"}

    difference: float = 0.0
    """The largest difference of the outputs, relative to the original's largest value."""
    bound: float = 0.0
    """The largest difference that the precision allows."""
    images: int = 0
    """The number of images that were compared."""
    before: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the original on the validation part; empty without labeled images."""
    after: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the exported model."""


@dataclass(frozen=True, kw_only=True)
class ExportInfo(Record):
    """An exported model."""

    format: Format
    precision: Precision
    """Of the numbers in the files; another one than requested if the engine lacks that."""
    engine: str
    """The engine that runs the format."""
    model: Description
    size: tuple[int, int] | None
    """The only height and width that the files take; None if they take any."""
    multiple: int
    """Free sides must be multiples of it."""
    reason: str
    """Why the size is fixed."""
    folded: tuple[str, ...]
    """What was folded."""
    versions: Mapping[str, str]
    """Of the libraries that took part, and the kind of machine."""
    comparison: Comparison = field(default_factory=Comparison)
    notes: tuple[str, ...] = ()
    """Fallbacks, one sentence each."""

    @property
    def sizes(self) -> Sizes:
        """Image sizes that the files take."""
        return Sizes(self.size, self.multiple, self.reason)

    def write(self, folder: Path) -> Path:
        """Write export.json, all or nothing."""
        return write_json(folder / ABOUT, self.to_dict())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The export.json of a folder.

        Raises:
            InputError: it is missing, damaged, or not an export's; the message names it.
        """
        path = folder / ABOUT
        if not path.is_file():
            raise InputError(f"{folder}: no export here; expected a folder that `metaformer export` wrote")
        try:
            return cls.from_dict(read_json(path, InputError))
        except InputError as error:
            raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
