"""Laws of segmentation: what the loss is, and that mean IoU is of the whole set, as torchmetrics counts it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from metaformer.errors import DataError
from metaformer.tasks.segmentation.objective import IGNORED, SegmentationObjective, class_rows, resized
from metaformer.types import Batch

K = 6


def random_images(count: int = 5, classes: int = K - 1) -> tuple[list[torch.Tensor], Batch]:
    """Logits at a quarter of the label maps' sizes, which all differ; class K - 1 is in no ground truth."""
    generator = torch.Generator().manual_seed(3)
    logits, targets = [], []
    for index in range(count):
        height, width = 24 + 8 * index, 48 - 8 * index
        target = torch.randint(classes, (height // 8, width // 8), generator=generator)
        target = target.repeat_interleave(8, 0).repeat_interleave(8, 1)
        hint = F.one_hot(target[::4, ::4], K).permute(2, 0, 1)
        logits.append(torch.randn(K, height // 4, width // 4, generator=generator) + 1.5 * hint)
        target[torch.rand(target.shape, generator=generator) < 0.1] = IGNORED
        targets.append(target)
    return logits, Batch([torch.zeros(3, 2, 2)] * count, targets)


def test_the_metrics_are_torchmetrics_pooled_over_the_set() -> None:
    logits, batch = random_images()
    metric = SegmentationObjective(K).metric()
    metric.update(logits, batch)
    metrics = metric.compute([metric.part])
    assert tuple(metrics) == tuple(metric.name for metric in SegmentationObjective.metrics)
    full = [F.interpolate(x[None], t.shape, mode="bilinear") for x, t in zip(logits, batch.targets, strict=True)]
    for name, reference in {
        "miou": MulticlassJaccardIndex(K, ignore_index=IGNORED),
        "pixel_accuracy": MulticlassAccuracy(K, average="micro", ignore_index=IGNORED),
    }.items():
        for scores, target in zip(full, batch.targets, strict=True):
            reference.update(scores.argmax(1), target[None])
        assert metrics[name] == pytest.approx(float(reference.compute()), abs=1e-6)
    single = MulticlassAccuracy(K, average="none", ignore_index=IGNORED)
    single.update(torch.cat([s.argmax(1).flatten() for s in full]), torch.cat([t.flatten() for t in batch.targets]))
    assert metrics["mean_accuracy"] == pytest.approx(float(single.compute()[: K - 1].mean()), abs=1e-6)
    assert 0.2 < metrics["miou"] < metrics["pixel_accuracy"] < 0.95


def test_the_evaluation_loss_is_the_mean_over_labelled_pixels() -> None:
    logits, batch = random_images()
    metric = SegmentationObjective(K).metric()
    metric.update(logits, batch)
    flat = [resized(x, (t.shape[0], t.shape[1])).flatten(1).T for x, t in zip(logits, batch.targets, strict=True)]
    labels = torch.cat([target.flatten() for target in batch.targets])
    expected = F.cross_entropy(torch.cat(flat), labels, ignore_index=IGNORED)
    assert metric.compute([metric.part])["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_a_mean_over_classes_leaves_out_what_occurs_nowhere() -> None:
    confusion = torch.zeros(4, 4, dtype=torch.long)
    confusion[0, 0], confusion[0, 1], confusion[1, 1] = 6, 2, 4
    rows = class_rows(confusion)
    assert [row.iou for row in rows] == [6 / 8, 4 / 6, None, None]
    assert [row.accuracy for row in rows] == [6 / 8, 1.0, None, None]
    assert [(row.pixels, row.predicted) for row in rows] == [(8, 6), (4, 6), (0, 0), (0, 0)]
    target = torch.tensor([[0] * 8 + [1] * 4])
    predictions = F.one_hot(torch.tensor([[0] * 6 + [1] * 6]), 4).permute(2, 0, 1).float()
    metric = SegmentationObjective(4).metric()
    metric.update([predictions], Batch([torch.zeros(3, 1, 12)], [target]))
    torch.testing.assert_close(metric.confusion([metric.part]), confusion)
    assert metric.compute([metric.part])["miou"] == pytest.approx((6 / 8 + 4 / 6) / 2)


def test_a_class_that_is_predicted_and_never_right_still_counts() -> None:
    """A class that is predicted but in no ground truth has an IoU of 0, not none."""
    target = torch.zeros(1, 4, dtype=torch.long)
    predictions = F.one_hot(torch.tensor([[0, 0, 0, 2]]), 4).permute(2, 0, 1).float()
    metric = SegmentationObjective(4).metric()
    metric.update([predictions], Batch([torch.zeros(3, 1, 4)], [target]))
    assert metric.compute([metric.part])["miou"] == pytest.approx((3 / 4 + 0) / 2)


def test_processes_together_give_the_same_matrix() -> None:
    logits, batch = random_images()
    objective = SegmentationObjective(K)
    whole, parts = objective.metric(), [objective.metric() for _ in range(2)]
    whole.update(logits, batch)
    for rank, part in enumerate(parts):
        part.update(logits[rank::2], Batch(batch.inputs[rank::2], batch.targets[rank::2]))
    joined = [part.part for part in parts]
    torch.testing.assert_close(whole.confusion(joined), whole.confusion([whole.part]), rtol=0, atol=0)
    assert whole.part.dtype == torch.float64


def test_parts_of_a_batch_add_up_to_the_batch() -> None:
    """Which the trainer relies on when it cuts a batch or shares it among processes."""
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(4, K, 6, 5, generator=generator), torch.randint(K, (4, 6, 5), generator=generator)
    targets[0] = IGNORED
    targets[1, :3] = IGNORED
    objective = SegmentationObjective(K)
    whole = objective.loss(logits, Batch(logits, targets))
    halves = [objective.loss(logits[part], Batch(logits[part], targets[part])) for part in (slice(2), slice(2, 4))]
    torch.testing.assert_close(whole, sum(halves) / 2)
    labeled = F.cross_entropy(logits, targets, ignore_index=IGNORED)
    torch.testing.assert_close(whole, labeled * (targets != IGNORED).double().mean().float())


def test_a_batch_without_any_label_has_no_loss() -> None:
    logits = torch.randn(2, K, 4, 4, requires_grad=True)
    loss = SegmentationObjective(K).loss(logits, Batch(logits, torch.full((2, 4, 4), IGNORED)))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


class Flat(nn.Module):
    """Logits of each pixel from its color."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Conv2d(3, K, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classes(images)


def test_a_batch_is_trained_on_together_and_evaluated_one_by_one() -> None:
    objective, model = SegmentationObjective(K), Flat()
    together = objective.forward(model, Batch(torch.rand(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long)))
    assert isinstance(together, torch.Tensor)
    assert together.shape == (2, K, 8, 8)
    sizes = [(8, 12), (16, 4)]
    images, targets = [torch.rand(3, *size) for size in sizes], [torch.zeros(9, 9).long(), torch.zeros(5, 7).long()]
    outputs = objective.forward(model.eval(), Batch(images, targets))
    assert [tuple(output.shape) for output in outputs] == [(K, *size) for size in sizes]
    metric = objective.metric()
    metric.update(outputs, Batch(images, targets))
    assert int(metric.confusion([metric.part]).sum()) == 81 + 35


@pytest.mark.parametrize("wrong", [K, 254, -1])
def test_a_label_without_a_class_is_refused(wrong: int) -> None:
    objective, logits = SegmentationObjective(K), torch.zeros(1, K, 3, 3)
    targets = torch.zeros(1, 3, 3, dtype=torch.long)
    targets[0, 1, 1] = wrong
    with pytest.raises(DataError, match=f"from 0 to {K - 1}.*got {wrong}"):
        objective.loss(logits, Batch(logits, targets))
    with pytest.raises(DataError, match="num_classes"):
        objective.metric().update([logits[0]], Batch([logits[0]], [targets[0]]))


def test_an_evaluation_without_labels_is_refused() -> None:
    metric = SegmentationObjective(K).metric()
    with pytest.raises(DataError, match="at least one labeled pixel"):
        metric.compute([metric.part])
    metric.update([torch.zeros(K, 3, 3)], Batch([torch.zeros(3, 3, 3)], [torch.full((3, 3), IGNORED)]))
    with pytest.raises(DataError, match="at least one labeled pixel"):
        metric.compute([metric.part])
