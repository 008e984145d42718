"""The state of a run in one file: any tree of dicts, lists, numbers, strings and tensors, without pickle.

In: a tree. Out: ``checkpoint.safetensors``. Its tensors are the tree's tensors; its header has the rest of the tree as
JSON, and a checksum of both. The checkpoint before is kept as ``checkpoint.previous.safetensors``.
"""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import RunError, WeightsError
from ..weights.safetensors_io import read_tensors, write_tensors

CURRENT = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"
_FORMAT = "metaformer-checkpoint-1"


class Checkpoints:
    """The two newest checkpoints of a run, in its folder.

    At every moment at least one complete checkpoint is on the disk, whenever the process is killed: the new one is
    complete before the current one is renamed, and a damaged file never replaces a good one.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / CURRENT
        self.previous = folder / PREVIOUS
        self._current_is_good = False  # only a file that this object read or wrote may become the previous one

    def save(self, tree: Any) -> Path:
        """Write ``tree``; raises ``RunError`` on a full disk and leaves the earlier checkpoints as they are."""
        write_tree(self.path, tree, previous=self.previous if self._current_is_good else None)
        self._current_is_good = True
        return self.path

    def load(self) -> Any | None:
        """The newest tree that can be read, or None when none was saved.

        Warns when it falls back to the previous checkpoint; raises ``RunError`` when both are damaged.
        """
        problems = []
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                tree = read_tree(path)
            except WeightsError as error:
                problems.append(str(error))
                continue
            self._current_is_good = path == self.path
            if problems:
                warnings.warn(f"{problems[0]}\nResuming from the previous checkpoint, {path.name}", stacklevel=2)
            return tree
        if problems:
            raise RunError(
                "this run cannot be resumed: no checkpoint in its folder can be read:\n  "
                + "\n  ".join(problems)
                + "\nStart it again with --overwrite; best.safetensors, if present, can be its initial weights"
            )
        return None

    def clear(self) -> None:
        """Remove both checkpoints, so that a new run cannot fall back to the state of an older one."""
        self.path.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)
        self._current_is_good = False


def write_tree(path: Path, tree: Any, previous: Path | None = None) -> None:
    """Write a tree of dicts, lists, tuples, numbers, strings, ``None`` and tensors to one file, atomically."""
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_extract_tensors(tree, "", tensors))
    header = {"format": _FORMAT, "skeleton": skeleton, "checksum": str(_checksum(skeleton, tensors))}
    write_tensors(path, tensors, header, previous)


def read_tree(path: Path) -> Any:
    """The tree that ``write_tree`` wrote; raises ``WeightsError`` when a byte is missing or changed."""
    tensors, header = read_tensors(path)
    if header.get("format") != _FORMAT:
        raise WeightsError(f"{path}: expected a training checkpoint, got another safetensors file")
    skeleton = header.get("skeleton", "")
    if header.get("checksum") != str(_checksum(skeleton, tensors)):
        raise WeightsError(f"{path}: the file is damaged: its content does not match its checksum")
    return _insert_tensors(json.loads(skeleton), tensors)


def _extract_tensors(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """``node`` as JSON; its tensors are added to ``tensors``."""
    if isinstance(node, Tensor):
        name = _free_name(path or "tensor", tensors)
        tensors[name] = node.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(node, Mapping):
        # as pairs: an optimizer's state has integer keys, and JSON would turn them into strings
        pairs = [[key, _extract_tensors(value, _join(path, key), tensors)] for key, value in node.items()]
        return {"dict": pairs}
    if isinstance(node, (list, tuple)):
        items = [_extract_tensors(value, _join(path, i), tensors) for i, value in enumerate(node)]
        return items if isinstance(node, list) else {"tuple": items}  # JSON has no tuples; Adam's betas are one
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise TypeError(f"{path}: expected numbers, strings and tensors in a checkpoint, got {type(node).__name__}")


def _insert_tensors(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_insert_tensors(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_insert_tensors(item, tensors) for item in content)
    return {key: _insert_tensors(value, tensors) for key, value in content}


def _join(path: str, key: object) -> str:
    return f"{path}/{key}" if path else str(key)


def _free_name(name: str, tensors: Mapping[str, Tensor]) -> str:
    """``name``, or ``name#2`` and so on where it is taken."""
    candidate, number = name, 1
    # keys may contain the separator, so two paths can be equal; safetensors reserves one name
    while candidate in tensors or candidate == "__metadata__":
        number += 1
        candidate = f"{name}#{number}"
    return candidate


def _checksum(skeleton: str, tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of the skeleton and of every tensor. safetensors detects a truncated file, this detects changed bytes."""
    value = zlib.crc32(skeleton.encode())
    for name, tensor in sorted(tensors.items()):  # a reader returns them in an order of its own
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        # as bytes, because NumPy has no bfloat16; flat first, because a scalar cannot be viewed as another type
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return value
