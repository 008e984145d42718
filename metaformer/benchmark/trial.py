"""One model at one batch: the images, and the models of every library with the same weights in them.

B images of ``size`` × ``size``. Weights are drawn so that every part counts: as they are initialized, LayerScale
would hide what the blocks compute, and a wrong answer would look right.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

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
    """What contenders share; models are built when first asked for, in evaluation mode, and must not be changed."""

    def __init__(self, name: str, spec: AnySpec, *, batch: int, size: int, threads: int, device: torch.device) -> None:
        self.name, self.batch, self.size, self.threads, self.device = name, batch, size, threads, device
        self.spec = spec.with_changes(img_size=(size, size), drop_path_rate=0.0)
        draw = torch.Generator().manual_seed(0)
        self.images = random_images(batch, spec.in_chans, size, draw).to(device)
        self.labels = torch.randint(max(spec.num_classes, 1), (batch,), generator=draw).to(device)
        self.calibration = random_images(16, spec.in_chans, size, draw)
        self.losses: dict[str, list[float]] = {}
        """Of the first training steps, by head."""
        self._answers: dict[str, Tensor] = {}

    @cached_property
    def ours(self) -> Model:
        """The library's own."""
        return varied(create_model(self.spec)).eval().to(self.device)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return count_macs(self.ours, (self.size, self.size))

    @cached_property
    def with_timm_head(self) -> Model:
        """Ours with the final norm where timm's MetaFormer has it: what timm's answers are compared with."""
        if not isinstance(self.timm, MetaFormer) or not isinstance(self.spec, ModelSpec):
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
        """transformers' PoolFormer, which has the first paper's sizes and no other mixer."""
        try:
            from transformers import PoolFormerConfig, PoolFormerForImageClassification
        except ImportError:
            raise InputError("transformers is not installed: pip install transformers") from None
        if not self.name.startswith("poolformer_") or not isinstance(self.spec, ModelSpec):
            raise InputError(f"transformers has no model of its own for {self.name}")
        stages = self.spec.stages
        told: Any = {"num_labels": self.spec.num_classes, "num_channels": self.spec.in_chans}
        depths, widths = [stage.depth for stage in stages], [stage.width for stage in stages]
        theirs = PoolFormerForImageClassification(PoolFormerConfig(depths=depths, hidden_sizes=widths, **told))
        theirs.load_state_dict(to_layout(self.ours, "huggingface"))
        return theirs.eval().to(self.device)

    def reference(self, head: str) -> nn.Module:
        """Ours, eager and in float32, with the ``head`` of a contender's model: ``original`` or ``timm``."""
        return self.with_timm_head if head == "timm" else self.ours

    def answers(self, head: str) -> Tensor:
        """The scores (B, K) that a contender has to give."""
        if head not in self._answers:
            model = self.reference(head)  # built outside: what is made in inference mode can never be traced or learn
            with torch.inference_mode():
                self._answers[head] = model(self.images).float().cpu()
        return self._answers[head]


def random_images(count: int, channels: int, size: int, draw: torch.Generator) -> Tensor:
    """Noise on a color, another one for each: of noise alone all scores are alike, and one would pass for another."""
    colors = torch.randn(count, channels, 1, 1, generator=draw)
    return colors + 0.5 * torch.randn(count, channels, size, size, generator=draw)


def varied(model: Any) -> Any:
    """Every weight drawn anew: matrices keep the size of the signal, scales stand near 1, shifts near 0."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=parameter[0].numel() ** -0.5, generator=draw)
            else:
                parameter.normal_(mean=0.0 if name.endswith("bias") else 1.0, std=0.1, generator=draw)
    return model


def _any_size(name: str) -> bool:
    """Whether timm's model takes images of every size; the others must be told."""
    published = timm.get_pretrained_cfg(name)
    return published is None or not published.fixed_input_size
