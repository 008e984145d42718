"""One model at one batch size: the images, and the model in every library with the same weights.

B images of ``size`` × ``size``. The weights are random such that every part matters: with LayerScale at its small
initial value, a block could be wrong and the scores would still look right.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import timm
import torch
from timm.models.metaformer import MetaFormer
from torch import Tensor, nn

from ..errors import InputError
from ..factory.classifier import create_model
from ..model.build import Model
from ..model.complexity import count_macs
from ..spec.model import AnySpec, ModelSpec
from ..weights.translate import to_layout


class Trial:
    """What contenders share. Models are built on first access, in evaluation mode, and must not be modified."""

    def __init__(self, name: str, spec: AnySpec, *, batch: int, size: int, threads: int, device: torch.device) -> None:
        self.name, self.batch, self.size, self.threads, self.device = name, batch, size, threads, device
        self.spec = spec.with_changes(img_size=(size, size), drop_path_rate=0.0)  # random drops would differ
        generator = torch.Generator().manual_seed(0)
        self.images = random_images(batch, spec.in_chans, size, generator).to(device)
        self.labels = torch.randint(max(spec.num_classes, 1), (batch,), generator=generator).to(device)
        self.calibration = random_images(16, spec.in_chans, size, generator)
        self.losses: dict[str, list[float]] = {}
        """Of the first training steps, by head."""
        self._scores: dict[str, Tensor] = {}

    @cached_property
    def ours(self) -> Model:
        """This library's model."""
        return randomized(create_model(self.spec)).eval().to(self.device)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return count_macs(self.ours, (self.size, self.size))

    @cached_property
    def with_timm_head(self) -> Model:
        """Ours with the final norm where timm's MetaFormer has it: the reference for timm's scores."""
        if not isinstance(self.timm, MetaFormer):
            return self.ours
        twin = create_model(self.spec, timm_head=True)
        weights = self.ours.state_dict().items()
        twin.load_state_dict({name.replace("head.pre_norm.", "head.norm."): tensor for name, tensor in weights})
        return twin.eval().to(self.device)

    @cached_property
    def timm(self) -> nn.Module:
        """timm's model of the same name."""
        if not timm.is_model(self.name):
            raise InputError(f"timm has no model {self.name}")
        sized: Any = {} if _any_size(self.name) else {"img_size": self.size}
        theirs = timm.create_model(
            self.name, num_classes=self.spec.num_classes, in_chans=self.spec.in_chans, drop_path_rate=0.0, **sized
        )
        theirs.load_state_dict(to_layout(self.ours, "timm"))
        return theirs.eval().to(self.device)

    @cached_property
    def transformers(self) -> nn.Module:
        """transformers' PoolFormer: the sizes of the first paper, and pooling only."""
        try:
            from transformers import PoolFormerConfig, PoolFormerForImageClassification
        except ImportError:
            raise InputError("transformers is not installed: pip install transformers") from None
        if not self.name.startswith("poolformer_"):
            raise InputError(f"transformers has no model of its own for {self.name}")
        spec = cast(ModelSpec, self.spec)  # all models of this name are
        sizes: Any = {"num_labels": spec.num_classes, "num_channels": spec.in_chans}  # unknown to its annotations
        depths, widths = [stage.depth for stage in spec.stages], [stage.width for stage in spec.stages]
        theirs = PoolFormerForImageClassification(PoolFormerConfig(depths=depths, hidden_sizes=widths, **sizes))
        theirs.load_state_dict(to_layout(self.ours, "huggingface"))
        return theirs.eval().to(self.device)

    def reference(self, head: str) -> nn.Module:
        """Ours, eager and in float32, with the ``head`` of a contender's model: ``original`` or ``timm``."""
        return self.with_timm_head if head == "timm" else self.ours

    def expected_scores(self, head: str) -> Tensor:
        """The right scores (B, K)."""
        if head not in self._scores:
            model = self.reference(
                head
            )  # built first: a model made in inference mode can neither be traced nor trained
            with torch.inference_mode():
                self._scores[head] = model(self.images).float().cpu()
        return self._scores[head]


def random_images(count: int, channels: int, size: int, generator: torch.Generator) -> Tensor:
    """Noise on a random color per image: scores of pure noise are almost equal, so mixed-up images would not show."""
    colors = torch.randn(count, channels, 1, 1, generator=generator)
    return colors + 0.5 * torch.randn(count, channels, size, size, generator=generator)


def randomized(model: Model) -> Model:
    """The model with random weights: matrices keep the size of the signal, scales are near 1, shifts near 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
            else:
                parameter.normal_(mean=0.0 if name.endswith("bias") else 1.0, std=0.1, generator=generator)
    return model


def _any_size(name: str) -> bool:
    """Whether timm's model takes images of any size; others need ``img_size``."""
    published = timm.get_pretrained_cfg(name)
    return published is None or not published.fixed_input_size
