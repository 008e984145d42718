"""The moving average of the weights, which is evaluated beside them.

In: the plain module (not a wrapper of it) after each update. Out: a second module of the same kind. timm's EMA with
its warm-up: the decay of update t is min(decay, (t - 1) / (t + 8)), so that a short run is not ruled by its random
start and a long one has the decay it asked for (0.9998 after 45,000 updates).
"""

from __future__ import annotations

from collections.abc import Mapping

from timm.utils import ModelEmaV3
from torch import Tensor, nn

_WARMUP_UPDATES = 9.0


class AveragedWeights:
    """Exponential moving average of floating tensors, buffers included; counters are copied as they are."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._average = ModelEmaV3(module, decay=decay, use_warmup=True, warmup_gamma=_WARMUP_UPDATES, warmup_power=1.0)
        self._average.requires_grad_(False)

    @property
    def module(self) -> nn.Module:
        """The averaged model, in evaluation mode."""
        return self._average.module

    def update(self, module: nn.Module, update: int) -> None:
        """Take the weights after update number ``update`` (the first is 1) into the average."""
        self._average.update(module, step=update)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged tensors under the model's own names: all there is to save."""
        return self.module.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of ``state_dict``."""
        self.module.load_state_dict(state)
