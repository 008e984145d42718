"""A training run as typed data: model, dataset, augmentation, optimizer, machine. No torch here.

``experiments/`` writes these records, ``--config run.yaml`` and the dotted flags of the command line fill them, and the
``config.json`` of a run folder holds one. The sentence under a field is its help text.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeVar

from .errors import InputError, RunError
from .records import Record


@dataclass(frozen=True, kw_only=True)
class _RecipeRecord(Record):
    error: ClassVar[type[InputError]] = RunError


@dataclass(frozen=True, kw_only=True)
class ModelConfig(_RecipeRecord):
    """Which model, and what is changed in it."""

    name: str = "poolformer_s12"
    """Model name; ``metaformer models`` lists them."""
    pretrained: bool = False
    """Start from the published weights."""
    weights: str | None = None
    """Start from this run folder, checkpoint file or hub id."""
    mixers: tuple[str, ...] | None = None
    """Token mixers, one for all stages or one per stage, such as ``pooling(kernel=5)``. [default: the model's]"""
    img_size: int | None = None
    """Side of the square input in pixels. [default: the model's]"""
    stem_stride: int | None = None
    """Stride of the first convolution: 4 as published, 1 or 2 for small images. [default: the model's]"""
    in_chans: int | None = None
    """Input channels. [default: those of the data]"""
    drop_path_rate: float | None = None
    """Stochastic depth rate of the last block. [default: 0]"""
    drop_rate: float | None = None
    """Dropout rate before the classifier layer. [default: 0]"""


@dataclass(frozen=True, kw_only=True)
class DataConfig(_RecipeRecord):
    """Where the images are and how they are read."""

    source: str = "digits"
    """Dataset: a folder (a subfolder per class, or train/ and val/ with those), ``digits``, or the name of a
    torchvision dataset (``FashionMNIST``, ``CIFAR10``, ...)."""
    root: str = "data"
    """Folder of torchvision's datasets."""
    download: bool = False
    """Download a torchvision dataset that is not in the folder."""
    val_fraction: float = 0.2
    """Fraction of each class that is held out where the dataset has no validation split."""
    split_seed: int = 0
    """Seed of that split."""
    workers: int = 0
    """Data loading processes; 0 loads in the training process."""
    memory: Literal["auto", "always", "never"] = "auto"
    """Keep decoded images in memory and augment whole batches, many times faster for small images. ``auto``: if the
    augmentation allows it (``small`` or ``none``, no color changes) and they take at most 2 GiB."""
    on_bad_image: Literal["refuse", "skip"] = "refuse"
    """On a corrupt or truncated image file: stop and name it, or skip it and count it."""
    verify: Literal["full", "header", "none"] = "full"
    """How image files are checked before training: decoded, only opened, or not at all."""
    reduce_zero_label: bool = True
    """Label maps: treat 0 as ignored and count the classes from 1, as in ADE20K."""
    ignore_label: int = 255
    """Label maps: stored value of the pixels to ignore."""

    def check(self) -> None:
        """Fractions and counts are in range."""
        self.expect(0 < self.val_fraction < 1, "val_fraction", "a fraction in (0, 1)", self.val_fraction)
        self.expect(self.workers >= 0, "workers", "0 or more", self.workers)


@dataclass(frozen=True, kw_only=True)
class Augmentation(_RecipeRecord):
    """How training images are augmented (by timm) and evaluation images are cropped."""

    policy: Literal["imagenet", "small", "none"] = "imagenet"
    """``imagenet``: random resized crop; ``small``: pad and crop randomly, for images of the model's input size;
    ``none``: as at evaluation."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Random resized crop: range of the area."""
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    """Random resized crop: range of the aspect ratio."""
    hflip: float = 0.5
    """Probability of a horizontal flip."""
    auto_augment: str | None = None
    """timm's AutoAugment policy, such as ``rand-m9-mstd0.5-inc1``. [default: off]"""
    color_jitter: float | None = None
    """Color jitter factor; timm ignores it with an AutoAugment policy. [default: off]"""
    interpolation: Literal["random", "bicubic", "bilinear"] = "random"
    """Interpolation of training crops; ``random`` picks bilinear or bicubic."""
    erase: float = 0.0
    """Probability of random erasing."""
    mixup: float = 0.0
    """Mixup alpha; 0 is off."""
    cutmix: float = 0.0
    """CutMix alpha; 0 is off."""
    mix_probability: float = 1.0
    """Probability that a batch is mixed."""
    mix_switch: float = 0.5
    """Probability of CutMix rather than mixup where both are on."""
    crop: float | None = None
    """Evaluation: center crop as a fraction of the resized image. [default: the model's]"""

    def check(self) -> None:
        """Probabilities and alphas are in range."""
        for name in ("hflip", "erase", "mix_probability", "mix_switch"):
            self.expect(0 <= getattr(self, name) <= 1, name, "a probability in [0, 1]", getattr(self, name))
        self.expect(self.mixup >= 0, "mixup", "0 or more", self.mixup)
        self.expect(self.cutmix >= 0, "cutmix", "0 or more", self.cutmix)

    @property
    def mixes(self) -> bool:
        """Whether the images of a batch are mixed; targets are then probabilities instead of class numbers."""
        return (self.mixup > 0 or self.cutmix > 0) and self.mix_probability > 0


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(_RecipeRecord):
    """Optimizer, schedule and regularization."""

    renamed: ClassVar[Mapping[str, str]] = {"optimiser": "name"}

    epochs: int = 30
    """Number of epochs, warmup included."""
    batch_size: int = 128
    """Images per weight update, over all processes and micro-batches."""
    accumulation: int = 1
    """Micro-batches per weight update, to save memory. The update is the same except for what depends on the images
    seen together: BatchNorm, and RetinaNet's division by the matched anchors of a whole batch."""
    name: str = "adamw"
    """Any optimizer of timm: adamw, lamb, sgd, lion, ..."""
    lr: float = 1e-3
    """Peak learning rate, for a batch of ``lr_batch`` images."""
    lr_batch: int | None = None
    """Scale the learning rate by ``batch_size / lr_batch``. [default: use ``lr`` as it is]"""
    weight_decay: float = 0.05
    """Weight decay of matrices and kernels; biases and other one-dimensional tensors have none."""
    decay_everything: bool = False
    """Decay those as well, as the recipes of detection and segmentation do."""
    betas: tuple[float, float] | None = None
    """Adam's betas. [default: the optimizer's]"""
    eps: float | None = None
    """Adam's epsilon. [default: the optimizer's]"""
    layer_decay: float | None = None
    """Layer-wise learning rate decay for fine-tuning: the factor per layer below the head. [default: off]"""
    updates: int | None = None
    """Number of weight updates in place of ``epochs``; the last epoch is shortened."""
    schedule: Literal["cosine", "constant", "step", "poly"] = "cosine"
    """Learning rate schedule after warmup."""
    step_epochs: tuple[int, ...] = ()
    """``step``: divide the learning rate by ten after each of these epochs."""
    power: float = 0.9
    """``poly``: exponent of (1 - progress)."""
    warmup_epochs: float = 0.0
    """Epochs of linear warmup, counted in ``epochs``."""
    warmup_updates: int | None = None
    """Weight updates of warmup in place of ``warmup_epochs``."""
    warmup_lr: float = 1e-6
    """Initial learning rate of the warmup."""
    min_lr: float = 1e-5
    """Final learning rate of the cosine schedule."""
    cooldown_epochs: int = 0
    """Epochs at ``min_lr`` after ``epochs``."""
    clip_grad: float | None = None
    """Clip the gradient's norm to this value. [default: off]"""
    label_smoothing: float = 0.0
    """Label smoothing."""
    ema_decay: float | None = None
    """Decay of an exponential moving average of the weights, evaluated beside them. [default: off]"""

    def check(self) -> None:
        """Counts and rates are in range."""
        self.expect(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        self.expect(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        self.expect(self.accumulation >= 1, "accumulation", "at least 1", self.accumulation)
        self.expect(
            self.batch_size % self.accumulation == 0,
            "accumulation",
            f"a divisor of batch_size {self.batch_size}",
            self.accumulation,
        )
        self.expect(self.lr > 0, "lr", "a positive number", self.lr)
        self.expect(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)", self.label_smoothing)
        self.expect(self.ema_decay is None or 0 < self.ema_decay < 1, "ema_decay", "in (0, 1)", self.ema_decay)
        self.expect(
            self.layer_decay is None or 0 < self.layer_decay <= 1,
            "layer_decay",
            "in (0, 1]",
            self.layer_decay,
        )
        self.expect(self.clip_grad is None or self.clip_grad > 0, "clip_grad", "a positive number", self.clip_grad)
        self.expect(self.warmup_epochs < self.epochs, "warmup_epochs", "fewer than epochs", self.warmup_epochs)
        self.expect(self.updates is None or self.updates >= 1, "updates", "at least 1", self.updates)
        rising = list(self.step_epochs) == sorted(set(self.step_epochs)) and min(self.step_epochs, default=1) >= 1
        self.expect(rising, "step_epochs", "increasing epochs from 1", self.step_epochs)
        used = self.schedule == "step" or not self.step_epochs
        self.expect(used, "step_epochs", "schedule 'step' with them", self.schedule)
        self.expect(self.power > 0, "power", "a positive number", self.power)

    @property
    def peak_lr(self) -> float:
        """The learning rate after warmup, scaled to the batch size."""
        return self.lr * self.batch_size / self.lr_batch if self.lr_batch else self.lr

    @property
    def total_epochs(self) -> int:
        """Epochs, cooldown included."""
        return self.epochs + self.cooldown_epochs


@dataclass(frozen=True, kw_only=True)
class Dense(_RecipeRecord):
    """Detection and segmentation: the system and its image sizes."""

    system: Literal["retinanet", "mask_rcnn", "semantic_fpn"] | None = None
    """Detector or segmenter on the backbone. [default: semantic_fpn for segmentation; for detection mask_rcnn if the
    objects have masks, else retinanet]"""
    short_side: int | None = None
    """Resize images to this short side in pixels. [default: 800 for detection, 512 for segmentation]"""
    long_side: int | None = None
    """Maximum long side in pixels. [default: 1333 or 2048 for those short sides, else in proportion]"""
    square: bool = False
    """Resize images to squares of the short side, for mixers with a fixed grid."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Training images: range of a random factor on the size."""
    crop: int | None = None
    """Segmentation: side of the square training crop. [default: the short side]"""
    class_share: float = 0.75
    """Segmentation: redraw a crop, up to ten times, in which one class has more than this share of the pixels."""
    photometric: bool = False
    """Training images: vary brightness, contrast, saturation and hue."""

    def check(self) -> None:
        """Sizes and shares are in range."""
        for name in ("short_side", "long_side", "crop"):
            side = getattr(self, name)
            self.expect(side is None or side >= 32, name, "at least 32 pixels", side)
        self.expect(0 < self.scale[0] <= self.scale[1], "scale", "two increasing positive factors", self.scale)
        self.expect(0 < self.class_share <= 1, "class_share", "a share in (0, 1]", self.class_share)


@dataclass(frozen=True, kw_only=True)
class Machine(_RecipeRecord):
    """Device, precision and checkpoints."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """``auto`` uses a GPU if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the forward and backward pass; weights stay float32."""
    save_minutes: float = 5.0
    """Save a checkpoint at least this often, besides the one after each epoch."""
    save_steps: int | None = None
    """Save a checkpoint after this many weight updates as well."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    lean_blocks: bool = False
    """Blocks of pooling and group norm keep only what their gradients need: less memory in the same time on CPUs."""
    threads: int | None = None
    """CPU threads. [default: PyTorch's choice]"""


@dataclass(frozen=True, kw_only=True)
class Recipe(_RecipeRecord):
    """A whole run. The defaults train PoolFormer-S12 on the digits, as ``metaformer train`` does."""

    renamed: ClassVar[Mapping[str, str]] = {"optimisation": "optimizer"}

    task: str = "classification"
    """What to train the model for: classes of images, boxes (and masks) of objects, or classes of pixels."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Model; for detection and segmentation the backbone."""
    data: DataConfig = field(default_factory=DataConfig)
    """Dataset and how it is read."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Augmentation of training images."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizer and schedule."""
    dense: Dense = field(default_factory=Dense)
    """Settings of detection and segmentation only."""
    machine: Machine = field(default_factory=Machine)
    """Device, precision and checkpoints."""
    seed: int = 42
    """Seed of everything random."""


PAPER_AUGMENTATION = Augmentation(
    policy="imagenet",
    scale=(0.08, 1.0),
    ratio=(3 / 4, 4 / 3),
    hflip=0.5,
    auto_augment="rand-m9-mstd0.5-inc1",
    interpolation="random",
    erase=0.25,
    mixup=0.8,
    cutmix=1.0,
    mix_probability=1.0,
    mix_switch=0.5,
)
"""ImageNet augmentation of both papers (MetaFormer, section 4.1; MetaFormer Baselines, section 3.1)."""

_Settings = TypeVar("_Settings")


def settings_for(model: str, table: Mapping[str, _Settings]) -> _Settings:
    """An experiment's settings for one of its models.

    Raises:
        RunError: the experiment has no such model; the message names those it has.
    """
    if model not in table:
        raise RunError(f"model: expected one of {', '.join(table)} for this experiment, got {model!r}")
    return table[model]


_FORMER_CLASSES: dict[str, type[Record]] = {
    "ModelChoice": ModelConfig,
    "DataChoice": DataConfig,
    "Optimisation": OptimizerConfig,
}
"""Classes by the names they had in version 0.1.0."""


def __getattr__(name: str) -> type[Record]:
    if name not in _FORMER_CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = _FORMER_CLASSES[name]
    warnings.warn(f"{__name__}.{name} is now called {found.__name__}", DeprecationWarning, stacklevel=2)
    return found
