"""Requests to stop: SIGTERM, SIGUSR1 and Ctrl-C are noted here and obeyed by the trainer between two updates."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))


class RunInterrupted(Exception):
    """A run was asked to stop and has saved its state; ``--resume`` goes on exactly where it stopped."""

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        self.signal = signal_number
        self.checkpoint = checkpoint
        name = "Ctrl-C" if signal_number == signal.SIGINT else signal.Signals(signal_number).name
        super().__init__(f"stopped by {name}; the state is in {checkpoint}, go on with --resume")

    @property
    def exit_status(self) -> int:
        """What a shell expects of a process that ends on this signal: 143 for SIGTERM, 130 for Ctrl-C."""
        return 128 + self.signal


class SweepInterrupted(Exception):
    """A sweep was asked to stop by a signal; the runs at work have saved their states."""

    def __init__(self, signal_number: int) -> None:
        self.exit_status = 128 + signal_number
        super().__init__("what the runs have saved is kept; --resume goes on")


class Interrupts:
    """While the context is open, the first signal is noted in ``received`` instead of ending the process.

    A second Ctrl-C ends at once. Outside the main thread signals cannot be caught and nothing is noted.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received:
            raise KeyboardInterrupt
        self.received = number
