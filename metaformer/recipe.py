"""A training run as typed data: which model, which images, how they are varied, how the weights move. No torch here.

These records are what ``experiments/`` writes, what ``--config run.yaml`` and the dotted flags of the command line
fill, and what ``config.json`` in a run folder holds. The sentence under a field is its help text.
"""

from __future__ import annotations

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
    """A row of the zoo (``metaformer models`` lists them)."""
    pretrained: bool = False
    """Start from the published weights."""
    weights: str | None = None
    """Start from this checkpoint file or hub id instead."""
    mixers: tuple[str, ...] | None = None
    """Other token mixers: one for all stages or one for each, such as ``pooling(kernel=5)``."""
    img_size: int | None = None
    """Side of the square input in pixels; the model's own where left out."""
    stem_stride: int | None = None
    """Step of the first convolution; 1 or 2 for small images, 4 as published."""
    in_chans: int | None = None
    """Channels of the images; what the data has where left out."""
    drop_path_rate: float | None = None
    """Stochastic depth of the last block while training; 0 where left out."""
    drop_rate: float | None = None
    """Dropout before the last linear layer."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(_RecipeRecord):
    """Where the images are and how they are read."""

    source: str = "digits"
    """A folder (train/ and val/ with a folder per class, or a folder per class), ``digits``, or a torchvision data
    set by name (``FashionMNIST``, ``CIFAR10``, ...)."""
    root: str = "data"
    """Where torchvision's data sets are kept or downloaded to."""
    download: bool = False
    """Let torchvision download the set when it is not there."""
    val_fraction: float = 0.2
    """Share held out of each class when the folder has no validation part."""
    split_seed: int = 0
    """Seed of that split."""
    workers: int = 0
    """Processes that decode and vary images beside the training process."""
    memory: Literal["auto", "always", "never"] = "auto"
    """Whether images are kept decoded in memory and varied in batches, which is many times faster for small ones.
    ``auto``: where the augmentation allows it (``small`` or ``none``, no colors) and they take at most 2 GiB."""
    on_bad_image: Literal["refuse", "skip"] = "refuse"
    """What to do about a file that is not an image or is cut: stop and name it, or leave it out and count it."""
    verify: Literal["full", "header", "none"] = "full"
    """How files are looked at before training starts: decoded, opened, or not at all."""
    reduce_zero_label: bool = True
    """Label maps: 0 is no class and is ignored, and the classes are counted from 1, as in ADE20K."""
    ignore_label: int = 255
    """Label maps: pixels of this value, as stored, are ignored."""

    def check(self) -> None:
        """Shares and counts are possible."""
        self.expect(0 < self.val_fraction < 1, "val_fraction", "a share in (0, 1)", self.val_fraction)
        self.expect(self.workers >= 0, "workers", "0 or more", self.workers)


@dataclass(frozen=True, kw_only=True)
class Augmentation(_RecipeRecord):
    """How training images are varied (through timm) and evaluation images are cut."""

    policy: Literal["imagenet", "small", "none"] = "imagenet"
    """``imagenet``: random resized crop; ``small``: shift by padding and cropping, for images that already have
    the input's size; ``none``: as at evaluation."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Share of the area that a random resized crop keeps."""
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    """Aspect of a random resized crop."""
    hflip: float = 0.5
    """Probability of a left-right flip."""
    auto_augment: str | None = None
    """timm's policy, such as ``rand-m9-mstd0.5-inc1`` (RandAugment as published), or None."""
    color_jitter: float | None = None
    """Strength of color jitter; timm leaves it out while an auto-augment policy is on."""
    interpolation: Literal["random", "bicubic", "bilinear"] = "random"
    """How training crops are resized; random draws bilinear or bicubic."""
    erase: float = 0.0
    """Probability that random erasing replaces a patch by noise."""
    mixup: float = 0.0
    """Mixup's alpha; 0 is off."""
    cutmix: float = 0.0
    """CutMix's alpha; 0 is off."""
    mix_probability: float = 1.0
    """Probability that a batch is mixed at all."""
    mix_switch: float = 0.5
    """Probability of CutMix where both are on."""
    crop: float | None = None
    """Evaluation crop's share of the resized image; the model's own where left out."""

    def check(self) -> None:
        """Rates are rates."""
        for name in ("hflip", "erase", "mix_probability", "mix_switch"):
            self.expect(0 <= getattr(self, name) <= 1, name, "a probability in [0, 1]", getattr(self, name))
        self.expect(self.mixup >= 0, "mixup", "0 or more", self.mixup)
        self.expect(self.cutmix >= 0, "cutmix", "0 or more", self.cutmix)

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed, which makes the targets probabilities."""
        return (self.mixup > 0 or self.cutmix > 0) and self.mix_probability > 0


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(_RecipeRecord):
    """How the weights move."""

    renamed: ClassVar[Mapping[str, str]] = {"optimiser": "name"}

    epochs: int = 30
    """Passes over the training images, warm-up included."""
    batch_size: int = 128
    """Images per weight update, over all processes and all accumulated parts."""
    accumulation: int = 1
    """Parts into which a batch is cut to fit the memory; the update is the same, but for what depends on the images
    seen together: BatchNorm, and RetinaNet's division by the anchors that a whole batch matched."""
    name: str = "adamw"
    """Any of timm's optimizers: adamw, lamb, sgd, lion, ..."""
    lr: float = 1e-3
    """Peak learning rate, for a batch of ``lr_batch``."""
    lr_batch: int | None = None
    """The rate grows in proportion to ``batch_size / lr_batch``; left out, ``lr`` is used as it is."""
    weight_decay: float = 0.05
    """Decay of matrices and kernels; biases and all one-dimensional tensors are left alone."""
    decay_everything: bool = False
    """Decay those as well, as the recipes of detection and segmentation do."""
    betas: tuple[float, float] | None = None
    """Adam's moments; the optimizer's own where left out."""
    eps: float | None = None
    """Adam's epsilon; the optimizer's own where left out."""
    layer_decay: float | None = None
    """Factor on the rate for each layer further from the head (fine-tuning); None turns it off."""
    updates: int | None = None
    """So many weight updates in place of ``epochs``; the last epoch is cut short."""
    schedule: Literal["cosine", "constant", "step", "poly"] = "cosine"
    """Shape of the rate after warm-up."""
    step_epochs: tuple[int, ...] = ()
    """With ``step``: after each of these epochs the rate is a tenth."""
    power: float = 0.9
    """With ``poly``: the rate is (1 - share of the updates done) to this power."""
    warmup_epochs: float = 0.0
    """Linear rise at the start, inside ``epochs``."""
    warmup_updates: int | None = None
    """The same in updates, in place of ``warmup_epochs``."""
    warmup_lr: float = 1e-6
    """Rate at the first step of the warm-up."""
    min_lr: float = 1e-5
    """Rate at the end of the cosine."""
    cooldown_epochs: int = 0
    """More epochs at ``min_lr`` after ``epochs``."""
    clip_grad: float | None = None
    """Largest norm of the gradient; None turns it off."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    ema_decay: float | None = None
    """Decay of the averaged weights that are evaluated beside the trained ones; None turns it off."""

    def check(self) -> None:
        """Counts and rates are possible."""
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
        self.expect(rising, "step_epochs", "rising epochs from 1 on", self.step_epochs)
        said = self.schedule == "step" or not self.step_epochs
        self.expect(said, "step_epochs", "schedule 'step' with them", self.schedule)
        self.expect(self.power > 0, "power", "a positive number", self.power)

    @property
    def peak_lr(self) -> float:
        """The rate after warm-up, scaled to the batch."""
        return self.lr * self.batch_size / self.lr_batch if self.lr_batch else self.lr

    @property
    def total_epochs(self) -> int:
        """Epochs with the cool-down."""
        return self.epochs + self.cooldown_epochs


@dataclass(frozen=True, kw_only=True)
class Dense(_RecipeRecord):
    """Detection and segmentation: which system, and the geometry of its images."""

    system: Literal["retinanet", "mask_rcnn", "semantic_fpn"] | None = None
    """What stands on the backbone; left out, Mask R-CNN where the objects have masks, RetinaNet where they do not."""
    short_side: int | None = None
    """Pixels that an image's short side is resized to; 800 for detection and 512 for segmentation where left out."""
    long_side: int | None = None
    """Most pixels of the long side; 1333 and 2048 for those short sides, and in proportion."""
    square: bool = False
    """Resize to a square of the short side whatever the shape: for mixers that are tied to a grid."""
    scale: tuple[float, float] = (1.0, 1.0)
    """A training image's size is multiplied by a random factor between these."""
    crop: int | None = None
    """Side of the square that a segmenter is trained on; the short side where left out."""
    class_share: float = 0.75
    """A crop with more than this share of one class is drawn again, ten times at most."""
    photometric: bool = False
    """Vary brightness, contrast, saturation and hue of training images."""

    def check(self) -> None:
        """Sizes and shares are possible."""
        for name in ("short_side", "long_side", "crop"):
            side = getattr(self, name)
            self.expect(side is None or side >= 32, name, "at least 32 pixels", side)
        self.expect(0 < self.scale[0] <= self.scale[1], "scale", "two rising positive factors", self.scale)
        self.expect(0 < self.class_share <= 1, "class_share", "a share in (0, 1]", self.class_share)


@dataclass(frozen=True, kw_only=True)
class Machine(_RecipeRecord):
    """Where it runs and how often it is saved."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """``auto`` takes a GPU when there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward and backward pass; weights stay float32."""
    save_minutes: float = 5.0
    """A checkpoint at least this often, beside the one after each epoch."""
    save_steps: int | None = None
    """A checkpoint every so many weight updates as well."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    lean_blocks: bool = False
    """Blocks of pooling and group norm keep only what their gradients need: less memory in the same time. On a GPU they
    are Triton's kernels."""
    threads: int | None = None
    """CPU threads; PyTorch's choice where left out."""


@dataclass(frozen=True, kw_only=True)
class Recipe(_RecipeRecord):
    """A whole run: ``metaformer train`` with nothing else trains PoolFormer-S12 on the digits."""

    renamed: ClassVar[Mapping[str, str]] = {"optimisation": "optimizer"}

    task: Literal["classification", "detection", "segmentation"] = "classification"
    """What is learned: a class for each image, boxes (and masks) of objects, or a class for each pixel."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Which model; for detection and segmentation, which backbone."""
    data: DataConfig = field(default_factory=DataConfig)
    """Which images."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How images are varied."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How weights move."""
    dense: Dense = field(default_factory=Dense)
    """What detection and segmentation have beside."""
    machine: Machine = field(default_factory=Machine)
    """Where it runs."""
    seed: int = 42
    """Everything random follows from it."""


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
"""How both papers vary ImageNet's images (MetaFormer, section 4.1; MetaFormer Baselines, section 3.1)."""

_Row = TypeVar("_Row")


def settings_for(model: str, table: Mapping[str, _Row]) -> _Row:
    """The row of an experiment's table for one of its models.

    Raises:
        RunError: the experiment has no such model; the message names those it has.
    """
    if model not in table:
        raise RunError(f"model: expected one of {', '.join(table)} for this experiment, got {model!r}")
    return table[model]
