"""A backbone with a head: the model that ``create_model`` returns, with timm's conventions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Literal, TypedDict, Unpack, overload

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..spec.model import AnySpec, ModelSpec
from ..types import Grid, Preprocessing
from .backbone import Backbone, grid_map
from .heads import Head
from .layers import normalize
from .parameter_groups import Patterns, layer_patterns, without_decay
from .tokens import check_mask


class MapInfo(TypedDict):
    """A feature map, as timm's tools describe it."""

    num_chs: int
    """Channels."""
    reduction: int
    """By how much it is smaller than the image."""
    module: str
    """Name of the module whose output it is."""
    index: int
    """Its number."""


class FeatureInfo(list[MapInfo]):
    """The feature maps of a model, with timm's accessors."""

    @overload
    def channels(self, idx: int) -> int: ...
    @overload
    def channels(self, idx: Sequence[int] | None = None) -> list[int]: ...
    def channels(self, idx: Sequence[int] | int | None = None) -> list[int] | int:
        """Widths of the maps."""
        return self.get("num_chs", idx)

    @overload
    def reduction(self, idx: int) -> int: ...
    @overload
    def reduction(self, idx: Sequence[int] | None = None) -> list[int]: ...
    def reduction(self, idx: Sequence[int] | int | None = None) -> list[int] | int:
        """By how much the maps are smaller than the image."""
        return self.get("reduction", idx)

    @overload
    def module_name(self, idx: int) -> str: ...
    @overload
    def module_name(self, idx: Sequence[int] | None = None) -> list[str]: ...
    def module_name(self, idx: Sequence[int] | int | None = None) -> list[str] | str:
        """Names of the stages' modules."""
        return self.get("module", idx)

    def get(
        self, key: Literal["num_chs", "reduction", "module", "index"], idx: Sequence[int] | int | None = None
    ) -> Any:
        """One entry of all maps, of some, or of one."""
        if isinstance(idx, int):
            return self[idx][key]
        return [self[i][key] for i in (range(len(self)) if idx is None else idx)]


def isotropic(spec: ModelSpec) -> bool:
    """Whether the model has a single stage; its feature maps are then those of its blocks."""
    return len(spec.stages) == 1


def feature_info(spec: ModelSpec) -> FeatureInfo:
    """Channels and reductions of every stage; of every block where there is a single stage."""
    if isotropic(spec):
        stage, reduction = spec.stages[0], spec.reductions()[0]
        return FeatureInfo(
            MapInfo(num_chs=stage.width, reduction=reduction, module=f"backbone.stages.0.blocks.{j}", index=j)
            for j in range(stage.depth)
        )
    return FeatureInfo(
        MapInfo(num_chs=stage.width, reduction=reduction, module=f"backbone.stages.{i}", index=i)
        for i, (stage, reduction) in enumerate(zip(spec.stages, spec.reductions(), strict=True))
    )


FIRST_CONV = "backbone.stages.0.embed.conv"
"""Name of the first convolution."""
LAST_LAYER = "head.fc"
"""Name of the last linear layer."""


def timm_config(
    name: str, spec: AnySpec, preprocessing: Preprocessing, first_conv: str = FIRST_CONV, last_layer: str = LAST_LAYER
) -> dict[str, Any]:
    """Preprocessing and sizes as timm's tools read them from a model."""
    return {
        "architecture": name,
        "input_size": (spec.in_chans, *preprocessing.size),
        "crop_pct": preprocessing.crop,
        "interpolation": preprocessing.interpolation,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "num_classes": spec.num_classes,
        "first_conv": first_conv,
        "classifier": last_layer,
    }


class MapOptions(TypedDict, total=False):
    """Arguments of ``forward_intermediates``, described there."""

    indices: int | Sequence[int] | None
    norm: bool
    stop_early: bool
    output_fmt: str


def check_pooling(global_pool: str | None, spec: AnySpec) -> None:
    """Refuse timm's ``global_pool`` unless it names the model's own pooling."""
    readout = spec.head.readout if isinstance(spec, ModelSpec) else "mean"
    own = {"mean": "avg", "token": "token", "none": ""}[readout]
    if global_pool not in (None, own):
        raise InputError(f"global_pool: expected None or {own!r}, the model's own, got {global_pool!r}")


class Classifier(nn.Module):
    """Images ``(B, C, H, W)``, or token ids ``(B, L)``, to class scores ``(B, K)``.

    For sequences that were padded to one length every call takes a ``mask`` (B, L), true where a token is real.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        *,
        spec: ModelSpec,
        name: str,
        preprocessing: Preprocessing,
        make_head: Callable[[ModelSpec], Head],
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self._make_head = make_head
        self.spec, self.name, self.preprocessing = spec, name, preprocessing

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) or (B, L) to (B, K), or to (B, C) pooled features when ``num_classes`` is 0."""
        return self.head(*self.backbone(inputs, mask))

    @property
    def num_classes(self) -> int:
        """Width of the scores."""
        return self.spec.num_classes

    @property
    def num_features(self) -> int:
        """Channels of the last stage."""
        return self.spec.stages[-1].width

    @property
    def head_hidden_size(self) -> int:
        """Width of the input of the last linear layer."""
        head = self.spec.head
        return int(self.num_features * head.mlp_ratio) if head.kind == "mlp" else self.num_features

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels and reductions of every stage; of every block where there is a single stage."""
        return feature_info(self.spec)

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """Preprocessing and sizes as timm's tools read them."""
        return timm_config(self.name, self.spec, self.preprocessing)

    default_cfg = pretrained_cfg  # timm's older name, which its tools still read

    def forward_features(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) to the last map (B, C', H', W'), before the final norm.

        A model with prefix tokens, and one of sequences, gives its tokens (B, P + N, C') instead.
        """
        return _features(*self.backbone(inputs, mask)[:2])

    def forward_head(self, x: Tensor, pre_logits: bool = False, mask: Tensor | None = None) -> Tensor:
        """The result of ``forward_features`` to (B, K), or to the input of the last linear layer.

        ``mask`` (B, N) is that of the last stage, without prefix tokens: the mask of the input, unless a stage made
        the sequence shorter.
        """
        if x.ndim == 4:  # a map; a model with prefix tokens gives tokens, which keep no grid but need none
            grid: Grid = tuple(x.shape[2:])
            return self.head(x.permute(0, 2, 3, 1).flatten(1, 2), grid, pre_logits=pre_logits)
        if mask is not None:
            mask = F.pad(check_mask(mask, x[:, self.num_prefix_tokens :]), (self.num_prefix_tokens, 0), value=True)
        return self.head(x, (x.shape[1] - self.num_prefix_tokens,), mask, pre_logits=pre_logits)

    @property
    def num_prefix_tokens(self) -> int:
        """How many learned tokens are in front of the grid's tokens in the last stage."""
        return sum(stage.prefix_tokens for stage in self.spec.stages)

    @overload
    def forward_intermediates(
        self, x: Tensor, *, intermediates_only: Literal[True], mask: Tensor | None = None, **options: Unpack[MapOptions]
    ) -> list[Tensor]: ...
    @overload
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: Literal[False] = False,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]: ...
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        mask: Tensor | None = None,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps (B, C, H, W) of chosen stages; of chosen blocks where there is a single stage.

        Args:
            x: images (B, C, H, W), or token ids (B, L), whose maps are (B, C, L).
            indices: which, counted from 0 (negative from the end), or how many of the last; all by default.
            norm: put the last map through the final norm; each map where there is a single stage.
            stop_early: leave out all computation after the last map; its features are then the final ones.
            output_fmt: ``NCHW`` maps or ``NLC`` tokens.
            intermediates_only: leave out the final features.
            mask: (B, L), true where a token is real.

        Returns:
            The list of maps, or (final features, list of maps).
        """
        by_block = isotropic(self.spec)
        chosen = chosen_indices(indices, len(self.feature_info))
        backbone = self.backbone.up_to(max(chosen), by_block) if stop_early else self.backbone
        seen = backbone.intermediates(x, by_block, mask)
        maps = []
        for i in chosen:
            tokens, grid, real = seen[i]
            if norm and self._last_width(i):
                tokens = normalize(self.head.pre_norm, tokens, real)
            maps.append(grid_map(tokens, grid))
        maps = in_format(maps, output_fmt)
        return maps if intermediates_only else (_features(*seen[-1][:2]), maps)

    def _last_width(self, index: int) -> bool:
        """Whether the final norm fits: behind the last stage, or behind any block of a single one."""
        return isotropic(self.spec) or index == len(self.spec.stages) - 1

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh head for another number of classes; 0 gives pooled features."""
        check_pooling(global_pool, self.spec)
        self.spec = self.spec.with_changes(num_classes=num_classes)
        reference = next(self.parameters())
        fresh = self._make_head(self.spec).to(device=reference.device, dtype=reference.dtype)
        # The final norm stays: it belongs to the features and has learned their scale.
        self.head.hidden, self.head.fc = fresh.hidden, fresh.fc

    def no_weight_decay(self) -> set[str]:
        """Parameters that optimizers should not decay beyond the one-dimensional ones: positions and prefix tokens."""
        return without_decay(self)

    def group_matcher(self, coarse: bool = False) -> Patterns:
        """Parameter names to layers, for layer-wise learning rates."""
        return layer_patterns(r"backbone\.", coarse)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass: less memory, more time."""
        self.backbone.set_grad_checkpointing(enable)


class FeatureExtractor(nn.Module):
    """``features_only=True``: images to the maps of chosen stages, largest first.

    A model with a single stage gives the maps of chosen blocks, by default of the last three.
    """

    def __init__(self, model: Classifier, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__()
        info, self.by_block = model.feature_info, isotropic(model.spec)
        if out_indices is None and self.by_block:
            out_indices = min(3, len(info))  # as timm's ViTs
        self.out_indices = chosen_indices(out_indices, len(info))
        self.backbone = model.backbone.up_to(max(self.out_indices), self.by_block)
        self.spec, self.name, self.preprocessing = model.spec, model.name, model.preprocessing
        self.feature_info = FeatureInfo(info[i] for i in self.out_indices)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """(B, C, H, W) to a list of maps (B, C_i, H_i, W_i); (B, L) to (B, C_i, L_i). Prefix tokens are left out."""
        seen = self.backbone.intermediates(inputs, self.by_block, mask)
        return [grid_map(*seen[i][:2]) for i in self.out_indices]

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """Preprocessing and sizes as timm's tools read them."""
        return timm_config(self.name, self.spec, self.preprocessing)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass: less memory, more time."""
        self.backbone.set_grad_checkpointing(enable)


def in_format(maps: list[Tensor], output_fmt: str) -> list[Tensor]:
    """Maps (B, C, H, W) or (B, C, L) as they are for ``NCHW``, as tokens (B, N, C) for ``NLC``."""
    if output_fmt not in ("NCHW", "NLC"):
        raise InputError(f"output_fmt: expected 'NCHW' or 'NLC', got {output_fmt!r}")
    return maps if output_fmt == "NCHW" else [m.flatten(2).transpose(1, 2) for m in maps]


def _features(tokens: Tensor, grid: Grid) -> Tensor:
    """The map of the tokens; the tokens themselves for a sequence or where there are prefix tokens."""
    return tokens if len(grid) == 1 or tokens.shape[1] > prod(grid) else grid_map(tokens, grid)


def chosen_indices(indices: int | Sequence[int] | None, count: int) -> list[int]:
    """Indices from timm's argument: None for all, a number for the last so many, or a list (negative allowed).

    Raises:
        InputError: out of range, or no integers.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int) and not isinstance(indices, bool):
        if not 1 <= indices <= count:
            raise InputError(f"indices: a number means the last so many: expected 1 to {count}, got {indices}")
        return list(range(count - indices, count))
    if isinstance(indices, (str, bool)) or not isinstance(indices, Sequence) or not all(map(_is_whole, indices)):
        raise InputError(f"indices: expected integers such as (0, {count - 1}), got {indices!r}")
    if not indices:
        raise InputError(f"indices: expected at least one of 0 to {count - 1}, got none")
    for index in indices:
        if not -count <= index < count:
            raise InputError(f"indices: expected 0 to {count - 1}, got {index}")
    return [index % count for index in indices]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
