"""The learning rate as a pure function of the update number: nothing to save, nothing to resume.

Linear warm-up, then a cosine (or a constant), then a cool-down: MetaFormer section 4.1, MetaFormer Baselines
section 4.1. The published code steps once an epoch; here the rate changes at every update. Detection steps down after
given epochs, segmentation falls by a power (MetaFormer, sections 4.2 and 4.3).
"""

from __future__ import annotations

from math import cos, pi

from ..recipe import OptimizerConfig


def learning_rate(update: int, optimizer: OptimizerConfig, updates_per_epoch: int) -> float:
    """The rate of update number ``update`` (the first is 0), before each group's own ``lr_scale``.

    It is ``warmup_lr`` at the first update, the peak when the warm-up ends, ``min_lr`` (never above the peak) at the
    end of ``epochs`` and during the cool-down.
    """
    peak = optimizer.peak_lr
    floor = min(optimizer.min_lr, peak)
    warmup = optimizer.warmup_updates
    if warmup is None:
        warmup = round(optimizer.warmup_epochs * updates_per_epoch)
    total = optimizer.updates or optimizer.epochs * updates_per_epoch
    if update < warmup:
        return optimizer.warmup_lr + (peak - optimizer.warmup_lr) * update / warmup
    if update >= total:
        return floor
    if optimizer.schedule == "constant":
        return peak
    if optimizer.schedule == "step":
        return peak * 0.1 ** sum(update >= epoch * updates_per_epoch for epoch in optimizer.step_epochs)
    if optimizer.schedule == "poly":
        return floor + (peak - floor) * (1 - update / total) ** optimizer.power
    return floor + (peak - floor) * (1 + cos(pi * (update - warmup) / (total - warmup))) / 2
