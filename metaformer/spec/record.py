"""The base of all specs: records whose mistakes are a ``SpecError``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import InputError, SpecError
from ..records import Record


@dataclass(frozen=True, kw_only=True)
class SpecRecord(Record):
    """A part of a model as data."""

    error: ClassVar[type[InputError]] = SpecError
