"""Tensors to one safetensors file and back, such that a file is either whole or not there.

In: named tensors and a small text header. Out: the file, written beside its final name, flushed to the disk and only
then renamed. Reading never runs code from a file: safetensors holds numbers and text, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    """Write ``tensors`` and the text header ``metadata`` to the safetensors file ``path``, all or nothing.

    With ``previous``, a file that is already at ``path`` is kept under that name. Raises ``RunError`` when the disk
    is full or the folder cannot be written; what was there before is then still there.
    """
    replace_file(path, save(_packed(tensors), dict(metadata or {})), previous)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, on the CPU, and its text header; ``WeightsError`` when it is cut or not one.

    They are copies: memory mapped from the file would change with it, and its alignment can change sums by a bit.
    """
    _expect_file(path)
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise WeightsError(_unreadable(path, error)) from None


def read_metadata(path: Path) -> dict[str, str]:
    """Only the text header of a safetensors file; ``WeightsError`` when it is cut or not one."""
    _expect_file(path)
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(_unreadable(path, error)) from None


def _packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors that share no memory, as the format wants them (tied weights are stored twice)."""
    packed: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        packed[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    return packed


def _expect_file(path: Path) -> None:
    if not Path(path).exists():
        raise WeightsError(f"{path}: no such file")
    if not Path(path).is_file():
        raise WeightsError(f"{path}: expected a .safetensors file, got a folder")


def _unreadable(path: Path, error: Exception) -> str:
    size = Path(path).stat().st_size
    return (
        f"{path}: not a safetensors file, or one that was cut short ({size} bytes; {error}). "
        "Name another file, or copy this one again"
    )
