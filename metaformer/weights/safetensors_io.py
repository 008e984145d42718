"""Tensors to one safetensors file and back; a file is either complete or not there.

In: named tensors and a header of strings. Out: the file, written beside its final name, flushed to the disk and only
then renamed. Reading never runs code from a file: safetensors holds numbers and strings only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import WeightsError
from ..files import replace_file


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    previous: Path | None = None,
) -> None:
    """Write ``tensors`` with the header ``metadata`` to the safetensors file ``path``, all or nothing.

    With ``previous``, a file that is already at ``path`` is kept under that name. Raises ``RunError`` when the disk
    is full or the folder cannot be written; the earlier file is then still there.
    """
    replace_file(path, save(_packed(tensors), dict(metadata or {})), previous)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, on the CPU, and its header; ``WeightsError`` when it is truncated or not one.

    They are copies: memory mapped from the file would change with it, and its alignment can change sums by a bit.
    """
    with _open(path) as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 - not a dict


def read_metadata(path: Path) -> dict[str, str]:
    """Only the header of a safetensors file; ``WeightsError`` when it is truncated or not one."""
    with _open(path) as file:
        return dict(file.metadata() or {})


def _packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors that share no memory, as the format requires (tied weights are stored twice)."""
    packed: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        packed[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    return packed


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A safetensors file; its reader has no public type."""
    if not path.is_file():
        raise WeightsError(
            f"{path}: {'expected a .safetensors file, got a folder' if path.exists() else 'no such file'}"
        )
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a safetensors file, or a truncated one ({path.stat().st_size} bytes; {error}). "
            "Copy it again, or name another file"
        ) from None
