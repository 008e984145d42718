"""The options of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..records import Record
from .rounds import Pace

SECTIONS = ("inference", "training", "scaling", "start-up")

OnStep = Callable[[str], None]
"""Called with a description before each step: a model is built, a contender has its turn."""


@dataclass(frozen=True, kw_only=True)
class Setting(Record):
    """The same for all sections."""

    models: tuple[str, ...] = ("poolformer_s12",)
    """Model names. Each is measured at the first batch size, the first of them at every batch size."""
    batch_sizes: tuple[int, ...] = (8,)
    size: int = 224
    """Side of the images in pixels."""
    rounds: int = 15
    threads: int = 2
    device: str = "cpu"
    peers: bool = True
    """Whether other libraries take part."""
    compilers: bool = True
    """Whether contenders compiled by Inductor take part, in the first comparison and in training."""
    quick: bool = False
    """Two rounds of short turns without compilers, to see whether everything runs. The times mean little."""

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
        """Whether Inductor compiles anything."""
        return self.compilers and not self.quick

    @property
    def pace(self) -> Pace:
        """Rounds and turns."""
        return Pace(rounds=2, warm_up=1, min_seconds=0.0) if self.quick else Pace(rounds=self.rounds)

    @property
    def cells(self) -> list[tuple[str, int]]:
        """(model, batch) of each comparison."""
        first = self.batch_sizes[0]
        return [*((name, first) for name in self.models), *((self.models[0], more) for more in self.batch_sizes[1:])]
