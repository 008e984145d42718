"""What a bench is asked to measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..records import Record
from .rounds import Pace

SECTIONS = ("inference", "training", "growth", "start-up")

Tell = Callable[[str], None]
"""Hears what is being done, one call of it for each turn and each thing built."""


@dataclass(frozen=True, kw_only=True)
class Setting(Record):
    """The same for all sections."""

    models: tuple[str, ...] = ("poolformer_s12",)
    """Rows of the zoo. Each is measured at the first batch size, the first of them at every batch size."""
    batch_sizes: tuple[int, ...] = (8,)
    size: int = 224
    """Side of the images in pixels."""
    rounds: int = 15
    threads: int = 2
    device: str = "cpu"
    peers: bool = True
    """Whether other libraries take part."""
    compilers: bool = True
    """Whether what Inductor compiles takes part, in the first comparison and in training."""
    quick: bool = False
    """Two rounds, short turns and nothing that is compiled: does it run? Its figures mean little."""

    def check(self) -> None:
        """Numbers in range."""
        self.expect(bool(self.models), "model", "at least one", self.models)
        smallest = min(self.batch_sizes, default=0)
        self.expect(smallest > 0, "batch-size", "at least 1", smallest)
        self.expect(self.size >= 32, "size", "at least 32 pixels", self.size)
        self.expect(self.rounds > 0, "rounds", "at least 1", self.rounds)
        self.expect(self.threads > 0, "threads", "at least 1", self.threads)

    @property
    def compiles(self) -> bool:
        """Whether anything is compiled by Inductor."""
        return self.compilers and not self.quick

    @property
    def pace(self) -> Pace:
        """How turns are taken."""
        return Pace(rounds=2, warm_up=1, least=0.0) if self.quick else Pace(rounds=self.rounds)

    @property
    def cells(self) -> list[tuple[str, int]]:
        """(model, batch) of each comparison."""
        first = self.batch_sizes[0]
        return [*((name, first) for name in self.models), *((self.models[0], more) for more in self.batch_sizes[1:])]
