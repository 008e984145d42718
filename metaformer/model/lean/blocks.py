"""Lean blocks: blocks of pooling, group norm and a channel MLP that keep less memory for their gradients.

A ``LeanBlock`` has the parts of the ``Block`` that it replaces, under the same names, and reads their weights at each
call: loading, saving and training do not change. Inputs that it cannot compute take the plain block's way.
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
from ..tokens import MaskedTokens
from .formulas import MLPWeights, Statistics
from .operations import TYPES, normalized_mlp, pooling_residual

Path = Literal["plain", "lean", "fused"]
"""How a block is computed: as the plain block; by ``operations``; the same with both products of the MLP in one kernel
where kernels are registered."""

WIDEST_WINDOW = 7
"""Registered kernels unroll the window; blocks with larger ones stay plain."""


class LeanBlock(Block):
    """A ``Block`` computed by ``operations`` unless its path or the tokens ask for the plain way."""

    norm1: GroupNorm
    mixer: Pooling
    norm2: GroupNorm
    mlp: ChannelMLP
    path: Path = "lean"

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
        """The block's output and its statistics for a norm of ``next_eps``, None the plain way; ``stats`` are x's."""
        # Fallbacks return no statistics; the next block then computes them itself.
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
        """Whether these tokens can be computed by ``operations``: a contiguous image, no mask, no dropout."""
        # Exporters trace into the block and must find PyTorch's own operations. torch.compile may see the custom
        # gradients only where they gain something: in training on a CPU.
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


class LeanStage(Stage):
    """A stage that passes each block's statistics to the next block."""

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None, tap: Tap | None = None) -> MaskedTokens:
        """(B, N, C) on a grid to (B, N', C') on the stage's own; ``tap`` is shown the tokens after each block."""
        if mask is not None or (self.grad_checkpointing and self.training and torch.is_grad_enabled()):
            return super().forward(x, grid, mask, tap)
        x, grid, mask = self.enter(x, grid, mask)
        stats: Statistics | None = None
        for block, following in zip_longest(self.blocks, list(self.blocks)[1:]):
            if isinstance(block, LeanBlock) and not _has_hooks(block):
                next_eps = following.norm1.eps if isinstance(following, LeanBlock) else 1e-5
                x, stats = block.with_statistics(x, grid, mask, stats, next_eps)
            else:
                x, stats = block(x, grid, mask), None
            if tap is not None:
                tap(x, grid, mask)
        return x, grid, mask


def with_lean_blocks(model: nn.Module) -> nn.Module:
    """A copy of a model in which every block that ``fits`` is a lean one. All other modules stay what they are."""
    return _replaced(deepcopy(model))


def use_lean_blocks(model: nn.Module) -> int:
    """Replace every block that ``fits`` by a lean one, in place. Returns how many lean blocks the model has."""
    _replaced(model)
    return sum(isinstance(part, LeanBlock) for part in model.modules())


def restore_blocks(model: nn.Module) -> None:
    """Replace lean blocks by plain ones with the same parts, in place."""
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, LeanBlock):
                setattr(parent, name, Block(**dict(part.named_children())).train(part.training))


def _replaced(module: nn.Module) -> nn.Module:
    """The module with lean blocks inside it, or a lean block in its place."""
    for name, child in list(module.named_children()):
        made = _replaced(child)
        if made is not child:
            setattr(module, name, made)
    if fits(module):
        return LeanBlock(**dict(module.named_children())).train(module.training)  # its children are its arguments
    if type(module) is Stage and any(isinstance(block, LeanBlock) for block in module.blocks):
        stage = LeanStage(
            embed=module.embed, prefix=module.prefix, position=module.position, blocks=list(module.blocks)
        )
        stage.grad_checkpointing = module.grad_checkpointing
        return stage.train(module.training)
    return module


def fits(block: nn.Module) -> bool:
    """Whether a lean block can replace a module: pooling minus input, group norms with one group, an MLP with GELU or
    StarReLU, any LayerScale, ResScale and stochastic depth."""
    # Exact types throughout: a subclass may compute something else with the same parts.
    if type(block) is not Block or any(_has_hooks(part) for part in block.modules()):
        return False
    norms = all(type(norm) is GroupNorm and norm.weight is not None for norm in (block.norm1, block.norm2))
    none_after = type(block.out_norm1) is nn.Identity and type(block.out_norm2) is nn.Identity
    mixer = block.mixer
    pooled = type(mixer) is Pooling and mixer.subtract and mixer.kernel <= WIDEST_WINDOW
    branches = _known_branch(block.branch1) and _known_branch(block.branch2)
    skips = all(type(skip) in (nn.Identity, Scale) for skip in (block.skip1, block.skip2))
    return norms and none_after and pooled and branches and skips and _known_mlp(block.mlp)


def _known_branch(branch: nn.Module) -> bool:
    """Whether a branch has LayerScale, stochastic depth, both in this order, or neither."""
    kinds = [type(part) for part in branch.children()]
    return type(branch) is Branch and kinds in ([], [Scale], [DropPath], [Scale, DropPath])


def _known_mlp(mlp: nn.Module) -> bool:
    if type(mlp) is not ChannelMLP or type(mlp.fc1) is not nn.Linear or type(mlp.fc2) is not nn.Linear:
        return False
    act = mlp.act
    return type(act) is StarReLU or (type(act) is nn.GELU and act.approximate == "none")


def _has_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks. A lean block does not call its parts, so their hooks would not run."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def _scale(part: nn.Module) -> Tensor | None:
    """The factors of the scale that a shortcut or a branch has, None without one."""
    found = [inner.scale for inner in part.modules() if isinstance(inner, Scale)]
    return found[0] if found else None


def _keep(branch: nn.Module, x: Tensor) -> Tensor | None:
    """Stochastic depth's factor for each sample, (B,); None outside of training."""
    for part in branch.children():
        if isinstance(part, DropPath) and part.training and part.rate > 0:
            # Its own forward, so that the random numbers are those of the plain block.
            return part(x.new_ones(x.shape[0], 1, 1)).flatten()
    return None
