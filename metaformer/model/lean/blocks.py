"""Blocks of pooling, group norm and a channel MLP with the kernels behind the same modules.

A ``KernelBlock`` has the parts of the ``Block`` that it stands for, under the same names, and takes their weights as
they are at each call: loading, saving and training go on as before. What it cannot do on kernels it does as the plain
block does.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import zip_longest
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from ...types import Grid
from ..backbone import Stage, Tap
from ..block import Block, Branch
from ..layers import ChannelMLP, DropPath, GroupNorm, Scale, StarReLU
from ..mixers.pooling import Pooling
from .formulas import MLPWeights, Statistics
from .operations import TYPES, normalized_mlp, pooling_residual

Path = Literal["plain", "kernels", "fused"]
"""How a block is computed: by PyTorch; by kernels; by kernels with both products of the MLP in one of them."""

WIDEST_WINDOW = 7
"""The kernels unroll the window; larger ones are left to PyTorch."""
FUSED_WIDTH = 128
"""The widest tokens for which both products fit into one program."""


class KernelBlock(Block):
    """A ``Block`` that runs on kernels where its path says so and the tokens allow it."""

    norm1: GroupNorm
    mixer: Pooling
    norm2: GroupNorm
    mlp: ChannelMLP
    path: Path = "kernels"

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        return self.with_statistics(x, grid, mask)[0]

    def with_statistics(
        self,
        x: Tensor,
        grid: Grid,
        mask: Tensor | None = None,
        stats: Statistics | None = None,
        next_eps: float = 1e-5,
    ) -> tuple[Tensor, Statistics | None]:
        """The block with its output's statistics for a norm of ``next_eps``, where they fall out; ``stats`` are x's."""
        if self.path == "plain" or not self._allows(x, grid, mask):
            return super().forward(x, grid, mask), None
        y, after = pooling_residual(
            x,
            grid,
            self.norm1.weight,
            self.norm1.bias,
            _scale(self.branch1),
            _scale(self.skip1),
            kernel=self.mixer.kernel,
            eps=self.norm1.eps,
            next_eps=self.norm2.eps,
            stats=stats,
            keep=_keep(self.branch1, x),
        )
        keep = _keep(self.branch2, y)
        fused = self.path == "fused"
        return normalized_mlp(y, self._mlp_weights(), next_eps=next_eps, stats=after, keep=keep, fused=fused)

    def _allows(self, x: Tensor, grid: Grid, mask: Tensor | None) -> bool:
        """Tokens of an image, all of them real, contiguous, of a type that kernels know; no dropout.

        Exporters, who look into the block, are shown PyTorch's operations; compilers the formulas of training on a CPU.
        """
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            return False
        if torch.compiler.is_compiling() and (x.is_cuda or not self.training):
            return False
        whole = mask is None and len(grid) == 2 and x.shape[1] == prod(grid) and len(x) > 0
        dropped = self.training and self.mlp.drop.p > 0
        return whole and not dropped and x.is_contiguous() and x.dtype in TYPES

    def _mlp_weights(self) -> MLPWeights:
        mlp = self.mlp
        star = mlp.act if isinstance(mlp.act, StarReLU) else None
        return MLPWeights(
            self.norm2.weight,
            self.norm2.bias,
            mlp.fc1.weight,
            mlp.fc1.bias,
            mlp.fc2.weight,
            mlp.fc2.bias,
            _scale(self.branch2),
            _scale(self.skip2),
            None if star is None else star.scale,
            None if star is None else star.bias,
        )

    def extra_repr(self) -> str:
        """The path."""
        return f"path={self.path}"


class KernelStage(Stage):
    """A stage that hands each block's statistics to the next."""

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None, tap: Tap | None = None) -> tuple[Tensor, Grid]:
        """(B, N, C) on a grid to (B, N', C') on the stage's own; ``tap`` is shown the tokens after each block."""
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            return super().forward(x, grid, mask, tap)
        x, grid = self.embed(x, grid)
        x = self.position(self.prefix(x), grid)
        stats: Statistics | None = None
        for block, following in zip_longest(self.blocks, list(self.blocks)[1:]):
            if isinstance(block, KernelBlock) and not _listened_to(block):
                next_eps = following.norm1.eps if isinstance(following, KernelBlock) else 1e-5
                x, stats = block.with_statistics(x, grid, mask, stats, next_eps)
            else:
                x, stats = block(x, grid, mask), None
            if tap is not None:
                tap(x, grid)
        return x, grid


def accelerated(model: nn.Module) -> nn.Module:
    """A copy of a model with kernels behind every block that they fit: pooling minus input, group norms with one
    group, GELU or StarReLU, any LayerScale, ResScale and stochastic depth. All other modules stay what they are.

    Whether that is faster is not said here: ``choose`` measures it.
    """
    return _replaced(deepcopy(model))


def use_lean_blocks(model: nn.Module) -> int:
    """As ``accelerated``, in the model itself; how many blocks it is about."""
    _replaced(model)
    return sum(isinstance(part, KernelBlock) for part in model.modules())


def restore_blocks(model: nn.Module) -> None:
    """Plain blocks again, with the same parts, in the model itself."""
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, KernelBlock):
                setattr(parent, name, Block(**dict(part.named_children())).train(part.training))


def _replaced(module: nn.Module) -> nn.Module:
    """A module with kernels inside it, or in its place."""
    for name, child in list(module.named_children()):
        made = _replaced(child)
        if made is not child:
            setattr(module, name, made)
    if fits(module):
        return KernelBlock(**dict(module.named_children())).train(module.training)  # its children are its arguments
    if type(module) is Stage and any(isinstance(block, KernelBlock) for block in module.blocks):
        stage = KernelStage(
            embed=module.embed, prefix=module.prefix, position=module.position, blocks=list(module.blocks)
        )
        stage.grad_checkpointing = module.grad_checkpointing
        return stage.train(module.training)
    return module


def paths(block: KernelBlock) -> tuple[Path, ...]:
    """What can be tried for a block."""
    narrow = block.norm2.weight.numel() <= FUSED_WIDTH
    return ("plain", "kernels", "fused") if narrow else ("plain", "kernels")


def fits(block: nn.Module) -> bool:
    """Whether a block is one that the kernels compute."""
    if type(block) is not Block or any(_listened_to(part) for part in block.modules()):
        return False
    norms = all(type(norm) is GroupNorm and norm.weight is not None for norm in (block.norm1, block.norm2))
    none_after = type(block.out_norm1) is nn.Identity and type(block.out_norm2) is nn.Identity
    mixer = block.mixer
    pooled = type(mixer) is Pooling and mixer.subtract and mixer.kernel <= WIDEST_WINDOW
    branches = _known_branch(block.branch1) and _known_branch(block.branch2)
    skips = all(type(skip) in (nn.Identity, Scale) for skip in (block.skip1, block.skip2))
    return norms and none_after and pooled and branches and skips and _known_mlp(block.mlp)


def _known_branch(branch: nn.Module) -> bool:
    """LayerScale, stochastic depth, both in this order, or None."""
    kinds = [type(part) for part in branch.children()]
    return type(branch) is Branch and kinds in ([], [Scale], [DropPath], [Scale, DropPath])


def _known_mlp(mlp: nn.Module) -> bool:
    if type(mlp) is not ChannelMLP or type(mlp.fc1) is not nn.Linear or type(mlp.fc2) is not nn.Linear:
        return False
    act = mlp.act
    return type(act) is StarReLU or (type(act) is nn.GELU and act.approximate == "none")


def _listened_to(module: nn.Module) -> bool:
    """Whether someone has put a hook on a module, which calling its parts would pass by."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def _scale(part: nn.Module) -> Tensor | None:
    """A scale's factors, of a shortcut or inside a branch."""
    found = [inner.scale for inner in part.modules() if isinstance(inner, Scale)]
    return found[0] if found else None


def _keep(branch: nn.Module, x: Tensor) -> Tensor | None:
    """What stochastic depth draws for each sample, (B,); None outside of training."""
    for part in branch.children():
        if isinstance(part, DropPath) and part.training and part.rate > 0:
            return part(x.new_ones(x.shape[0], 1, 1)).flatten()
    return None
