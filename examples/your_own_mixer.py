"""A token mixer of your own in a published frame: nothing to register, nothing of ours to inherit.

    python examples/your_own_mixer.py

It trains for a moment on scikit-learn's handwritten digits and prints what it learned, beside the same frame with
the paper's pooling. Fifty updates say nothing about which mixer is better.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from metaformer import ModelSpec, count_parameters, create_model, find


class ShiftMixer(nn.Module):
    """Each quarter of the channels looks one token up, down, left or right."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
        """Tokens (B, N, C) that stand row by row in ``grid``, to the same shape."""
        up, down, left, right = x.unflatten(1, grid).chunk(4, dim=-1)
        shifted = [up.roll(-1, 1), down.roll(1, 1), left.roll(-1, 2), right.roll(1, 2)]
        return self.proj(torch.cat(shifted, dim=-1).flatten(1, 2))


def small_frame() -> ModelSpec:
    """PoolFormer-S12 with one block in each stage and half the width: a model is data, so it is changed like data."""
    spec = find("poolformer_s12").spec
    return spec.with_changes(stages=tuple(stage.with_changes(depth=1, width=stage.width // 2) for stage in spec.stages))


def accuracy(mixers: object, updates: int = 50) -> tuple[float, int]:
    """Share of 297 unseen digits that a small model with these mixers names rightly, and its number of parameters."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target)
    model = create_model(small_frame(), num_classes=10, in_chans=1, img_size=8, stem_stride=1, mixers=mixers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(updates):
        chosen = torch.randint(1500, (32,))
        optimizer.zero_grad()
        F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    with torch.no_grad():
        right = model.eval()(images[1500:]).argmax(-1) == labels[1500:]
    return right.float().mean().item(), count_parameters(model)


if __name__ == "__main__":
    for title, mixers in [
        ("the paper's pooling", "pooling"),
        ("your mixer, then attention", [ShiftMixer, ShiftMixer, "attention", "attention"]),
    ]:
        share, parameters = accuracy(mixers)
        print(f"{title:<27} {parameters:,} parameters   {share:.1%} of unseen digits")
