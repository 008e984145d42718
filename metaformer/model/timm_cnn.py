"""timm's CNNs, which MetaFormers are compared with, with the methods of our classifiers.

In: a ``TimmSpec``. Out: a module with timm's unchanged model as ``cnn``, so that its parameters have timm's names after
``cnn.``. Feature maps begin at stride 4, as in all other models here; timm's map of stride 2 is left out. timm is
imported when the first such model is built, because the import takes seconds.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any, Literal, Unpack, overload

from torch import Tensor, nn

from ..errors import SpecError, did_you_mean
from ..spec.model import TimmSpec
from ..types import Preprocessing
from .classifier import FeatureInfo, MapInfo, MapOptions, check_pooling, chosen_indices, in_format, timm_config
from .inputs import check_images
from .parameter_groups import Patterns

PREFIX = "cnn."
"""Prefix of timm's parameter names."""
FINEST = 4
"""Stride of the finest feature map."""


def timm_cnn(spec: TimmSpec) -> Any:
    """timm's model of a spec, with timm's initial values.

    Raises:
        SpecError: timm has no such model, or it is no CNN with feature maps of stride 4 and more.
    """
    import timm

    if not timm.is_model(spec.architecture):
        near = did_you_mean(spec.architecture, timm.list_models())
        raise SpecError(f"architecture: timm {timm.__version__} has no {spec.architecture!r}. {near}".rstrip())
    cnn: Any = timm.create_model(
        spec.architecture,
        num_classes=spec.num_classes,
        in_chans=spec.in_chans,
        drop_rate=spec.dropout,
        drop_path_rate=spec.drop_path_rate,
    )
    if cnn.pretrained_cfg.get("fixed_input_size") or not hasattr(cnn, "forward_intermediates") or not maps(cnn):
        raise SpecError(
            f"architecture: expected a CNN with maps of strides 4 to 32, and timm's {spec.architecture} has none; "
            "Transformers and MLPs are built from a ModelSpec"
        )
    return cnn


def maps(cnn: Any) -> list[tuple[int, dict[str, Any]]]:
    """timm's number and its description of each map of stride 4 and more."""
    return [(i, info) for i, info in enumerate(cnn.feature_info) if info["reduction"] >= FINEST]


def feature_info(cnn: Any) -> FeatureInfo:
    """Channels and reductions of these maps, counted from 0."""
    return FeatureInfo(
        MapInfo(num_chs=info["num_chs"], reduction=info["reduction"], module=f"{PREFIX}{info['module']}", index=index)
        for index, (_, info) in enumerate(maps(cnn))
    )


class TimmClassifier(nn.Module):
    """Images ``(B, C, H, W)`` to class scores ``(B, K)``, by a CNN of timm."""

    def __init__(self, spec: TimmSpec, *, name: str, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.cnn = timm_cnn(spec)
        self.spec, self.name, self.preprocessing = spec, name, preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K), or to (B, C) pooled features when ``num_classes`` is 0."""
        check_images(images, self.spec.in_chans)
        return self.cnn(images)

    @property
    def num_classes(self) -> int:
        """Width of the scores."""
        return self.spec.num_classes

    @property
    def num_features(self) -> int:
        """Channels of the last map."""
        return self.cnn.num_features

    @property
    def head_hidden_size(self) -> int:
        """Width of the input of the last linear layer."""
        return self.cnn.head_hidden_size

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels and reductions of the maps of strides 4, 8, 16 and 32."""
        return feature_info(self.cnn)

    @property
    def first_conv(self) -> str:
        """Name of the first convolution."""
        return PREFIX + self.cnn.pretrained_cfg["first_conv"]

    @property
    def last_layer(self) -> str:
        """Name of the last linear layer."""
        return PREFIX + self.cnn.pretrained_cfg["classifier"]

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """Preprocessing and sizes as timm's tools read them."""
        return timm_config(self.name, self.spec, self.preprocessing, self.first_conv, self.last_layer)

    default_cfg = pretrained_cfg

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to the last map (B, C', H', W')."""
        check_images(images, self.spec.in_chans)
        return self.cnn.forward_features(images)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The result of ``forward_features`` to (B, K), or to the input of the last linear layer."""
        return self.cnn.forward_head(x, pre_logits=pre_logits)

    @overload
    def forward_intermediates(
        self, x: Tensor, *, intermediates_only: Literal[True], **options: Unpack[MapOptions]
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
    ) -> tuple[Tensor, list[Tensor]]: ...
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps (B, C, H, W) of strides 4, 8, 16 and 32.

        Args:
            x: images (B, C, H, W).
            indices: which, counted from 0 (negative from the end), or how many of the last; all by default.
            norm: without effect where the CNN has no final norm, as ResNets and RegNets.
            stop_early: leave out all computation after the last map; its features are then the final ones.
            output_fmt: ``NCHW`` maps or ``NLC`` tokens.
            intermediates_only: leave out the final features.

        Returns:
            The list of maps, or (final features, list of maps).
        """
        chosen, theirs = _chosen(self.cnn, indices)
        check_images(x, self.spec.in_chans)
        final, found = self.cnn.forward_intermediates(x, indices=theirs, norm=norm, stop_early=stop_early)
        seen = in_format(_in_order(chosen, found), output_fmt)
        return seen if intermediates_only else (final, seen)

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.cnn.get_classifier()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh last layer for another number of classes; 0 gives pooled features."""
        check_pooling(global_pool, self.spec)
        self.spec = self.spec.with_changes(num_classes=num_classes)
        self.cnn.reset_classifier(num_classes)
        # timm builds the new layer on the CPU in float32.
        reference = next(self.parameters())
        self.cnn.get_classifier().to(device=reference.device, dtype=reference.dtype)

    def no_weight_decay(self) -> set[str]:
        """Parameters that optimizers should not decay beyond the one-dimensional ones: those that timm names."""
        return cnn_without_decay(self.cnn, PREFIX)

    def group_matcher(self, coarse: bool = False) -> Patterns:
        """Parameter names to layers, for layer-wise learning rates: timm's patterns for the names here."""
        return cnn_layer_patterns(self.cnn, PREFIX, coarse)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass: less memory, more time."""
        self.cnn.set_grad_checkpointing(enable)


class TimmFeatures(nn.Module):
    """``features_only=True``: images to the maps of chosen strides, largest first."""

    def __init__(self, model: TimmClassifier, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__()
        info, whole = model.feature_info, set(model.state_dict())
        self.out_indices, self._theirs = _chosen(model.cnn, out_indices)
        self.first_conv, self.last_layer = model.first_conv, model.last_layer
        self.cnn = copy.deepcopy(model.cnn)  # pruning changes it, and the classifier must keep its last layers
        self.cnn.prune_intermediate_layers(self._theirs)
        self.pruned = frozenset(whole - set(self.state_dict()))
        self.spec, self.name, self.preprocessing = model.spec, model.name, model.preprocessing
        self.feature_info = FeatureInfo(info[i] for i in self.out_indices)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) to a list of maps (B, C_i, H_i, W_i)."""
        check_images(images, self.spec.in_chans)
        found = self.cnn.forward_intermediates(images, indices=self._theirs, stop_early=True, intermediates_only=True)
        return _in_order(self.out_indices, found)

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """Preprocessing and sizes as timm's tools read them."""
        return timm_config(self.name, self.spec, self.preprocessing, self.first_conv, self.last_layer)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass: less memory, more time."""
        self.cnn.set_grad_checkpointing(enable)


def _chosen(cnn: Any, indices: int | Sequence[int] | None) -> tuple[list[int], list[int]]:
    """The numbers of our maps in the given order, and timm's numbers of the same maps, sorted."""
    numbers = [number for number, _ in maps(cnn)]
    chosen = chosen_indices(indices, len(numbers))
    return chosen, [numbers[i] for i in sorted(set(chosen))]


def _in_order(chosen: Sequence[int], found: Sequence[Tensor]) -> list[Tensor]:
    """timm's maps, sorted from the first to the last, in the order of ``chosen``."""
    by_index = dict(zip(sorted(set(chosen)), found, strict=True))
    return [by_index[i] for i in chosen]


def cnn_without_decay(cnn: Any, prefix: str) -> set[str]:
    """Parameters that timm does not decay beyond the one-dimensional ones, by their names with a prefix."""
    return {prefix + name for name in cnn.no_weight_decay()} if hasattr(cnn, "no_weight_decay") else set()


def cnn_layer_patterns(cnn: Any, prefix: str, coarse: bool) -> Patterns:
    """timm's patterns for layer-wise learning rates, for names with a prefix."""

    def prefixed(pattern: str) -> str:
        # timm anchors every alternative of a pattern by itself; with the prefix one anchor in front must do for all.
        return rf"^{re.escape(prefix)}(?:{pattern.replace('^', '')})"

    return {
        key: prefixed(pattern) if isinstance(pattern, str) else [(prefixed(one), order) for one, order in pattern]
        for key, pattern in cnn.group_matcher(coarse=coarse).items()
    }
