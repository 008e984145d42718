"""PyTorch: modules compiled by Inductor or eager, and programs as files."""

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
    """The module itself, its weights converted to a precision and to ``channels_last``."""
    return module.to(DTYPES[precision]).to(memory_format=torch.channels_last)


def runner(module: Any, precision: str, threads: int | None = None) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """A function from images (B, C, H, W) float32 to the module's outputs, each a float32 tensor."""
    dtype = DTYPES[precision]

    def run(images: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(), _threads(threads):
            found = module(images.to(dtype, memory_format=torch.channels_last))
        outputs = found if isinstance(found, (tuple, list)) else (found,)
        return tuple(output.float() for output in outputs)

    return run


def compiled(module: nn.Module) -> Callable[..., Any]:
    """The module compiled by Inductor, at the first call and again for the first other size.

    On a CPU the weights are frozen: oneDNN then packs them once and joins a product with the activation after it.
    """
    device = next(module.parameters(), torch.empty(0)).device
    return torch.compile(module, options={"freezing": device.type == "cpu"})


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Run with a number of threads. PyTorch has one for the whole process, so it is restored."""
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
    """Write ``model.pt2``, for ``torch.export.load``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, folder / PROGRAM)


def read(folder: Path) -> Any:
    """The program that ``write`` wrote, as a callable; raises ``InputError`` if it cannot be read."""
    try:
        return torch.export.load(folder / PROGRAM).module()
    except Exception as error:  # errors of zip, pickle and JSON
        raise InputError(f"{folder / PROGRAM}: torch.export cannot read it: {error}") from None


def write_package(program: ExportedProgram, folder: Path) -> None:
    """Write ``model.aot.pt2``: machine code for this kind of machine, by AOTInductor; needs a C++ compiler.

    Raises:
        InputError: it cannot be compiled.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch._inductor.aoti_compile_and_package(program, package_path=str(folder / PACKAGE))
    except Exception as error:  # compilers raise many kinds of exceptions
        raise InputError(f"AOTInductor cannot compile the model: {str(error).splitlines()[0]}") from error


def read_package(folder: Path) -> Any:
    """The code that ``write_package`` wrote, as a callable; raises ``InputError`` if it cannot be read."""
    try:
        return torch._inductor.aoti_load_package(str(folder / PACKAGE))
    except Exception as error:  # code for another machine, a truncated file
        raise InputError(f"{folder / PACKAGE}: AOTInductor cannot load it: {error}") from None
