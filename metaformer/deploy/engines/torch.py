"""PyTorch itself: compiled by Inductor, or line by line; and its programs as files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ...errors import InputError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PROGRAM, PACKAGE = "model.pt2", "model.aot.pt2"


def prepared(module: nn.Module, precision: str) -> nn.Module:
    """The module itself, its weights in a precision and in the order of ``channels_last``."""
    return module.to(DTYPES[precision]).to(memory_format=torch.channels_last)


def runner(module: Any, precision: str, threads: int | None = None) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """A function from images (B, C, H, W) float32 to the module's answers, each a float32 tensor."""
    dtype = DTYPES[precision]

    def run(images: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(), _threads(threads):
            found = module(images.to(dtype, memory_format=torch.channels_last))
        answers = found if isinstance(found, (tuple, list)) else (found,)
        return tuple(answer.float() for answer in answers)

    return run


def compiled(module: nn.Module) -> Callable[..., Any]:
    """The module through Inductor, which compiles at the first call and again for the first other size.

    On a CPU its weights are frozen: oneDNN lays them out once, and joins a product with the activation behind it.
    """
    device = next(module.parameters(), torch.empty(0)).device
    return torch.compile(module, options={"freezing": device.type == "cpu"})


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """PyTorch has one number of threads for everybody; it is set back."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write(program: ExportedProgram, folder: Path) -> None:
    """``model.pt2``, for ``torch.export.load``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, folder / PROGRAM)


def read(folder: Path) -> Any:
    """What ``write`` wrote, as a callable; raises ``InputError`` where it cannot be read."""
    try:
        return torch.export.load(folder / PROGRAM).module()
    except Exception as error:  # zip, pickle and JSON errors alike
        raise InputError(f"{folder / PROGRAM}: torch.export cannot read it: {error}") from None


def write_package(program: ExportedProgram, folder: Path) -> None:
    """``model.aot.pt2``: machine code for this kind of machine, by AOTInductor; needs a C++ compiler.

    Raises:
        InputError: it cannot be compiled.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch._inductor.aoti_compile_and_package(program, package_path=str(folder / PACKAGE))
    except Exception as error:  # compilers fail in many ways
        raise InputError(f"AOTInductor cannot compile the model: {str(error).splitlines()[0]}") from error


def read_package(folder: Path) -> Any:
    """What ``write_package`` wrote, as a callable; raises ``InputError`` where it cannot be read."""
    try:
        return torch._inductor.aoti_load_package(str(folder / PACKAGE))
    except Exception as error:  # another machine's code, a cut file
        raise InputError(f"{folder / PACKAGE}: AOTInductor cannot load it: {error}") from None
