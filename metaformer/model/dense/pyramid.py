"""Any backbone as a pyramid: images to maps, each with twice the stride of the one before.

In: the spec of a classifier. Out: a module that gives maps ``(B, C_i, H / s_i, W / s_i)``, finest first, with
``channels`` and ``strides``. Stages of different strides give a map each, after a norm of its own, as in the dense
models of "MetaFormer Is Actually What You Need for Vision" (sections 4.2, 4.3). A model with one stride gets a simple
pyramid from its last map (ViTDet, section 3). timm's CNNs give their maps unchanged.
"""

from __future__ import annotations

from itertools import pairwise
from math import log2

from torch import Tensor, nn

from ...errors import SpecError
from ...spec.model import AnySpec, ModelSpec, TimmSpec
from ...types import Preprocessing
from ..backbone import Backbone, grid_map
from ..build import build_backbone, build_norm, initialize
from ..layers import LayerNorm
from ..timm_cnn import TimmClassifier, TimmFeatures
from ..tokens import to_map, to_tokens


class StagePyramid(Backbone):
    """The maps of chosen stages, each after its own norm."""

    def __init__(
        self, backbone: Backbone, norms: dict[int, nn.Module], channels: list[int], strides: list[int]
    ) -> None:
        super().__init__(list(backbone.stages), backbone.input_part)  # type: ignore[arg-type]
        self.norms = nn.ModuleDict({str(stage): norm for stage, norm in norms.items()})
        self.channels, self.strides = channels, strides

    def forward(self, images: Tensor) -> list[Tensor]:  # type: ignore[override]
        """(B, C, H, W) to maps (B, C_i, H_i, W_i), prefix tokens left out."""
        seen = self.intermediates(images)
        return [grid_map(norm(seen[int(stage)][0]), seen[int(stage)][1]) for stage, norm in self.norms.items()]


class SimplePyramid(Backbone):
    """Four maps from the last one, after the final norm (ViTDet, section 3)."""

    def __init__(
        self, backbone: Backbone, norm: nn.Module, levels: list[nn.Module], channels: list[int], strides: list[int]
    ) -> None:
        super().__init__(list(backbone.stages), backbone.input_part)  # type: ignore[arg-type]
        self.norm = norm
        self.levels = nn.ModuleList(levels)
        self.channels, self.strides = channels, strides

    def forward(self, images: Tensor) -> list[Tensor]:  # type: ignore[override]
        """(B, C, H, W) to maps (B, C_i, H_i, W_i), prefix tokens left out."""
        tokens, grid, _ = super().forward(images)
        last = grid_map(self.norm(tokens), grid)
        return [level(last) for level in self.levels]


class CNNPyramid(TimmFeatures):
    """The maps of one of timm's CNNs."""

    def __init__(self, cnn: TimmClassifier, first: int) -> None:
        super().__init__(cnn, list(range(first, len(cnn.feature_info))))
        self.channels: list[int] = self.feature_info.channels()
        self.strides: list[int] = self.feature_info.reduction()


Pyramid = StagePyramid | SimplePyramid | CNNPyramid


def build_pyramid(spec: AnySpec, name: str, preprocessing: Preprocessing, skip_finest: bool) -> Pyramid:
    """The pyramid of a backbone, freshly initialized.

    Args:
        spec: the backbone.
        name: name of the classifier, for its published weights.
        preprocessing: how images are prepared for it.
        skip_finest: leave out the finest map and its norm, as RetinaNet does.

    Raises:
        SpecError: the strides of the stages do not make a pyramid.
    """
    first = int(skip_finest)
    if isinstance(spec, TimmSpec):
        return CNNPyramid(TimmClassifier(spec, name=name, preprocessing=preprocessing), first)
    if len(set(spec.reductions())) == 1:
        return _simple_pyramid(spec, first)
    stages = _last_of_each_stride(spec)[first:]
    channels, strides = [spec.stages[i].width for i in stages], [spec.reductions()[i] for i in stages]
    norms = {i: build_norm(spec.stages[i].norm, spec.stages[i].width) for i in stages}
    pyramid = StagePyramid(build_backbone(spec), norms, channels, strides)
    initialize(pyramid, spec.init)
    return pyramid


def _last_of_each_stride(spec: ModelSpec) -> list[int]:
    """The last stage of each stride.

    Raises:
        SpecError: a stride is not twice the one before, or there are too few of them.
    """
    last = {stride: i for i, stride in enumerate(spec.reductions())}
    strides = list(last)
    if len(strides) < 3 or any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
        raise SpecError(
            f"backbone.stages: expected at least three strides that double, such as 4, 8, 16, 32, or a single one; got "
            f"{', '.join(map(str, strides))}"
        )
    return list(last.values())


def _simple_pyramid(spec: ModelSpec, first: int) -> SimplePyramid:
    stride, width = spec.reductions()[0], spec.stages[-1].width
    if log2(stride) % 1 or width % 4:
        raise SpecError(
            f"backbone: a single map becomes a pyramid where its stride is a power of 2 and its width a multiple of 4; "
            f"got stride {stride} and width {width}"
        )
    finest = max(stride // 4, min(stride, 4))  # 4 for patches of 16, as in ViTDet; never more than two doublings
    strides = [finest * 2**i for i in range(4)][first:]
    levels = [_level(width, stride, target) for target in strides]
    channels = [width * target // stride if target < stride else width for target in strides]
    pyramid = SimplePyramid(build_backbone(spec), build_norm(spec.head.norm, width), levels, channels, strides)
    initialize(pyramid, spec.init)
    return pyramid


def _level(width: int, stride: int, target: int) -> nn.Module:
    """From the map at ``stride`` to one at ``target``: doubled by transposed convolutions, halved by max pooling."""
    if target >= stride:
        step = target // stride
        return nn.MaxPool2d(step, step) if step > 1 else nn.Identity()
    layers: list[nn.Module] = []
    for i in range(round(log2(stride // target))):
        if i:
            layers += [MapNorm(width), nn.GELU()]
        layers.append(nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2))
        width //= 2
    return nn.Sequential(*layers)


class MapNorm(LayerNorm):
    """Normalizes each place of a map over its channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return to_map(super().forward(to_tokens(x)), tuple(x.shape[2:]))
