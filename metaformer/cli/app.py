"""``metaformer``: a command line in, an exit status out.

0 means done; 2 a mistake in the input, with a message that says how to fix it; 130 and 143 a stop by Ctrl-C or SIGTERM.
Anything else is a bug in this library and keeps its traceback. No torch here.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cyclopts import App, CycloptsError
from rich.console import Console
from rich.text import Text

from ..errors import InputError
from ..training.interrupt import RunInterrupted, SweepInterrupted
from ..version import __version__
from .ablate import ablate
from .bench import bench
from .data import data
from .evaluate import evaluate
from .export import export
from .flags import command_line, paragraphs, with_current_flags
from .models import models
from .predict import predict
from .report import report
from .train import train

INPUT_ERROR = 2
BROKEN_PIPE = 141
"""What a shell reports for a process that wrote to a closed pipe: 128 + SIGPIPE."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, a full quota and a file that is too large."""


app = App(
    name="metaformer",
    help="One MetaFormer skeleton with the token mixer as an argument: train, run and compare models.",
    version=__version__,
    version_flags=["--version"],
    help_format="plaintext",
    result_action="return_value",
)
for command in (train, evaluate, predict, export, report, models, ablate, bench):
    app.command(command, name="eval" if command is evaluate else None, help=paragraphs(command))
app.command(data)
app.register_install_completion_command()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command_line.set(shlex.join(["metaformer", *words]))
    with _warnings_as_messages():
        words, former = with_current_flags(words)
        if former:
            names = ", ".join(f"{old} is now {new}" for old, new in former.items())
            _message("warning", "bold yellow", f"{names}; old names are still accepted")
        return _exit_status(words)


def _exit_status(words: Sequence[str]) -> int:
    try:
        app(words, exit_on_error=False, print_error=True)
        sys.stdout.flush()
    except CycloptsError:
        return INPUT_ERROR
    except InputError as error:
        _message("error", "bold red", str(error))
        return INPUT_ERROR
    except RunInterrupted as stop:
        if int(os.environ.get("RANK", 0)) == 0:  # one message for all processes of a torchrun
            reason = str(stop).removeprefix("stopped ")
            _message("stopped", "bold yellow", f"{reason}\nmetaformer train --resume --out {stop.checkpoint.parent}")
        return stop.exit_status
    except SweepInterrupted as stop:
        _message("stopped", "bold yellow", str(stop))
        return stop.exit_status
    except KeyboardInterrupt:
        _message("stopped", "bold yellow", "by Ctrl-C")
        return 130
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. Python would fail again when it flushes the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        _message("error", "bold red", f"cannot write the output: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INPUT_ERROR
    return 0


def _message(word: str, style: str, message: str) -> None:
    """Print to standard error, wrapped by the terminal only, so that paths can be copied."""
    text = Text.assemble((f"{word}: ", style), message)
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)


@contextmanager
def _warnings_as_messages() -> Iterator[None]:
    """Print this library's warnings and log records without source lines."""
    logger = logging.getLogger("metaformer")
    handler = _DimLines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            show = warnings.showwarning

            def show_warning(
                message: Warning | str, category: type[Warning], filename: str, line: int, *rest: Any
            ) -> None:
                if "metaformer" in filename or category.__module__.startswith("metaformer"):
                    _message("warning", "bold yellow", str(message))
                else:
                    show(message, category, filename, line, *rest)

            warnings.showwarning = show_warning  # type: ignore[assignment]
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _DimLines(logging.Handler):
    """Prints log records as dim lines."""

    def emit(self, record: logging.LogRecord) -> None:
        Console(stderr=True, highlight=False).print(Text(record.getMessage(), style="dim"), soft_wrap=True)
