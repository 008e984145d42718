"""The moving average: between its past and the weights, at rest when they rest, exact after a save."""

import torch
from torch import nn

from metaformer.training.averaging import AveragedWeights


def net(value: float) -> nn.Sequential:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.fill_(value)
    return module


def test_one_update_is_the_weighted_sum() -> None:
    average = AveragedWeights(net(0.0), decay=0.75)
    average.update(net(1.0), update=10_000)
    state = average.state_dict()
    assert torch.equal(state["0.weight"], torch.full((3, 3), 0.25))
    assert torch.equal(state["1.running_mean"], torch.full((3,), 0.25))
    assert state["1.num_batches_tracked"] == 1  # counters are copied, not averaged


def test_weights_that_rest_stay_as_they_are() -> None:
    module = net(0.3)
    average = AveragedWeights(module, decay=0.9)
    for update in range(1, 30):
        average.update(module, update)
    for name, tensor in module.state_dict().items():
        assert torch.equal(average.state_dict()[name], tensor)


def test_the_random_start_is_forgotten_at_once_and_the_decay_grows_to_its_value() -> None:
    start, end = net(0.0), net(1.0)
    average = AveragedWeights(start, decay=0.9)
    average.update(end, update=1)
    assert torch.equal(average.state_dict()["0.weight"], end.state_dict()["0.weight"])
    kept = []
    for update in (2, 20, 80, 100, 1000):
        average.load_state_dict(start.state_dict())
        average.update(end, update)
        kept.append(1 - float(average.state_dict()["0.bias"][0]))
    torch.testing.assert_close(torch.tensor(kept), torch.tensor([1 / 10, 19 / 28, 79 / 88, 0.9, 0.9]))


def test_it_is_a_copy_in_evaluation_mode_without_gradients() -> None:
    module = net(1.0).train()
    average = AveragedWeights(module, decay=0.9)
    assert not average.module.training
    assert module.training
    assert not any(p.requires_grad for p in average.module.parameters())
    assert all(p.requires_grad for p in module.parameters())


def test_a_restored_average_goes_on_bit_for_bit() -> None:
    torch.manual_seed(0)
    one = AveragedWeights(net(0.1), decay=0.99)
    for update in range(1, 5):
        one.update(net(float(torch.rand(()))), update)
    two = AveragedWeights(net(0.7), decay=0.99)
    two.load_state_dict({name: tensor.clone() for name, tensor in one.state_dict().items()})
    for average in (one, two):
        average.update(net(0.123), update=5)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name])
