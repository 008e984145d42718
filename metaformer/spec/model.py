"""A classifier as data: the nine axes of a MetaFormer, and timm's CNNs by name. No torch here.

A ``ModelSpec`` decides the shape and the arithmetic of a model: embedding, position, prefix tokens, norm, mixer,
channel MLP, residual, readout and head, initialization. ``model/build.py`` turns it into modules. A spec checks itself
(messages name the field, what was expected and what it got) and converts to and from JSON.

Source of the skeleton: "MetaFormer Is Actually What You Need for Vision", section 3.1, and "MetaFormer Baselines for
Vision", section 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..errors import SpecError
from ..types import Grid
from .input import ImageInput, TokenInput
from .mixer import Mixer, MixerSpec, as_mixers
from .record import SpecRecord


@dataclass(frozen=True, kw_only=True)
class NormSpec(SpecRecord):
    """How features are normalized."""

    kind: Literal["layer", "group", "affine", "batch", "none"] = "layer"
    """``layer`` over the channels of a token; ``group`` over tokens and channels together (one group, the paper's
    "MLN"); ``affine`` scales and shifts without statistics; ``batch`` over the batch and the tokens."""
    eps: float = 1e-6
    """Added to the variance."""
    bias: bool = True
    """Whether a learned shift follows the learned scale."""

    def check(self) -> None:
        """Eps is positive."""
        self.expect(self.eps > 0, "eps", "a positive number", self.eps)


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpec(SpecRecord):
    """How a stage's tokens are made. The stem and every downsampling are the same part."""

    kind: Literal["conv", "merge", "token", "none"] = "conv"
    """``conv`` of the map; ``merge`` joins 2 × 2 neighbors (2 in a line), then projects them; ``token`` looks ids up in
    a table (vocab, width); ``none`` keeps the tokens."""
    kernel: int = 3
    """Side of the convolution's window in pixels or tokens."""
    stride: int = 2
    """Step of the window: the grid shrinks by this factor."""
    padding: int = 1
    """Zeros around the map."""
    norm: NormSpec | None = None
    """A norm before or after the projection, or None. With ``token`` it comes after the positions are added (BERT)."""
    norm_position: Literal["before", "after"] = "after"
    """Which of the two; ``token`` has no norm before."""
    dropout: float = 0.0
    """Dropout after embedding, positions and norm."""

    def check(self) -> None:
        """Window, stride and padding are possible, and dropout is in range."""
        self.expect(0 <= self.dropout < 1, "dropout", "a rate in [0, 1)", self.dropout)
        if self.kind == "token":
            behind = self.norm_position == "after"
            self.expect(behind, "norm_position", "'after' where kind is 'token'", self.norm_position)
        self.expect(self.kernel >= 1, "kernel", "at least 1", self.kernel)
        self.expect(self.stride >= 1, "stride", "at least 1", self.stride)
        self.expect(0 <= self.padding < self.kernel, "padding", "from 0 to kernel - 1", self.padding)

    @property
    def reduction(self) -> int:
        """The factor by which each side of the grid shrinks."""
        return {"conv": self.stride, "merge": 2, "token": 1, "none": 1}[self.kind]

    @property
    def is_patches(self) -> bool:
        """Whether it splits the map into squares that do not overlap."""
        return self.kind == "conv" and self.kernel == self.stride and self.padding == 0

    def grid(self, side: Grid) -> Grid:
        """The grid that comes out of a grid that goes in."""
        if self.kind == "merge":
            return tuple(-(-n // 2) for n in side)
        if self.kind in ("token", "none"):
            return side
        return tuple((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in side)


@dataclass(frozen=True, kw_only=True)
class MLPSpec(SpecRecord):
    """The channel MLP: two linear layers over the channels of each token."""

    ratio: float = 4.0
    """Hidden width over width."""
    activation: Literal["gelu", "gelu_tanh", "relu", "silu", "squared_relu", "star_relu"] = "gelu"
    """``star_relu`` is s · relu(x)² + b with learned scalars (MetaFormer Baselines, section 2.2)."""
    bias: bool = True
    """Whether the two linear layers have biases."""
    dropout: float = 0.0
    """Dropout after the activation and after the second layer."""

    def check(self) -> None:
        """Ratio and dropout are in range."""
        self.expect(self.ratio > 0, "ratio", "a positive number", self.ratio)
        self.expect(0 <= self.dropout < 1, "dropout", "a rate in [0, 1)", self.dropout)


@dataclass(frozen=True, kw_only=True)
class ResidualSpec(SpecRecord):
    """How a branch joins the stream that runs past it."""

    on: bool = True
    """Off drops the shortcut: the paper's ablation that no longer learns."""
    norm_position: Literal["before", "after"] = "before"
    """``before`` the branch (pre-norm), or ``after`` the sum (post-norm)."""
    layer_scale: float | None = None
    """Initial value of a learned factor per channel on the branch, or None."""
    skip_scale: float | None = None
    """Initial value of a learned factor per channel on the shortcut ("ResScale"), or None."""


@dataclass(frozen=True, kw_only=True)
class StageSpec(SpecRecord):
    """An embedding and blocks of one width on one grid."""

    depth: int
    """Number of blocks."""
    width: int
    """Channels of every token."""
    embedding: EmbeddingSpec = EmbeddingSpec()
    """Stem or downsampling at the stage's entry."""
    mixer: Mixer = MixerSpec(name="pooling")  # noqa: RUF009 - a frozen record is no shared state
    """The token mixer of each block."""
    mlp: MLPSpec | None = MLPSpec()
    """The channel MLP, or None."""
    norm: NormSpec = NormSpec()
    """The norm inside the blocks."""
    residual: ResidualSpec = ResidualSpec()
    """Shortcut, norm position and scales."""
    position: bool = False
    """Whether a learned position table is added at the stage's entry. For another grid it is resampled; a shorter line
    of tokens takes its first rows, a longer one is refused."""
    position_resampling: Literal["bicubic", "bilinear"] = "bicubic"
    """How: ``bicubic`` with antialiasing (ViT in timm), or ``bilinear`` (PVT)."""
    prefix_tokens: int = 0
    """Learned tokens, such as ViT's class token, put in front of the grid's tokens at this stage."""

    def check(self) -> None:
        """Depth, width and counts are possible."""
        self.expect(self.depth >= 0, "depth", "0 or more blocks", self.depth)
        self.expect(self.width >= 1, "width", "at least 1 channel", self.width)
        self.expect(self.prefix_tokens >= 0, "prefix_tokens", "0 or more", self.prefix_tokens)


@dataclass(frozen=True, kw_only=True)
class HeadSpec(SpecRecord):
    """From the last tokens to class scores."""

    readout: Literal["mean", "token", "none"] = "mean"
    """``mean`` over the grid's real tokens; ``token``: the first prefix token, or the first real token of a sequence
    without prefix tokens (text begins with ``[CLS]``); ``none``: every token is classified."""
    norm: NormSpec | None = NormSpec()
    """The final norm, or None."""
    norm_position: Literal["before", "after"] = "before"
    """Before the readout (PoolFormer) or after it (MetaFormer Baselines)."""
    kind: Literal["linear", "mlp", "averaged"] = "linear"
    """``linear``; ``mlp`` with a squared ReLU and a norm inside; ``averaged``: a linear head per prefix token."""
    mlp_ratio: float = 4.0
    """Hidden width over width of the ``mlp`` head."""
    mlp_norm_eps: float = 1e-5
    """Eps of the ``mlp`` head's inner norm."""
    dropout: float = 0.0
    """Dropout right before the last linear layer."""

    def check(self) -> None:
        """Dropout and ratio are in range."""
        self.expect(0 <= self.dropout < 1, "dropout", "a rate in [0, 1)", self.dropout)
        self.expect(self.mlp_ratio > 0, "mlp_ratio", "a positive number", self.mlp_ratio)


@dataclass(frozen=True, kw_only=True)
class ModelSpec(SpecRecord):
    """A whole classifier as data.

    Most models read images, so ``in_chans`` and ``img_size`` are fields of their own. A model of text sets ``tokens``
    instead. ``input`` returns one record for either kind. One field for both kinds would put the image size a level
    deeper in every saved file and every call.
    """

    tag: ClassVar[str] = "classifier"
    renamed: ClassVar[Mapping[str, str]] = {"initialisation": "init"}

    stages: tuple[StageSpec, ...]
    """From the input to the last tokens."""
    head: HeadSpec = HeadSpec()
    """Readout and classifier."""
    num_classes: int = 1000
    """Width of the scores; 0 gives pooled features."""
    in_chans: int = 3
    """Channels of the image."""
    img_size: tuple[int, int] = (224, 224)
    """Height and width the model is built for. Only mixers tied to a grid refuse other sizes."""
    tokens: TokenInput | None = None
    """For a model of token ids, such as text; its first embedding has the kind ``token``. None for images."""
    drop_path_rate: float = 0.0
    """Probability of skipping a branch in the last block while training."""
    drop_path_rule: Literal["linear", "constant"] = "linear"
    """``linear`` from 0 in the first block to the rate in the last, or the same rate everywhere."""
    init: Literal["poolformer", "vit", "xavier", "trunc_normal", "torch"] = "trunc_normal"
    """``trunc_normal``: 0.02 on every linear and convolution, biases 0. ``poolformer``: the same, but convolutions keep
    PyTorch's default. ``vit``: as ``poolformer``, and 0.02 on positions and prefix tokens. ``xavier``: MLP-Mixer's,
    uniform by fan-in and fan-out, a last layer of zeros. ``torch``: PyTorch's defaults everywhere."""

    def check(self) -> None:
        """The input is large enough for every stage, and the head has the tokens it reads."""
        self.expect(len(self.stages) > 0, "stages", "at least one stage", self.stages)
        self.expect(self.num_classes >= 0, "num_classes", "0 or more", self.num_classes)
        self.expect(0 <= self.drop_path_rate < 1, "drop_path_rate", "a rate in [0, 1)", self.drop_path_rate)
        self._check_input()
        for i, stage in enumerate(self.stages[1:], start=1):
            if any(before.prefix_tokens for before in self.stages[:i]) and stage.embedding.kind != "none":
                raise SpecError(
                    f"stages[{i}].embedding.kind: expected 'none' behind a stage with prefix tokens, "
                    f"got {stage.embedding.kind!r}: prefix tokens have no place in a map"
                )
        prefix = sum(stage.prefix_tokens for stage in self.stages)
        if self.head.readout == "token" and prefix == 0 and self.tokens is None:
            raise SpecError("head.readout: expected a stage with prefix_tokens for 'token', got none")
        if self.head.kind == "averaged" and (prefix < 2 or self.head.readout != "token"):
            raise SpecError(
                "head.kind: 'averaged' has a linear layer for each of two or more prefix tokens (class and "
                f"distillation): expected head.readout='token' and prefix_tokens=2 in a stage, got "
                f"{self.head.readout!r} and {prefix}; a single token takes kind='linear'"
            )

    def _check_input(self) -> None:
        image = ImageInput(in_chans=self.in_chans, img_size=self.img_size)
        if self.tokens and image != ImageInput():
            raise SpecError(
                f"tokens: a model of tokens has no image: expected in_chans and img_size left alone, got "
                f"{self.in_chans} and {self.img_size}; tokens.length is the size"
            )
        for i, stage in enumerate(self.stages):
            looks_up, wanted = stage.embedding.kind == "token", self.tokens is not None and i == 0
            if looks_up != wanted:
                expected = "'token', which looks up the ids," if wanted else "'conv', 'merge' or 'none'"
                raise SpecError(
                    f"stages[{i}].embedding.kind: expected {expected} in {'the first' if i == 0 else 'a later'} stage "
                    f"of a model of {'tokens' if self.tokens else 'images'}, got {stage.embedding.kind!r}"
                )
        for i, grid in enumerate(self.grids()):
            if min(grid) < 1 and self.tokens:
                raise SpecError(
                    f"tokens.length: {self.tokens.length} leaves no token at stages[{i}]; use a larger length"
                )
            if min(grid) < 1:
                raise SpecError(
                    f"img_size: {self.img_size} leaves no token at stages[{i}]; "
                    "use a larger image or a smaller stem_stride"
                )

    @property
    def input(self) -> ImageInput | TokenInput:
        """The input: images or token ids."""
        return self.tokens or ImageInput(in_chans=self.in_chans, img_size=self.img_size)

    @property
    def task(self) -> str:
        """The task of such a model."""
        return "text_classification" if self.tokens else "classification"

    @property
    def pipeline_tag(self) -> str:
        """The task's name on the Hugging Face hub."""
        return "text-classification" if self.tokens else "image-classification"

    def grids(self, size: Grid | None = None) -> list[Grid]:
        """The grid of each stage for an input of ``size``: height and width, or a length (the spec's by default)."""
        grid: Grid = tuple(size or self.input.grid)
        grids = []
        for stage in self.stages:
            grid = stage.embedding.grid(grid)
            grids.append(grid)
        return grids

    def reductions(self) -> list[int]:
        """By how much each stage's grid is smaller than the image: 4, 8, 16, 32 in the published pyramids."""
        factors, factor = [], 1
        for stage in self.stages:
            factor *= stage.embedding.reduction
            factors.append(factor)
        return factors

    @property
    def mixers(self) -> tuple[Mixer, ...]:
        """The token mixer of each stage."""
        return tuple(stage.mixer for stage in self.stages)

    @property
    def stem_stride(self) -> int | None:
        """Stride of the stem's convolution; None where the stem is no convolution."""
        stem = self.stages[0].embedding
        return stem.stride if stem.kind == "conv" else None

    @property
    def summary(self) -> str:
        """A short description, as part of a sentence."""
        return "a MetaFormer"

    def with_mixers(self, mixers: object) -> ModelSpec:
        """The same model with other token mixers: one for all stages, or a list with one for each stage."""
        chosen = as_mixers(mixers, len(self.stages))
        stages = (stage.with_changes(mixer=mixer) for stage, mixer in zip(self.stages, chosen, strict=True))
        return self.with_changes(stages=tuple(stages))

    def with_stem_stride(self, stride: int) -> ModelSpec:
        """The same model for small images, with a stem of another stride.

        A stem with overlapping windows keeps its window, so that published weights still fit; its padding makes a
        stride of 1 keep the image's size. A stem of patches gets smaller patches.
        """
        first = self.stages[0]
        stem = first.embedding
        if stem.kind != "conv":
            raise SpecError(f"stem_stride: expected a convolution as stem, got {stem.kind!r}")
        self.expect(stride >= 1, "stem_stride", "at least 1", stride)
        if stride == stem.stride:
            return self
        if stem.is_patches:
            stem = stem.with_changes(kernel=stride, stride=stride)
        else:
            # Published stems pad less than half a window (2 of 7), which would shrink the map by 2 at stride 1.
            stem = stem.with_changes(stride=stride, padding=stem.kernel // 2)
        return self.with_changes(stages=(first.with_changes(embedding=stem), *self.stages[1:]))

    def with_widths(self, factor: float) -> ModelSpec:
        """The same model with all widths times ``factor``, and as many attention heads as before."""
        stages = (
            stage.with_changes(
                width=max(1, round(stage.width * factor)),
                mixer=stage.mixer.widened(factor) if isinstance(stage.mixer, MixerSpec) else stage.mixer,
            )
            for stage in self.stages
        )
        return self.with_changes(stages=tuple(stages))

    def with_dropout(self, rate: float) -> ModelSpec:
        """The same model with dropout before its last linear layer."""
        return self.with_changes(head=self.head.with_changes(dropout=rate))

    def with_timm_head(self) -> ModelSpec:
        """The same model with the final norm behind the pooling and over channels, as timm has PoolFormer."""
        norm = NormSpec(kind="layer", eps=1e-6)
        return self.with_changes(head=self.head.with_changes(norm=norm, norm_position="after", mlp_norm_eps=1e-6))


@dataclass(frozen=True, kw_only=True)
class TimmSpec(SpecRecord):
    """A CNN of timm, by its name there: what MetaFormers are compared with.

    It has the properties of a ``ModelSpec``; its architecture is timm's and is not described here.
    """

    tag: ClassVar[str] = "timm"
    task: ClassVar[str] = "classification"
    pipeline_tag: ClassVar[str] = "image-classification"

    architecture: str
    """timm's name without the tag of weights: ``resnet50``."""
    num_classes: int = 1000
    """Width of the scores; 0 gives pooled features."""
    in_chans: int = 3
    """Channels of the image."""
    img_size: tuple[int, int] = (224, 224)
    """Height and width that images are resized to; a CNN takes others too."""
    drop_path_rate: float = 0.0
    """Probability of skipping a branch in the last block while training."""
    dropout: float = 0.0
    """Dropout right before the last linear layer."""

    def check(self) -> None:
        """A plain name, and numbers in range."""
        plain = re.fullmatch(r"\w+", self.architecture) is not None
        self.expect(plain, "architecture", "timm's name without a tag, such as 'resnet50'", self.architecture)
        self.expect(self.num_classes >= 0, "num_classes", "0 or more", self.num_classes)
        self.expect(self.in_chans >= 1, "in_chans", "at least 1", self.in_chans)
        self.expect(min(self.img_size) > 0, "img_size", "positive height and width", self.img_size)
        self.expect(0 <= self.drop_path_rate < 1, "drop_path_rate", "a rate in [0, 1)", self.drop_path_rate)
        self.expect(0 <= self.dropout < 1, "dropout", "a rate in [0, 1)", self.dropout)

    @property
    def input(self) -> ImageInput:
        """The input: images or token ids."""
        return ImageInput(in_chans=self.in_chans, img_size=self.img_size)

    @property
    def mixers(self) -> tuple[Mixer, ...]:
        """Empty: a CNN has no token mixers."""
        return ()

    @property
    def stem_stride(self) -> int | None:
        """None: the stem is timm's and cannot be changed."""
        return None

    @property
    def summary(self) -> str:
        """A short description, as part of a sentence."""
        return f"the CNN {self.architecture} of timm"

    def with_mixers(self, mixers: object) -> TimmSpec:
        """Refused: a CNN has no token mixers."""
        raise SpecError(
            f"mixers: {self.architecture} is timm's CNN and has no token mixer to swap; "
            "choose a MetaFormer such as 'poolformer_s12'"
        )

    def with_stem_stride(self, stride: int) -> TimmSpec:
        """The same model for a stride of 4, which its first stage has; others are refused, since the stem is timm's."""
        if stride == 4:
            return self
        raise SpecError(
            f"stem_stride: {self.architecture} is timm's CNN, whose first stage has stride 4: expected 4 or "
            f"None, got {stride}; use larger images with img_size"
        )

    def with_dropout(self, rate: float) -> TimmSpec:
        """The same model with dropout before its last linear layer."""
        return self.with_changes(dropout=rate)

    def with_timm_head(self) -> TimmSpec:
        """Refused: its head is timm's anyway."""
        raise SpecError(f"timm_head: {self.architecture} is timm's CNN and has timm's head anyway; leave it out")


AnySpec = ModelSpec | TimmSpec
"""Every classifier that can be built."""
