"""``metaformer`` in a process of its own that kills itself once the sixth state is saved."""

import os
import signal
import sys
from pathlib import Path

from metaformer.cli.app import main
from metaformer.training import checkpoint

saves = 0
whole = checkpoint.Checkpoints.save


def save(self: checkpoint.Checkpoints, tree: object) -> Path:
    global saves  # noqa: PLW0603
    path = whole(self, tree)
    saves += 1
    if saves == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return path


checkpoint.Checkpoints.save = save  # type: ignore[method-assign]
sys.exit(main(sys.argv[1:]))
