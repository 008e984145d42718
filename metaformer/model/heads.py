"""From the last tokens to class scores: readout, final norm, classifier."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from ..types import Grid
from .layers import SquaredReLU


class MeanReadout(nn.Module):
    """The mean of the grid's tokens."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, P + N, C) to (B, C)."""
        return x[:, x.shape[1] - prod(grid) :].mean(1)


class TokenReadout(nn.Module):
    """The first prefix token, or all of them for a head each."""

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, P + N, C) to (B, C), or (B, count, C) where count > 1."""
        return x[:, 0] if self.count == 1 else x[:, : self.count]


class NoReadout(nn.Module):
    """Keeps every token of the grid."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, P + N, C) to (B, N, C)."""
        return x[:, x.shape[1] - prod(grid) :]


class LinearHead(nn.Module):
    """Dropout, then one linear layer."""

    def __init__(self, dim: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) to (B, K)."""
        return self.fc(self.hidden(x))

    def hidden(self, x: Tensor) -> Tensor:
        """(B, C): what the last linear layer reads."""
        return self.drop(x)


class MLPHead(nn.Module):
    """Linear, squared ReLU, norm, dropout, linear (MetaFormer Baselines, code of ConvFormer and CAFormer)."""

    def __init__(
        self, dim: int, num_classes: int, hidden: int, *, norm_eps: float = 1e-5, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = SquaredReLU()
        self.norm = nn.LayerNorm(hidden, eps=norm_eps)
        self.drop = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) to (B, K)."""
        return self.fc2(self.hidden(x))

    def hidden(self, x: Tensor) -> Tensor:
        """(B, hidden): what the last linear layer reads."""
        return self.drop(self.norm(self.act(self.fc1(x))))


class AveragedHeads(nn.Module):
    """A linear head for each prefix token, averaged (DeiT's distilled models at evaluation)."""

    def __init__(self, dim: int, num_classes: int, count: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(dim, num_classes) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """(B, count, C) to (B, K)."""
        scores = [head(x[:, i]) for i, head in enumerate(self.heads)]
        return sum(scores[1:], scores[0]) / len(scores)

    def hidden(self, x: Tensor) -> Tensor:
        """(B, C): the mean of the prefix tokens."""
        return x.mean(1)


class NoClassifier(nn.Module):
    """``num_classes=0``: pooled features are the answer."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C), returned as it is."""
        return x

    def hidden(self, x: Tensor) -> Tensor:
        """(B, C), returned as it is."""
        return x


class Head(nn.Module):
    """Norm before or after the readout, then the classifier."""

    def __init__(
        self, *, pre_norm: nn.Module, readout: nn.Module, norm: nn.Module, classifier: nn.Module
    ) -> None:
        super().__init__()
        self.pre_norm, self.readout, self.norm, self.classifier = pre_norm, readout, norm, classifier

    def forward(self, x: Tensor, grid: Grid, pre_logits: bool = False) -> Tensor:
        """(B, N, C) to (B, K), or to what the last linear layer reads."""
        pooled = self.norm(self.readout(self.pre_norm(x), grid))
        return self.classifier.hidden(pooled) if pre_logits else self.classifier(pooled)
