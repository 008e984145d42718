"""The messages of common mistakes, kept in ``messages.txt`` so that their wording is reviewed.

Each command runs in this process, in a folder with the files below. After a deliberate change, write the file again
and read the difference:

    python tests/test_messages.py && git diff tests/messages.txt
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import tempfile
import warnings
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import metaformer
from metaformer.ablation import fork_server
from metaformer.cli import main
from metaformer.errors import InputError
from metaformer.recipe import Recipe

MESSAGES = Path(__file__).with_name("messages.txt")

FILES = {
    "typo.yaml": "optimizer: {batch_sise: 3}",
    "type.yaml": "optimizer: {epochs: three}",
    "string.yaml": "optimizer: adamw",
    "mixers.yaml": "model: {mixers: pooling}",
    "list.yaml": "- a\n- b",
    "syntax.yaml": "optimizer: {epochs: [1}",
    "empty.py": '"""No recipe."""',
    "number.py": "def recipe(model='poolformer_s12'):\n    return 3",
    "required.py": "from metaformer.recipe import Recipe\ndef recipe(model):\n    return Recipe()",
    "name.py": "from metaformer.recipe import Recipe\ndef recipe(model='x'):\n    return Recipee()",
    "text.pth": "no weights at all",
    "data/text/light/0.jpg": "no image",
    "notes/todo.txt": "mine",
}
FAST = "--img-size 32 --augmentation.policy none --batch-size 6 --epochs 1 --machine.threads 1"
"""What ``...`` stands for."""

COMMANDS = """
# command line
trian
train --modl x
train --optimizer.epoch 3
train --epochs many
train --epochs 0
train --precision fp8
train --batch-size 6 --accumulation 4
train --task detecton
train --model poolformer_s13
train --mixers poling
train --mixers pooling identity
train --mixers pooling(kernel=oops)
train --mixers pooling(size=3)
train --optimizer.name adamm
models polformer_s12
models --family Caformr
models --plot figure.svg
models --compare --plot figure.pdf
models --compare --plot ..
models caformer_* --compare
report
report nowhere
report .
ablate demoo
ablate demo --only poling

# recipes
train --recipe imagenet/polformer
train --recipe empty.py
train --recipe number.py
train --recipe required.py
train --recipe name.py
train --recipe finetune --model poolformer_s13
train --config no.yaml
train --config typo.yaml
train --config type.yaml
train --config string.yaml
train --config mixers.yaml
train --config list.yaml
train --config syntax.yaml

# data
train --data no/such/folder
train --data digitss
train --data CIFAR10
train --data data/empty
train --data data/gap
train --data data/damaged
train --data data/text
train --data data/classes --task detection
train --data data/classes --task segmentation
data check data/damaged --json

# run folders
train --resume --overwrite
train --resume --out nowhere
train --out notes
train --out run --data data/classes ...
train --out run --resume --lr 0.5
report run notes

# weights and inference
eval
eval no/such/run --data digits
eval run --data digits
eval run --model caformer_s18
eval truncated.safetensors --data data/classes --model poolformer_s12
eval text.pth --data data/classes --model poolformer_s12
train --weights run --model convformer_s18 --data data/classes ...
predict
predict nowhere.jpg
predict data/clases
predict data/classes
predict --weights run data/text
predict --weights run --top 0 data/classes
predict --weights run --score 2 data/classes
export --out exported
export --weights run --out run
export --weights run --format onx --out exported

# Python
>>> metaformer.create_model("poolformer_s13")
>>> metaformer.create_model("poolformer_s12", mixers="poling")
>>> metaformer.create_model("poolformer_s12", img_size=32, mixers=["pooling", "attention"])
>>> Recipe(seed="one")
>>> Recipe.from_dict({"model": {"nam": "poolformer_s12"}})
>>> Recipe().updated({"machine": {"device": "tpu"}})
"""


def prepare(folder: Path) -> None:
    """The files, some images, and a run."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    rng = np.random.default_rng(0)
    for dataset in ("classes", "gap", "damaged"):
        for name, color in {"dark": 60, "light": 190}.items():
            (folder / "data" / dataset / name).mkdir(parents=True)
            for i in range(3):
                pixels = np.clip(color + rng.integers(-50, 50, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "data" / dataset / name / f"{i}.png")
    (folder / "data" / "empty").mkdir()
    (folder / "data" / "gap" / "none").mkdir()
    damaged = folder / "data" / "damaged" / "dark" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    command = ["train", "--data", "data/classes", "--out", "run", *FAST.split()]
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(command) == 0
    (folder / "truncated.safetensors").write_bytes((folder / "run" / "best.safetensors").read_bytes()[:1000])


def transcript() -> Iterator[str]:
    """Every line of the table with its message, in the layout of ``messages.txt``."""
    before = _listing()
    for line in COMMANDS.strip().splitlines():
        if not line or line.startswith("#"):
            yield line
            continue
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            if line.startswith(">>> "):
                with pytest.raises(InputError) as caught:
                    eval(line[4:], {"metaformer": metaformer, "Recipe": Recipe})
                yield f"{line}\n{type(caught.value).__name__}: {caught.value}"
                continue
            status = main(shlex.split(line.replace("(", "'(").replace(")", ")'").replace("...", FAST)))
        message = _message(errors.getvalue())
        assert status == 2, f"{line}: exit status {status}, {message}"
        assert "Traceback" not in output.getvalue() + message, line
        assert _listing() == before, f"{line}: a mistake must leave nothing behind"
        yield f"$ metaformer {line}\n{message}"


def _listing() -> list[Path]:
    return sorted(path for path in Path().rglob("*") if "__pycache__" not in path.parts)


def _message(errors: str) -> str:
    """The message on standard error, without what was logged before it and without the argument parser's box."""
    lines = [line.strip("│╭╮╰╯─ ") for line in errors.splitlines()]
    lines = [line for line in lines if line]
    if lines[0] == "Error":  # a box, whose lines are as long as the terminal is wide
        return f"error: {' '.join(lines[1:])}"
    text = "\n".join(lines)
    return text[text.index("error: ") :]


def _train(*_: object, **__: object) -> None:
    raise AssertionError("expected a message, but a training started")


def run_all() -> str:
    """The whole transcript, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "backward", _train)
            patch.setattr(fork_server, "start", lambda task: None)  # it would outlive the folder
            return "\n".join(transcript()) + "\n"


def test_messages_are_those_that_were_reviewed() -> None:
    reviewed = MESSAGES.read_text(encoding="utf-8").splitlines()
    changed = "\n".join(unified_diff(reviewed, run_all().splitlines(), "reviewed", "now", n=1, lineterm=""))
    assert not changed, f"see the top of this file\n{changed}"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    MESSAGES.write_text(run_all(), encoding="utf-8")
