"""From the last tokens to class scores: readout, final norm, linear layer."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from ..types import Grid
from .layers import SquaredReLU, normalize
from .tokens import grid_mask, mean_token


class MeanReadout(nn.Module):
    """The mean of the grid's real tokens."""

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, P + N, C) to (B, C)."""
        return mean_token(x[:, x.shape[1] - prod(grid) :], grid_mask(mask, grid))


class TokenReadout(nn.Module):
    """The first prefix token, or all of them for a head each."""

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, P + N, C) to (B, C), or (B, count, C) where count > 1."""
        return x[:, 0] if self.count == 1 else x[:, : self.count]


class FirstReadout(nn.Module):
    """The first real token of a sequence; where padding is on the left that is not the first one."""

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to (B, C)."""
        if mask is None:
            return x[:, 0]
        first = mask.int().argmax(1)  # argmax returns the first of equal values, and does not take booleans
        return x[torch.arange(len(x), device=x.device), first]


class NoReadout(nn.Module):
    """Keeps every token of the grid."""

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, P + N, C) to (B, N, C)."""
        return x[:, x.shape[1] - prod(grid) :]


class MLPHidden(nn.Module):
    """Linear, squared ReLU, norm, dropout in front of the last layer (ConvFormer's and CAFormer's head in code)."""

    def __init__(self, dim: int, hidden: int, *, norm_eps: float = 1e-5, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = SquaredReLU()
        self.norm = nn.LayerNorm(hidden, eps=norm_eps)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) to (B, hidden)."""
        return self.drop(self.norm(self.act(self.fc1(x))))


class AveragedLinear(nn.Module):
    """A linear layer for each prefix token, averaged (DeiT's distilled models in evaluation)."""

    def __init__(self, dim: int, num_classes: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, num_classes) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """(B, count, C) to (B, K)."""
        scores = [layer(x[:, i]) for i, layer in enumerate(self.layers)]
        return torch.stack(scores).mean(0)


class AveragedTokens(nn.Module):
    """The mean of the prefix tokens: the features of a model with averaged heads and no classes."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, count, C) to (B, C)."""
        return x.mean(1)


class Head(nn.Module):
    """Norm before or after the readout, hidden layers if any, the last linear layer."""

    def __init__(
        self, *, pre_norm: nn.Module, readout: nn.Module, norm: nn.Module, hidden: nn.Module, fc: nn.Module
    ) -> None:
        super().__init__()
        self.pre_norm, self.readout, self.norm, self.hidden, self.fc = pre_norm, readout, norm, hidden, fc

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None, pre_logits: bool = False) -> Tensor:
        """(B, N, C) to (B, K), or to what the last linear layer reads."""
        features = self.hidden(self.norm(self.readout(normalize(self.pre_norm, x, mask), grid, mask)))
        return features if pre_logits else self.fc(features)
