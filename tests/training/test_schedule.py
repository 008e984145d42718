"""The learning rate is a pure function of the update number."""

import pytest

from metaformer.recipe import Optimisation
from metaformer.training.schedule import learning_rate

COSINE = Optimisation(epochs=10, lr=1e-3, warmup_epochs=2, warmup_lr=1e-6, min_lr=1e-5, cooldown_epochs=2)


def test_it_starts_at_the_warm_up_rate_peaks_and_ends_at_the_floor() -> None:
    assert learning_rate(0, COSINE, 5) == 1e-6
    assert learning_rate(5, COSINE, 5) == pytest.approx((1e-6 + 1e-3) / 2)
    assert learning_rate(10, COSINE, 5) == pytest.approx(1e-3)
    assert learning_rate(30, COSINE, 5) == pytest.approx((1e-3 + 1e-5) / 2)
    assert learning_rate(50, COSINE, 5) == learning_rate(59, COSINE, 5) == 1e-5


def test_it_rises_then_falls() -> None:
    rates = [learning_rate(update, COSINE, 5) for update in range(60)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_constant_rate_is_constant_between_warm_up_and_cool_down() -> None:
    constant = COSINE.with_changes(schedule="constant")
    assert {learning_rate(update, constant, 5) for update in range(10, 50)} == {1e-3}
    assert learning_rate(50, constant, 5) == 1e-5


def test_without_warm_up_the_first_update_is_at_the_peak() -> None:
    assert learning_rate(0, Optimisation(epochs=3, lr=2e-3), 7) == pytest.approx(2e-3)


def test_the_peak_grows_with_the_batch() -> None:
    scaled = Optimisation(epochs=3, lr=1e-3, lr_batch=1024, batch_size=4096)
    assert learning_rate(0, scaled, 7) == pytest.approx(4e-3)


def test_a_floor_above_the_peak_never_raises_the_rate() -> None:
    low = Optimisation(epochs=3, lr=1e-6, min_lr=1e-5)
    assert max(learning_rate(update, low, 7) for update in range(21)) <= 1e-6


def test_the_time_scale_does_not_matter() -> None:
    for epoch in range(10):
        assert learning_rate(epoch * 3, COSINE, 3) == pytest.approx(learning_rate(epoch * 300, COSINE, 300))
