"""The state of a run travels through a checkpoint; that of version 0.1.0 becomes today's."""

import json
from typing import Any

import pytest
from test_pins import WRITTEN

from metaformer.metrics import MetricDef
from metaformer.training.checkpoint import read_tree
from metaformer.training.state import TrainState

LOSS = MetricDef(name="loss", label="loss", unit="nats", better="lower")


def running_state() -> TrainState:
    state = TrainState()
    for update in range(3):
        state.add_step(1.0 + update, 4, {"top1": (update, 4)}, lr=0.1, seconds=0.5)
    return state


def test_sums_become_the_epochs_metrics_and_start_again() -> None:
    state = running_state()
    metrics = state.training_metrics()
    assert metrics == {
        "update": 3, "lr": 0.1, "seconds": 1.5, "samples_per_second": 8.0, "train_loss": 2.0, "train_top1": 0.25
    }  # fmt: skip
    state.end_epoch(metrics)
    assert (state.epoch, state.window, state.update, state.metrics) == (1, 0, 3, metrics)
    assert state.running == {}
    assert state.samples_per_second == 0


def test_a_state_comes_back_from_its_plain_numbers() -> None:
    state = running_state()
    state.end_epoch(state.training_metrics())
    assert state.update_best(0.5, LOSS)
    assert not state.update_best(0.7, LOSS)
    state.add_step(1.0, 4, {"top1": (1, 4)}, lr=0.1, seconds=0.5)
    assert TrainState.from_dict(json.loads(json.dumps(state.to_dict())), ("top1",)) == state


def former(**changes: Any) -> dict[str, Any]:
    """As version 0.1.0 saved it."""
    plain = {"epoch": 1, "window": 2, "update": 5, "loss": 3.0, "images": 8.0, "correct": 2.0, "counted": 8.0}
    plain |= {"seconds": 1.0, "lr": 0.1, "best": 0.25, "best_epoch": 1, "figures": {"images_per_second": 7.0}}
    return plain | changes


def test_the_state_of_0_1_0_has_todays_names() -> None:
    state = TrainState.from_dict(former(), ("top1",))
    assert (state.samples, state.running, state.best) == (8.0, {"top1": 0.25}, 0.25)
    assert state.metrics == {"samples_per_second": 7.0}
    assert TrainState.from_dict(former(best=float("-inf")), ("top1",)).best is None
    assert TrainState.from_dict(former(correct=0.0, counted=0.0), ()).counts == {}
    saved = read_tree(WRITTEN / "interrupted" / "checkpoint.safetensors")["position"]
    state = TrainState.from_dict(saved, ("top1",))
    assert (state.epoch, state.window, state.update, state.best_epoch) == (1, 3, 15, 1)
    assert state.metrics["samples_per_second"] > 0
    assert state.best == pytest.approx(state.metrics["ema_top1"])
