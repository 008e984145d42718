"""The learning rate as a pure function of the update number; it has no state to save.

Linear warm-up, then a cosine (or a constant), then a cool-down: MetaFormer section 4.1, MetaFormer Baselines
section 4.1. The published code changes the rate once per epoch; here it changes at every update. Detection has steps
after given epochs, segmentation a polynomial (MetaFormer, sections 4.2 and 4.3).
"""

from __future__ import annotations

from math import cos, pi

from ..recipe import OptimizerConfig


def learning_rate(update: int, optimizer: OptimizerConfig, updates_per_epoch: int) -> float:
    """The learning rate of update number ``update`` (the first is 0), before each parameter group's ``lr_scale``.

    It starts at ``warmup_lr``, reaches the peak when the warm-up ends, and falls to ``min_lr`` (never above the peak)
    at the end of ``epochs``; the cool-down stays there.
    """
    peak = optimizer.peak_lr
    floor = min(optimizer.min_lr, peak)  # a small batch's scaled peak may be below it, and a cosine must not rise
    warmup = optimizer.warmup_updates
    if warmup is None:
        warmup = round(optimizer.warmup_epochs * updates_per_epoch)
    total = optimizer.updates or optimizer.epochs * updates_per_epoch
    if update < warmup:
        return optimizer.warmup_lr + (peak - optimizer.warmup_lr) * update / warmup
    if update >= total:
        return floor
    # the step and poly schedules count from update 0, warm-up included, as mmdetection and mmsegmentation do
    if optimizer.schedule == "constant":
        return peak
    if optimizer.schedule == "step":
        return peak * 0.1 ** sum(update >= epoch * updates_per_epoch for epoch in optimizer.step_epochs)
    if optimizer.schedule == "poly":
        return floor + (peak - floor) * float((1 - update / total) ** optimizer.power)
    return floor + (peak - floor) * (1 + cos(pi * (update - warmup) / (total - warmup))) / 2
