"""Exponential moving average (EMA) of the weights, evaluated beside them.

In: the plain module (not a wrapper of it) after each update. Out: a second module of the same kind. timm's EMA with
its warm-up: the decay of update t is min(decay, (t - 1) / (t + 8)). So random initial weights do not dominate a short
run, and a long one reaches the requested decay (0.9998 after 45,000 updates).
"""

from __future__ import annotations

from collections.abc import Mapping

from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

# timm's decay is 1 - (1 + (t - 1) / gamma) ** -power: with gamma 9 and power 1 it is (t - 1) / (t + 8), as TensorFlow's
# ExponentialMovingAverage warms up, but with decay 0 at the first update
_WARMUP_GAMMA = 9.0


class AveragedWeights:
    """Moving average of floating-point tensors, buffers included; integer buffers (counters) are copied."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._average = ModelEmaV3(module, decay=decay, use_warmup=True, warmup_gamma=_WARMUP_GAMMA, warmup_power=1.0)
        self._average.requires_grad_(False)  # timm's deep copy keeps requires_grad as it was

    @property
    def module(self) -> nn.Module:
        """The averaged model, in evaluation mode."""
        module: nn.Module = self._average.module
        return module

    def update(self, module: nn.Module, update: int) -> None:
        """Add the weights after update number ``update`` (the first is 1) to the average."""
        self._average.update(module, step=update)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged tensors under the model's own names; the average has no other state."""
        return self.module.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of ``state_dict``."""
        self.module.load_state_dict(state)
