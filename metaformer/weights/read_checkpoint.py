"""A checkpoint file to named tensors, without ever running code from it.

In: a path to .safetensors, .pth, .pth.tar, .pt, .bin or .npz. Out: its tensors by the names they have there. What kind
of file it is, is told from its content, not from its name. Pickles are read by PyTorch's restricted reader, which
knows tensors and plain containers only; a file that names anything else is refused.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError
from .jax_arrays import holds_arrays, read_arrays
from .safetensors_io import read_tensors

CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where training scripts put the weights beside other things, the preferred first: averaged weights are the ones
that were evaluated and published, as timm prefers them too."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers (distributed training, compilation, a trainer) put before every name."""

_NOT_WEIGHTS = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a WebP image or a sound"),
    (b"BM", "a BMP image"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer and not the file itself; fetch it with `git lfs pull`"),
    (b"<", "a web page and not the file itself; the download went wrong"),
    (b"{", "a JSON text"),
)
_PICKLE = b"\x80"
_WHOLE_MODEL = (
    "An object was saved instead of its weights; whoever trusts the file can save model.state_dict() from it."
)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, on the CPU, unwrapped.

    Raises:
        WeightsError: not there, empty, cut, not a checkpoint, or asking to run code.
    """
    first = _first_bytes(path)
    tensor_file = first[8:9] == b"{" and int.from_bytes(first[:8], "little") < 2**32
    for magic, what in () if tensor_file else _NOT_WEIGHTS:
        if first.lstrip().startswith(magic):
            raise WeightsError(f"{path}: expected a checkpoint, got {what}")
    if tensor_file or path.suffix == ".safetensors":
        tensors, header = read_tensors(path)
        if header.get("format", "").startswith("metaformer-checkpoint"):
            raise WeightsError(
                f"{path}: this is the state of a training run, from which it is resumed; "
                "its weights are in best.safetensors and last.safetensors beside it"
            )
        return unwrap(tensors, str(path))
    zipped = first.startswith(b"PK")
    if zipped and zipfile.is_zipfile(path) and holds_arrays(path):
        return unwrap(_read_arrays(path), str(path))
    return unwrap(_read_pickle(path, zipped), str(path))


def unwrap(content: object, label: str) -> dict[str, Tensor]:
    """The state dict inside what a training script saved: containers opened, wrappers' prefixes taken off.

    Raises:
        WeightsError: no tensors in it.
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
            first = file.read(256)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    if not first:
        raise WeightsError(f"{path}: the file is empty; the download or the copy did not finish. Get it again")
    return first


def _read_arrays(path: Path) -> dict[str, Tensor]:
    try:
        return read_arrays(path)
    except (ValueError, TypeError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path}: refused. Expected arrays of numbers as numpy.savez writes them ({_first_line(error)})"
        ) from None


def _read_pickle(path: Path, zipped: bool) -> Any:
    try:
        # timm's training script stores its arguments as a Namespace: a bare bag of attributes that runs nothing
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickles that are then refused with a reason
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, str(error))) from None
    except Exception as error:  # PyTorch's reader has no error type of its own for broken files
        raise WeightsError(
            f"{path}: cut short or not a checkpoint ({path.stat().st_size} bytes; {_first_line(error)}). "
            "Download or copy it again, or name another file"
        ) from None


def _refusal(path: Path, problem: str) -> str:
    named = re.search(r"(?:GLOBAL|class|global:?) ((?!GLOBAL)[A-Za-z_][\w.]*)", problem)
    if named is not None:
        return (
            f"{path}: refused. It is a pickle that names {named[1]}, which is code and not a tensor: reading it would "
            f"run that code on this machine. Get the weights as .safetensors. {_WHOLE_MODEL}"
        )
    if _first_bytes(path).startswith(_PICKLE):
        return (
            f"{path}: refused. It is a plain pickle, not what torch.save writes for tensors, or a damaged one; reading "
            "it in full could run code on this machine. Get the weights as .safetensors"
        )
    return (
        f"{path}: not a checkpoint, or a damaged one: it does not read as tensors and plain containers "
        f"({path.stat().st_size} bytes)"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
