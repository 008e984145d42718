"""Requests to stop: SIGTERM, SIGUSR1 and Ctrl-C are recorded here; the trainer stops between two updates."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

# Slurm sends SIGUSR1 ahead of a time limit where a job asks for it (--signal); Windows does not have it
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))


class RunInterrupted(Exception):
    """A run was stopped by a signal and has saved its state; ``--resume`` continues exactly there."""

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        self.signal = signal_number
        self.checkpoint = checkpoint
        name = "Ctrl-C" if signal_number == signal.SIGINT else signal.Signals(signal_number).name
        super().__init__(f"stopped by {name}; the state is saved in {checkpoint}; continue with --resume")

    @property
    def exit_status(self) -> int:
        """128 + the signal, as shells report it: 143 for SIGTERM, 130 for Ctrl-C."""
        return 128 + self.signal


class SweepInterrupted(Exception):
    """A sweep was stopped by a signal; the active runs have saved their states."""

    def __init__(self, signal_number: int) -> None:
        self.exit_status = 128 + signal_number
        super().__init__("all runs have saved their states; continue with --resume")


class Interrupts:
    """While the context is open, a signal is recorded in ``received`` instead of ending the process.

    A second Ctrl-C raises ``KeyboardInterrupt`` at once.
    """

    def __init__(self) -> None:
        self.received = 0
        self._handlers_before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # Python refuses handlers in any other
            self._handlers_before = {number: signal.signal(number, self._record) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received:
            raise KeyboardInterrupt
        self.received = number
