"""A checkpoint file to named tensors, without ever running code from it.

In: a path to .safetensors, .pth, .pth.tar, .pt, .bin or .npz. Out: its tensors by the names they have there. The kind
of file follows from its content, not from its name. Pickles are read by PyTorch's restricted reader, which knows
tensors and plain containers only; a file that names anything else is refused.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import WeightsError
from .jax_arrays import holds_arrays, read_arrays
from .safetensors_io import read_tensors

CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where training scripts put the weights beside other things. Averaged weights come first, as in timm: they are the
ones that were evaluated and published."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers (distributed training, compilation, a trainer) put in front of every name."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, on the CPU, unwrapped.

    Raises:
        WeightsError: missing, empty, truncated, not a checkpoint, or with code in it.
    """
    first = _first_bytes(path)
    if first[8:9] == b"{" and int.from_bytes(first[:8], "little") < 2**32:  # safetensors: a length, then JSON
        tensors, header = read_tensors(path)
        if header.get("format", "").startswith("metaformer-checkpoint"):
            raise WeightsError(
                f"{path}: this is the state of a training run, from which it is resumed; "
                "its weights are in best.safetensors and last.safetensors beside it"
            )
        return unwrap(tensors, str(path))
    zipped = first.startswith(b"PK")
    if not zipped and not first.startswith(b"\x80"):  # the first byte of every pickle since protocol 2
        raise WeightsError(_not_a_checkpoint(path, f"it begins with {first[:20]!r}"))
    if zipped and zipfile.is_zipfile(path) and holds_arrays(path):
        return unwrap(_read_numpy(path), str(path))
    return unwrap(_read_pickle(path, zipped), str(path))


def unwrap(content: object, label: str) -> dict[str, Tensor]:
    """The state dict inside what a training script saved, without the prefixes of wrappers.

    Raises:
        WeightsError: there are no tensors in it.
    """
    if isinstance(content, Mapping):
        inner = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inner is not None:
            return unwrap(inner, label)
        state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if state:
            return _without_prefixes(state)
    keys = list(content)[:5] if isinstance(content, Mapping) else type(content).__name__
    raise WeightsError(
        f"{label}: no weights in it; expected named tensors, or one of {', '.join(CONTAINERS)}, got {keys}"
    )


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return _without_prefixes({name.removeprefix(prefix): value for name, value in state.items()})
    return state


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(256)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None


def _read_numpy(path: Path) -> dict[str, Tensor]:
    try:
        return read_arrays(path)
    except (ValueError, TypeError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path}: refused. Expected arrays of numbers as numpy.savez writes them ({_first_line(error)})"
        ) from None


def _read_pickle(path: Path, zipped: bool) -> object:
    try:
        # timm's training script stores its arguments as a Namespace: a bare bag of attributes that runs no code
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickles that are then refused with a reason
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        code = re.search(r"(?:GLOBAL|class|global:?) ((?!GLOBAL)[A-Za-z_][\w.]*)", str(error))
        if code is not None:
            raise WeightsError(
                f"{path}: refused. It is a pickle that names {code[1]}, which is code and not a tensor: reading it "
                "would run that code on this machine. Get the weights as .safetensors. If an object was saved in place "
                "of its weights, whoever trusts the file can save model.state_dict() from it"
            ) from None
        if not zipped:
            raise WeightsError(
                f"{path}: refused. It is a plain pickle, not what torch.save writes for tensors, or a damaged one; "
                "reading it in full could run code on this machine. Get the weights as .safetensors"
            ) from None
        raise WeightsError(_not_a_checkpoint(path, _first_line(error))) from None
    except Exception as error:  # PyTorch's reader has no error type of its own for broken files
        raise WeightsError(_not_a_checkpoint(path, _first_line(error))) from None


def _not_a_checkpoint(path: Path, detail: str) -> str:
    return (
        f"{path}: not a checkpoint, or a truncated or damaged one ({path.stat().st_size} bytes; {detail}). Download or "
        "copy it again; a Git LFS pointer is replaced by its file with `git lfs pull`"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
