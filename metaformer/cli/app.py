"""``metaformer``: words on a command line in, an exit status out.

0 is done, 2 is a person's mistake with a message that says how to mend it, 130 and 143 are a stop by Ctrl-C and
SIGTERM. Anything else is a fault of this library and keeps its traceback. No torch here.
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
from .flags import command_line
from .models import models
from .predict import predict
from .report import report
from .train import train

MISTAKE = 2
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when a disk, a quota or a file takes no more."""
BROKEN_PIPE = 141  # what a shell reports of a process that wrote to a closed pipe

app = App(
    name="metaformer",
    help="One MetaFormer skeleton with the token mixer as an argument: train it, ask it, compare it.",
    version=__version__,
    version_flags=["--version"],
    help_format="plaintext",
    result_action="return_value",
)
app.command(train)
app.command(ablate)
app.command(bench)
app.command(evaluate, name="eval")
app.command(predict)
app.command(models)
app.command(report)
app.command(export)
app.command(data)
app.register_install_completion_command()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives back the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command_line.set(shlex.join(["metaformer", *words]))
    with _told_on_stderr():
        return _status(words)


def _status(words: list[str]) -> int:
    try:
        app(words, exit_on_error=False, print_error=True)
        sys.stdout.flush()
    except CycloptsError:
        return MISTAKE
    except InputError as error:
        _say("error", "bold red", str(error))
        return MISTAKE
    except RunInterrupted as stop:
        if int(os.environ.get("RANK", 0)) == 0:
            told = str(stop).removeprefix("stopped ")
            _say("stopped", "bold yellow", f"{told}\nmetaformer train --resume --out {stop.checkpoint.parent}")
        return stop.exit_status
    except SweepInterrupted as stop:
        _say("stopped", "bold yellow", str(stop))
        return stop.exit_status
    except KeyboardInterrupt:
        _say("stopped", "bold yellow", "by Ctrl-C")
        return 130
    except BrokenPipeError:
        # the reader has left, as `head` does; whatever is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in FULL:
            raise
        _say("error", "bold red", f"what was to be printed cannot be written: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return MISTAKE
    return 0


def _say(word: str, style: str, message: str) -> None:
    """One message on standard error, wrapped by nothing but the terminal, so that paths can be copied."""
    text = Text.assemble((f"{word}: ", style), message)
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)


@contextmanager
def _told_on_stderr() -> Iterator[None]:
    """The library's warnings and what it logs as worth knowing, as messages instead of source lines."""
    logger = logging.getLogger("metaformer")
    handler = _Notes()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            show = warnings.showwarning

            def told(message: Warning | str, category: type[Warning], filename: str, line: int, *rest: Any) -> None:
                if "metaformer" in filename or category.__module__.startswith("metaformer"):
                    _say("warning", "bold yellow", str(message))
                else:
                    show(message, category, filename, line, *rest)

            warnings.showwarning = told  # type: ignore[assignment]
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Notes(logging.Handler):
    """Log records as dim lines."""

    def emit(self, record: logging.LogRecord) -> None:
        Console(stderr=True, highlight=False).print(Text(record.getMessage(), style="dim"), soft_wrap=True)
