"""Laws of the classification objective: what the loss is, and that metrics do not depend on how images are batched."""

import pytest
import torch
from torch.nn import functional as F

from metaformer.errors import DataError
from metaformer.tasks.classification.objective import CONFUSION_LIMIT, ClassificationObjective
from metaformer.types import Batch


def some(count: int = 12, classes: int = 7) -> tuple[torch.Tensor, Batch]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, classes, generator=generator)
    targets = torch.randint(classes, (count,), generator=generator)
    return logits, Batch(torch.zeros(count, 1, 2, 2), targets)


def test_one_hot_probabilities_give_the_loss_of_the_indices() -> None:
    logits, batch = some()
    mixed = Batch(batch.inputs, F.one_hot(batch.targets, 7).float())
    objective = ClassificationObjective(7)
    torch.testing.assert_close(objective.loss(logits, batch), objective.loss(logits, mixed))


def test_smoothing_is_mixing_with_the_uniform_distribution() -> None:
    logits, batch = some()
    smooth = 0.9 * F.one_hot(batch.targets, 7).float() + 0.1 / 7
    smoothed = ClassificationObjective(7, label_smoothing=0.1)
    expected = ClassificationObjective(7).loss(logits, Batch(batch.inputs, smooth))
    torch.testing.assert_close(smoothed.loss(logits, batch), expected)
    # probabilities are not smoothed a second time
    torch.testing.assert_close(smoothed.loss(logits, Batch(batch.inputs, smooth)), expected)


def test_the_evaluation_loss_is_not_smoothed() -> None:
    logits, batch = some()
    metric = ClassificationObjective(7, label_smoothing=0.3).metric()
    metric.update(logits, batch)
    assert metric.compute([metric.part])["loss"] == pytest.approx(F.cross_entropy(logits, batch.targets).item())


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_totals_of_parts_add_up_to_the_total_of_the_whole(cut: int) -> None:
    logits, batch = some()
    objective = ClassificationObjective(7)
    whole, first, rest = objective.metric(), objective.metric(), objective.metric()
    whole.update(logits, batch)
    first.update(logits[:cut], Batch(batch.inputs[:cut], batch.targets[:cut]))
    rest.update(logits[cut:], Batch(batch.inputs[cut:], batch.targets[cut:]))
    torch.testing.assert_close(first.part + rest.part, whole.part)
    assert whole.part.dtype == torch.float64


def test_metrics_and_confusions_of_known_predictions() -> None:
    logits = torch.eye(6)[[0, 1, 1, 5]] * 10
    batch = Batch(torch.zeros(4, 1, 1, 1), torch.tensor([0, 1, 2, 4]))
    objective = ClassificationObjective(6)
    metric = objective.metric()
    metric.update(logits, batch)
    metrics = metric.compute([metric.part])
    assert metrics["top1"] == 0.5
    assert 0.5 < metrics["top5"] <= 1
    confusion = metric.confusion([metric.part])
    assert confusion is not None
    assert confusion.sum() == 4
    assert confusion[2, 1] == confusion[4, 5] == confusion[0, 0] == confusion[1, 1] == 1
    assert int(objective.count(logits, batch)["top1"][0]) == 2


def test_top5_is_top_k_below_five_classes() -> None:
    logits, batch = some(classes=3)
    metric = ClassificationObjective(3).metric()
    metric.update(logits, batch)
    assert metric.compute([metric.part])["top5"] == 1


def test_half_precision_logits_lose_only_their_own_digits() -> None:
    logits, batch = some()
    loss = ClassificationObjective(7).loss(logits.bfloat16(), batch)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch.targets), rtol=2e-2, atol=0)


def test_right_answers_are_not_counted_in_mixed_images() -> None:
    logits, batch = some()
    assert ClassificationObjective(7).count(logits, Batch(batch.inputs, logits.softmax(1))) == {}


@pytest.mark.parametrize("wrong", [7, 40, -1])
def test_a_label_without_a_class_is_refused(wrong: int) -> None:
    logits, batch = some()
    batch.targets[3] = wrong
    objective = ClassificationObjective(7)
    with pytest.raises(DataError, match=f"from 0 to 6 for a model with 7 classes, got {wrong}"):
        objective.loss(logits, batch)
    with pytest.raises(DataError, match="num_classes"):
        objective.metric().update(logits, batch)


def test_probabilities_over_another_number_of_classes_are_refused() -> None:
    logits, batch = some()
    with pytest.raises(DataError, match="over 7 classes, got 5"):
        ClassificationObjective(7).loss(logits, Batch(batch.inputs, torch.ones(12, 5) / 5))


def test_an_empty_evaluation_is_refused() -> None:
    metric = ClassificationObjective(7).metric()
    with pytest.raises(DataError, match="at least one image"):
        metric.compute([metric.part])


def test_very_many_classes_are_counted_without_confusions() -> None:
    classes = CONFUSION_LIMIT + 1
    metric = ClassificationObjective(classes).metric()
    metric.update(torch.zeros(2, classes), Batch(torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])))
    assert len(metric.part) == 4
    assert metric.confusion([metric.part]) is None
