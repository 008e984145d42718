"""The state of a run in one file: any tree of dicts, lists, numbers, texts and tensors, without pickle.

In: a tree. Out: ``checkpoint.safetensors``, whose tensors are the tree's tensors and whose header holds the tree
without them as JSON, and a checksum over both. The generation before is kept as ``checkpoint.previous.safetensors``.
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
    """The two generations of a run's state in its folder.

    At every instant at least one whole checkpoint is on the disk, whatever is killed when: the new one is complete
    before the present one is renamed, and a file that was found damaged never takes the place of a good one.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / CURRENT
        self.previous = folder / PREVIOUS
        self._current_is_good = False

    def save(self, tree: Any) -> Path:
        """Write ``tree``; raises ``RunError`` on a full disk, with the earlier checkpoints intact."""
        write_tree(self.path, tree, previous=self.previous if self._current_is_good else None)
        self._current_is_good = True
        return self.path

    def load(self) -> Any | None:
        """The newest tree that can be read, or None when none was ever saved.

        Warns when it has to fall back to the previous generation; raises ``RunError`` when both are damaged.
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
                warnings.warn(f"{problems[0]}\nGoing on from the one before, {path.name}", stacklevel=2)
            return tree
        if problems:
            raise RunError(
                "this run cannot be resumed, no checkpoint in its folder can be read:\n  "
                + "\n  ".join(problems)
                + "\nStart it again with --overwrite; best.safetensors, if it is there, can be its first weights"
            )
        return None

    def clear(self) -> None:
        """Remove both generations, so that a new run can never fall back to an older run's state."""
        self.path.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)
        self._current_is_good = False


def write_tree(path: Path, tree: Any, previous: Path | None = None) -> None:
    """Write a tree of dicts, lists, tuples, numbers, texts, ``None`` and tensors to one file, all or nothing."""
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_taken_apart(tree, "", tensors))
    header = {"format": _FORMAT, "skeleton": skeleton, "checksum": str(_checksum(skeleton, tensors))}
    write_tensors(path, tensors, header, previous)


def read_tree(path: Path) -> Any:
    """The tree that ``write_tree`` wrote; raises ``WeightsError`` when a byte of it is missing or different."""
    tensors, header = read_tensors(path)
    if header.get("format") != _FORMAT:
        raise WeightsError(f"{path}: expected the state of a run, got a safetensors file of something else")
    skeleton = header.get("skeleton", "")
    if header.get("checksum") != str(_checksum(skeleton, tensors)):
        raise WeightsError(f"{path}: damaged, its content does not match its checksum")
    return _put_together(json.loads(skeleton), tensors)


def _taken_apart(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """``node`` as JSON, its tensors put into ``tensors``. Dicts become pairs, since JSON's keys are texts only."""
    if isinstance(node, Tensor):
        name = _free_name(path or "tensor", tensors)
        tensors[name] = node.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(node, Mapping):
        return {"dict": [[key, _taken_apart(value, _join(path, key), tensors)] for key, value in node.items()]}
    if isinstance(node, (list, tuple)):
        items = [_taken_apart(value, _join(path, i), tensors) for i, value in enumerate(node)]
        return items if isinstance(node, list) else {"tuple": items}
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise TypeError(f"{path}: a checkpoint holds numbers, texts and tensors, got {type(node).__name__}")


def _put_together(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_put_together(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_put_together(item, tensors) for item in content)
    return {key: _put_together(value, tensors) for key, value in content}


def _join(path: str, key: object) -> str:
    return f"{path}/{key}" if path else str(key)


def _free_name(name: str, tensors: Mapping[str, Tensor]) -> str:
    """``name``, or ``name#2`` and so on: a key may contain the separator, or be the format's reserved word."""
    candidate, number = name, 1
    while candidate in tensors or candidate == "__metadata__":
        number += 1
        candidate = f"{name}#{number}"
    return candidate


def _checksum(skeleton: str, tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of the skeleton and of every tensor: a cut file is seen by its length, a rotten one by this."""
    value = zlib.crc32(skeleton.encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return value
