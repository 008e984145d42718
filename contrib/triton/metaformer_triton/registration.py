"""The kernels as one object that ``metaformer.model.lean.operations`` can call, and its registration."""

from __future__ import annotations

from torch import Tensor

from metaformer.model.lean import operations

from .mlp import normalized_mlp
from .mlp_gradients import normalized_mlp_gradients
from .moments import statistics
from .products import product_type
from .stencil import pooling_residual, pooling_residual_gradients
from .tuning import INTERPRETED


class TritonKernels:
    """The protocol ``operations.Kernels``: the functions of this package, on CUDA devices and in the interpreter."""

    product_type = staticmethod(product_type)
    statistics = staticmethod(statistics)
    pooling_residual = staticmethod(pooling_residual)
    pooling_residual_gradients = staticmethod(pooling_residual_gradients)
    normalized_mlp = staticmethod(normalized_mlp)
    normalized_mlp_gradients = staticmethod(normalized_mlp_gradients)

    def accept(self, x: Tensor) -> bool:
        """Floats of at most 32 bits on a CUDA device, or anywhere in the interpreter."""
        # Kernels cannot be launched on an empty grid.
        return (x.is_cuda or INTERPRETED) and x.dtype in operations.TYPES and x.numel() > 0


def register() -> None:
    """Run all lean blocks on these kernels from now on, where they accept the tokens."""
    operations.kernels = TritonKernels()
