"""Evaluating is counting: no gradient, no mode left changed, no dependence on the batches."""

import pytest
import torch
from tiny_training import CLASSES, TinyLoader, TinyNet

from metaformer.tasks.classification.objective import ClassificationObjective
from metaformer.training.evaluation import measure


def test_metrics_do_not_depend_on_the_batch_size() -> None:
    torch.manual_seed(0)
    model = TinyNet(drop=0.5, norm=True)
    objective = ClassificationObjective(CLASSES)
    results = [measure(model, objective, TinyLoader(15, size)) for size in (1, 4, 15)]
    for result in results:
        assert result.metrics == pytest.approx(results[0].metrics, rel=1e-6)
        assert result.parts[0][3] == result.samples == 15


def test_the_model_keeps_its_mode_and_its_numbers() -> None:
    model = TinyNet(norm=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        measure(model, ClassificationObjective(CLASSES), TinyLoader(6, 3))
        assert model.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_shares_of_two_processes_add_up() -> None:
    model, objective = TinyNet(), ClassificationObjective(CLASSES)
    whole = measure(model, objective, TinyLoader(15, 4))
    parts = [measure(model, objective, TinyLoader(15, 4, rank=rank, world=2)) for rank in range(2)]
    torch.testing.assert_close(parts[0].parts[0] + parts[1].parts[0], whole.parts[0])
    assert sum(part.samples for part in parts) == whole.samples == 15
