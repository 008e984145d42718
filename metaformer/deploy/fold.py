"""Exact folding for inference: an operation that is linear and stands next to a linear layer is folded into it.

In: a model. Out: a copy that computes the same with fewer passes over memory, and a list of what was folded. This is
algebra, not an approximation: every product is computed in float64 and rounded once.

A layer that pads its input cannot take over a norm's bias, because the padding is zero after the norm; there the norm
stays. A norm in front of windows stays for the same reason.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn

from ..errors import InputError
from ..model.block import Block, Branch, MixingBlock
from ..model.embed import ConvEmbedding, MergeEmbedding
from ..model.heads import AveragedLinear, Head, MLPHidden
from ..model.layers import Affine, BatchNorm, ChannelMLP, DropPath, GroupNorm, LayerNorm, Scale, SquaredReLU, StarReLU
from ..model.lean.blocks import restore_blocks
from ..model.mixers.attention import ReducedAttention, SpatialReduction
from ..model.mixers.convolution import SeparableConv
from ..model.mixers.pooling import Identity, Pooling
from .folded_modules import BareGroupNorm, PooledBlock, PooledResidual, ScaledPooling, ShiftedSquaredReLU
from .layer_table import layer_of

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Linear = nn.Linear | nn.Conv2d
"""A layer that is linear in its input's channels."""
_AFFINE = (nn.LayerNorm, GroupNorm, Affine)


def fold(model: ModuleT) -> ModuleT:
    """A copy for inference in which the affines of norms, LayerScale, StarReLU's parameters and batch norms are folded
    into the layers next to them.

    For pooling after a group norm (MetaFormer, equation 4) the whole mixing branch becomes
    ``x + k · rstd(x) · (pool(x) − x)`` with one vector k. Every model of this library can be folded, detectors and
    segmenters included; if there is nothing to fold, the result is a plain copy. Outputs are equal to float32 rounding.
    Modules that are used in several places, or that have hooks, stay as they are.

    Args:
        model: any module; it is not changed.

    Returns:
        A module of the same class in evaluation mode, without gradients. Its ``folded`` lists what was folded.

    Raises:
        InputError: ``model`` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"fold: expected a module, got {type(model).__name__}; create_model(NAME) builds one")
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    restore_blocks(folded)  # lean blocks read their norms' affines, which are folded below
    report: list[str] = []
    with torch.no_grad():
        kept = _kept(folded)
        for name, part in list(folded.named_modules()):
            if kept & set(map(id, part.modules())):
                continue
            for kind, step in _STEPS.items():
                if isinstance(part, kind):
                    report += [f"{name}.{line}" for line in step(part)]
        report += _pooled_blocks(folded, kept)
    folded.folded = tuple(report)  # type: ignore[assignment]  # an attribute that is no module
    return folded


def _kept(model: nn.Module) -> set[int]:
    """The ids of modules that must stay: used in several places, with hooks, or with parametrized weights."""
    places = Counter(id(part) for _, part in model.named_modules(remove_duplicate=False))
    kept = {
        id(part)
        for part in model.modules()
        if places[id(part)] > 1 or part._forward_hooks or part._forward_pre_hooks or hasattr(part, "parametrizations")
    }
    if getattr(getattr(model, "spec", None), "tokens", None) is None:
        return kept
    # Padding of a sequence is zero in front of these convolutions, so a norm's bias would not be the same everywhere.
    return kept | {id(part) for part in model.modules() if isinstance(part, (ConvEmbedding, SpatialReduction))}


# --- what is folded in each kind of module ------------------------------------------------------------------------


def _block(block: Block | MixingBlock) -> list[str]:
    """Scales into the last layer of their branch, norms into its first one."""
    done = _branch(block, "norm1", "mixer", "branch1")
    return done + (_branch(block, "norm2", "mlp", "branch2") if isinstance(block, Block) else [])


def _branch(block: Any, norm_name: str, part_name: str, branch_name: str) -> list[str]:
    norm, branch = getattr(block, norm_name), getattr(block, branch_name)
    scales = [one for one in branch if isinstance(one, Scale)]
    part = _scaled_pooling(getattr(block, part_name), norm, scales)
    setattr(block, part_name, part)
    done = []
    for scale in scales:
        if _scaled_output(part, scale.scale) or (isinstance(part, Identity) and _scaled_norm(norm, scale.scale)):
            branch = Branch(*(one for one in branch if one is not scale))
            done.append(f"{branch_name}.layer_scale into {part_name}")
    setattr(block, branch_name, Branch(*(one for one in branch if not isinstance(one, DropPath))))
    if _norm_into(norm, part):
        setattr(block, norm_name, _without_affine(norm))
        done.append(f"{norm_name} into {part_name}")
    return done


def _scaled_pooling(part: nn.Module, norm: Any, scales: list[Scale]) -> nn.Module:
    """Pooling with a factor per channel, where a norm or a scale has one to fold; any other mixer as it is."""
    beside = [scale.scale for scale in scales] + ([norm.weight] if _affine_of(norm) is not None else [])
    if not isinstance(part, Pooling) or not beside:
        return part
    return ScaledPooling(torch.ones_like(beside[0]), kernel=part.kernel, subtract=part.subtract)


def _mlp(mlp: ChannelMLP) -> list[str]:
    """StarReLU's scale and bias into the second layer."""
    if not isinstance(mlp.act, StarReLU):
        return []
    _affine_input(mlp.fc2, mlp.act.scale.expand(mlp.fc2.in_features), mlp.act.bias.expand(mlp.fc2.in_features))
    mlp.act = SquaredReLU()
    return ["act into fc2"]


def _separable(mixer: SeparableConv) -> list[str]:
    """StarReLU's scale into the depthwise layer. Its bias stays, because that layer pads with zeros."""
    # The bias is divided by the scale below.
    if not isinstance(mixer.act, StarReLU) or not bool(mixer.act.scale.ne(0).all()):
        return []
    scale, bias = mixer.act.scale.double(), mixer.act.bias.double()
    _affine_input(mixer.dwconv, mixer.act.scale.expand(mixer.dwconv.in_channels), None)
    shifted = (bias / scale).to(mixer.act.bias.dtype)
    mixer.act = ShiftedSquaredReLU(shifted) if bool(bias.ne(0).any()) else SquaredReLU()
    return ["act.scale into dwconv"]


def _embedding(embed: Any) -> list[str]:
    if not _norm_into(embed.pre_norm, embed.conv):
        return []
    embed.pre_norm = _without_affine(embed.pre_norm)
    return ["pre_norm into conv"]


def _merge(embed: Any) -> list[str]:
    if not _norm_into(embed.norm, embed.reduction):
        return []
    embed.norm = _without_affine(embed.norm)
    return ["norm into reduction"]


def _head(head: Any) -> list[str]:
    """The final norm's affine into the next linear layer: the mean over tokens, or taking one, commutes with it."""
    done = []
    target = head.hidden if isinstance(head.hidden, MLPHidden) else head.fc
    if isinstance(head.hidden, MLPHidden) and _norm_into(head.hidden.norm, head.fc):
        head.hidden.norm = _without_affine(head.hidden.norm)
        done.append("hidden.norm into fc")
    for name in ("norm", "pre_norm"):
        norm = getattr(head, name)
        if isinstance(norm, nn.Identity):
            continue
        if not _norm_into(norm, target):
            break  # the norm before this one would have to pass through it
        setattr(head, name, _without_affine(norm))
        done.append(f"{name} into {'hidden' if target is head.hidden else 'fc'}")
        break
    return done


def _convolutions(parent: nn.Module) -> list[str]:
    """Batch norms into the convolution directly before them, as in CNNs and in dense heads."""
    children = list(parent.named_children())
    done = []
    for (conv_name, conv), (norm_name, norm) in pairwise(children):
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            continue
        if _fit(conv, norm) and _follows(parent, conv_name, norm_name):
            weight, bias = _statistics_as_affine(norm)
            _scaled_output(conv, weight)
            _added_output(conv, bias)
            setattr(parent, norm_name, _remainder(norm))
            done.append(f"{norm_name} into {conv_name}")
    return done


def _fit(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    return conv.out_channels == norm.num_features and norm.running_var is not None


def _follows(parent: nn.Module, conv: str, norm: str) -> bool:
    """Whether a norm, and only it, reads the output of a convolution. The order of attributes does not prove it."""
    if type(parent) is nn.Sequential:
        return True
    try:
        calls = [node for node in _Calls().trace(parent).nodes if node.op == "call_module"]
    except Exception:  # symbolic tracing fails with any exception of the user's code
        return False
    convs, norms = ([node for node in calls if node.target == name] for name in (conv, norm))
    return len(convs) == len(norms) == 1 and norms[0].args == (convs[0],) and set(convs[0].users) == set(norms)


class _Calls(fx.Tracer):
    """Traces one ``forward`` without entering the modules that it calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Every module is a leaf."""
        return True


def _remainder(norm: nn.Module) -> nn.Module:
    """What remains of a batch norm module: timm's contain an activation."""
    return getattr(norm, "act", None) or nn.Identity()


def _pooled_blocks(model: nn.Module, kept: set[int]) -> list[str]:
    """Replace blocks of group norm, scaled pooling and a plain shortcut by ``PooledBlock``."""
    done = []
    for parent_name, parent in list(model.named_modules()):
        for name, block in list(parent.named_children()):
            if isinstance(block, Block) and _is_pooled(block) and not kept & set(map(id, block.modules())):
                setattr(parent, name, _pooled_block(block))
                done.append(f"{parent_name}.{name}: group norm, pooling and shortcut as one")
    return done


def _is_pooled(block: Block) -> bool:
    plain = (block.branch1, block.skip1, block.out_norm1, block.out_norm2)
    return (
        isinstance(block.norm1, GroupNorm)
        and block.norm1.weight is None
        and isinstance(block.mixer, ScaledPooling)
        and block.mixer.pooling.subtract
        and all(isinstance(part, nn.Identity) or (isinstance(part, Branch) and not len(part)) for part in plain)
    )


def _pooled_block(block: Any) -> PooledBlock:
    mixer = block.mixer
    pooled = PooledResidual(mixer.factor, eps=block.norm1.eps, kernel=mixer.pooling.kernel)
    return PooledBlock(pooled=pooled, norm2=block.norm2, mlp=block.mlp, branch2=block.branch2, skip2=block.skip2).eval()


# --- affines ------------------------------------------------------------------------------------------------------


def _affine_of(norm: Any) -> tuple[Tensor, Tensor | None] | None:
    """Scale and shift (C,) of a norm; None for other modules and for norms without."""
    if isinstance(norm, BatchNorm):
        return None if norm.running_var is None else _statistics_as_affine(norm)
    found: Any = norm  # mypy narrows three classes to their common base, a plain module
    return (found.weight, found.bias) if isinstance(norm, _AFFINE) and found.weight is not None else None


def _statistics_as_affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A batch norm with fixed statistics as scale and shift, in float64."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    # In float64: rounding happens once, when the folded weight is stored.
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.double()


def _without_affine(norm: nn.Module) -> Any:
    """What remains of a norm whose affine was folded."""
    if isinstance(norm, GroupNorm):
        return BareGroupNorm(norm.dim, norm.eps)
    if isinstance(norm, (LayerNorm, nn.LayerNorm)):
        norm.register_parameter("weight", None)
        norm.register_parameter("bias", None)
        return norm
    return nn.Identity()


def _scaled_norm(norm: Any, scale: Tensor) -> bool:
    """Fold a scale into the norm itself; correct only if the mixer between them is the identity."""
    affine = _affine_of(norm)
    if affine is None or isinstance(norm, BatchNorm):
        return False
    for name, vector in zip(("weight", "bias"), affine, strict=True):
        if vector is not None:
            _set(norm, name, vector.double() * scale.double())
    return True


def _norm_into(norm: nn.Module, part: nn.Module) -> bool:
    """Fold a norm's affine into the layers that read its output. False, with nothing changed, if that is not exact."""
    affine, readers = _affine_of(norm), _readers(part)
    if affine is None:
        return False
    weight, bias = affine
    if isinstance(part, ScaledPooling):
        return _into_pooling(part, weight, bias)
    if not readers or (_nonzero(bias) and any(_pads(layer) for layer in readers)):
        return False
    for layer in readers:
        _affine_input(layer, weight, bias if _nonzero(bias) else None)
    return True


def _into_pooling(part: Any, weight: Tensor, bias: Tensor | None) -> bool:
    if _nonzero(bias) and not part.pooling.subtract:
        return False
    _set(part, "factor", part.factor.double() * weight.double())
    return True


def _nonzero(bias: Tensor | None) -> bool:
    return bias is not None and bool(bias.ne(0).any())


def _pads(layer: Linear) -> bool:
    return isinstance(layer, nn.Conv2d) and any(int(side) > 0 for side in layer.padding)


def _readers(part: nn.Module) -> list[Linear]:
    """The linear layers that read a part's input; empty if anything else reads it too."""
    if isinstance(part, (nn.Linear, nn.Conv2d)):
        return [part]
    if isinstance(part, ReducedAttention):
        source = part.reduction.conv if isinstance(part.reduction, SpatialReduction) else part.kv
        return [part.q, source]
    if isinstance(part, AveragedLinear):
        return list(part.layers)  # type: ignore[arg-type]
    reads = layer_of(part).reads
    return [getattr(part, reads)] if reads else []


def _scaled_output(part: nn.Module, scale: Tensor) -> bool:
    """Fold a scale (C,) into the layer whose output it multiplies; False if there is none."""
    if isinstance(part, ScaledPooling):
        _set(part, "factor", part.factor.double() * scale.double())
        return True
    if isinstance(part, (nn.Linear, nn.Conv2d)):
        _set(part, "weight", part.weight.double() * _along(scale.double(), part.weight, 0))
        if part.bias is not None:
            _set(part, "bias", part.bias.double() * scale.double())
        return True
    writes = layer_of(part).writes
    return _scaled_output(getattr(part, writes), scale) if writes else False


def _added_output(layer: Linear, shift: Tensor) -> None:
    _set(layer, "bias", shift.double() if layer.bias is None else layer.bias.double() + shift.double())


def _affine_input(layer: Linear, weight: Tensor, bias: Tensor | None) -> None:
    """Change a layer of ``weight · x + bias`` into one of x."""
    matrix = layer.weight.double()
    if bias is not None:
        _added_output(layer, _constant_output(layer, bias.double()))
    grouped = isinstance(layer, nn.Conv2d) and layer.groups > 1
    if not grouped:
        _set(layer, "weight", matrix * _along(weight.double(), matrix, 1))
        return
    # Grouped convolutions here are depthwise: row i of the kernel reads channel i.
    _set(layer, "weight", matrix * _along(weight.double(), matrix, 0))


def _constant_output(layer: Linear, bias: Tensor) -> Tensor:
    """The output of a layer without padding for an input that is the same at every place."""
    matrix = layer.weight.double()
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return matrix.flatten(1).sum(1) * bias
    return matrix.flatten(2).sum(2) @ bias if matrix.ndim > 2 else matrix @ bias


def _along(vector: Tensor, matrix: Tensor, axis: int) -> Tensor:
    return vector.view([-1 if i == axis else 1 for i in range(matrix.ndim)])


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    reference = next(module.parameters())
    setattr(module, name, nn.Parameter(value.to(reference.dtype), requires_grad=False))


_STEPS: dict[Any, Callable[[Any], list[str]]] = {
    ChannelMLP: _mlp,
    SeparableConv: _separable,
    (Block, MixingBlock): _block,
    ConvEmbedding: _embedding,
    MergeEmbedding: _merge,
    Head: _head,
    nn.Module: _convolutions,
}
"""What is done for each kind of module; ``nn.Module`` is every one."""
