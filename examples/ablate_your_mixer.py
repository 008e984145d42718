"""Does your token mixer matter? A plan that compares it with the paper's pooling and with no mixer at all.

    metaformer ablate examples/ablate_your_mixer.py --data digits --only shift

trains two variants with three seeds each, PoolFormer-S12 at a quarter of its widths and the same with the mixer below,
and writes the table and the report to sweeps/ablate_your_mixer-digits. Without `--only` all four variants are trained.
The mixer is defined at the top level of the file because worker processes import it from here by its name.
"""

import torch
from torch import Tensor, nn

from metaformer.ablation import Base, Change, Plan
from metaformer.run.recipes import named_recipe


class Shift(nn.Module):
    """Each quarter of the channels looks one token up, down, left or right; a linear layer mixes the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
        """Tokens (B, N, C) that stand row by row in ``grid``, to the same shape."""
        up, down, left, right = x.unflatten(1, grid).chunk(4, dim=-1)
        shifted = [up.roll(-1, 1), down.roll(1, 1), left.roll(-1, 2), right.roll(1, 2)]
        return self.proj(torch.cat(shifted, dim=-1).flatten(1, 2))


class Unshifted(nn.Module):
    """The same linear layer without the shift, which tells the effect of the neighbors from that of the parameters."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
        """Tokens (B, N, C) to the same shape."""
        return self.proj(x)


def plan(side: int = 8) -> Plan:
    """The plan for images of ``side`` pixels; small images get a small base."""
    return Plan(
        name="your-mixer",
        title="A token mixer of one's own",
        question="Is looking at four neighbors better than their mean?",
        base=Base(name="pooling", model="poolformer_s12").for_images(side),
        recipe=named_recipe("short"),
        changes=(
            Change(name="identity", mixers="identity"),
            Change(name="shift", mixers=Shift),
            Change(name="no shift", about="the linear layer alone", mixers=Unshifted),
        ),
    )
