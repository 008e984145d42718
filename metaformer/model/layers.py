"""The small parts of a block: norms, activations, the channel MLP, scales, stochastic depth.

Shapes: x is tokens ``(B, N, C)``, contiguous.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import SpecError
from .tokens import zero_padding


class LayerNorm(nn.LayerNorm):
    """Normalizes each token over its channels."""


class GroupNorm(nn.Module):
    """Normalizes over tokens and channels together, then scales and shifts each channel.

    It is ``nn.GroupNorm`` with one group, for tokens: the paper's "Modified Layer Normalization" (MetaFormer,
    section 4.1). A token's result depends on the whole image, or on all real tokens of a sequence.
    """

    def __init__(self, dim: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.bias: nn.Parameter | None
        self.weight = nn.Parameter(torch.ones(dim))
        self.register_parameter("bias", nn.Parameter(torch.zeros(dim)) if bias else None)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape; with a mask (B, N) the statistics are of the real tokens alone."""
        if mask is not None:
            return self.over_real(x, mask)
        # As a channels_last map the tokens get PyTorch's fast kernel; both views are free of cost.
        channels_first = x.unsqueeze(2).permute(0, 3, 1, 2)
        return F.group_norm(channels_first, 1, self.weight, self.bias, self.eps).permute(0, 2, 3, 1).squeeze(2)

    def over_real(self, x: Tensor, mask: Tensor) -> Tensor:
        """The norm (B, N, C) with the statistics of the real tokens."""
        # In float32 as autocast runs group_norm: a sum over thousands of numbers loses digits in half precision.
        real = zero_padding(x.float(), mask)
        count = (mask.sum(1).clamp(min=1) * self.dim)[:, None, None]
        mean = real.sum((1, 2), keepdim=True) / count
        variance = zero_padding(real - mean, mask).square().sum((1, 2), keepdim=True) / count
        y = (x - mean) * (variance + self.eps).rsqrt()
        y = y if self.weight is None else y * self.weight  # a folded norm has none
        return (y if self.bias is None else y + self.bias).to(x.dtype)

    def extra_repr(self) -> str:
        """Width and eps."""
        return f"{self.dim}, eps={self.eps}, bias={self.bias is not None}"


class Affine(nn.Module):
    """Scale and shift of each channel without statistics (ResMLP, section 2)."""

    def __init__(self, dim: int, bias: bool = True) -> None:
        super().__init__()
        self.bias: nn.Parameter | None
        self.weight = nn.Parameter(torch.ones(dim))
        self.register_parameter("bias", nn.Parameter(torch.zeros(dim)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        return x * self.weight if self.bias is None else torch.addcmul(self.bias, x, self.weight)


class BatchNorm(nn.BatchNorm1d):
    """Normalizes each channel over the batch and its tokens (an ablation of the paper)."""

    def __init__(self, dim: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__(dim, eps=eps)
        if not bias:
            self.register_parameter("bias", None)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape; with a mask (B, N) the statistics are of the real tokens alone."""
        if mask is None or not self.training:  # running statistics do not depend on the tokens
            return super().forward(x.flatten(0, -2)).view_as(x)
        # x[mask] has the real tokens of the whole batch in a row, and masked_scatter puts them back in that order.
        return torch.zeros_like(x).masked_scatter(mask[..., None], super().forward(x[mask]).to(x.dtype))


def normalize(norm: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a norm; the mask (B, N) matters to those with statistics over tokens."""
    return norm(x, mask) if mask is not None and isinstance(norm, OVER_TOKENS) else norm(x)


OVER_TOKENS = (GroupNorm, BatchNorm)
"""Norms with statistics over several tokens."""


class StarReLU(nn.Module):
    """s · relu(x)² + b with learned scalars s and b (MetaFormer Baselines, section 2.2)."""

    def __init__(self) -> None:
        super().__init__()
        # The paper derives s = 0.8944 and b = -0.4472 for normally distributed inputs; the authors' code starts from 1
        # and 0 and learns both.
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return self.scale * F.relu(x).square() + self.bias


class SquaredReLU(nn.Module):
    """relu(x)²."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return F.relu(x).square()


class GELUTanh(nn.GELU):
    """GELU by its tanh approximation."""

    def __init__(self) -> None:
        super().__init__(approximate="tanh")


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": GELUTanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "squared_relu": SquaredReLU,
    "star_relu": StarReLU,
}


def activation_of(name: str) -> nn.Module:
    """An activation by its name.

    Raises:
        SpecError: no such activation; the message lists them.
    """
    if name not in ACTIVATIONS:
        raise SpecError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()


class ChannelMLP(nn.Module):
    """Two linear layers over the channels of each token (MetaFormer, equation 3)."""

    def __init__(self, dim: int, hidden: int, activation: nn.Module, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden, bias=bias)
        self.act = activation
        self.fc2 = nn.Linear(hidden, dim, bias=bias)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class Scale(nn.Module):
    """A learned factor for each channel: LayerScale on a branch, ResScale on a shortcut."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.initial = initial
        self.scale = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        return x * self.scale


class DropPath(nn.Module):
    """Stochastic depth: while training, drops the branch of random samples and rescales the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        # Divided by the keep rate, the expectation is that of evaluation.
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep).div_(keep)
        return x * mask

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate:.3f}"


class NoSkip(nn.Module):
    """No shortcut: the sum gets the branch alone (the paper's ablation without residual connections)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to a scalar zero."""
        return x.new_zeros(())  # the sum broadcasts it, so no tensor of zeros is allocated
