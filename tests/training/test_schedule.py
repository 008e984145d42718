"""The learning rate is a pure function of the update number."""

import pytest

from metaformer.errors import RunError
from metaformer.recipe import OptimizerConfig
from metaformer.training.schedule import learning_rate

COSINE = OptimizerConfig(epochs=10, lr=1e-3, warmup_epochs=2, warmup_lr=1e-6, min_lr=1e-5, cooldown_epochs=2)


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
    assert learning_rate(0, OptimizerConfig(epochs=3, lr=2e-3), 7) == pytest.approx(2e-3)


def test_the_peak_grows_with_the_batch() -> None:
    scaled = OptimizerConfig(epochs=3, lr=1e-3, lr_batch=1024, batch_size=4096)
    assert learning_rate(0, scaled, 7) == pytest.approx(4e-3)


def test_a_floor_above_the_peak_never_raises_the_rate() -> None:
    low = OptimizerConfig(epochs=3, lr=1e-6, min_lr=1e-5)
    assert max(learning_rate(update, low, 7) for update in range(21)) <= 1e-6


def test_the_time_scale_does_not_matter() -> None:
    for epoch in range(10):
        assert learning_rate(epoch * 3, COSINE, 3) == pytest.approx(learning_rate(epoch * 300, COSINE, 300))


def test_steps_take_the_rate_to_a_tenth_after_their_epochs() -> None:
    steps = OptimizerConfig(epochs=12, lr=1e-4, schedule="step", step_epochs=(8, 11), warmup_updates=50, warmup_lr=1e-7)
    assert learning_rate(0, steps, 100) == 1e-7
    assert learning_rate(25, steps, 100) == pytest.approx((1e-7 + 1e-4) / 2)
    assert {learning_rate(update, steps, 100) for update in range(50, 800)} == {1e-4}
    assert learning_rate(800, steps, 100) == learning_rate(1099, steps, 100) == pytest.approx(1e-5)
    assert learning_rate(1100, steps, 100) == learning_rate(1199, steps, 100) == pytest.approx(1e-6)


def test_a_power_of_what_is_left_ends_at_the_floor_after_so_many_updates() -> None:
    poly = OptimizerConfig(updates=40_000, lr=2e-4, schedule="poly", power=0.9, min_lr=0.0)
    assert learning_rate(0, poly, 632) == 2e-4
    assert learning_rate(20_000, poly, 632) == pytest.approx(2e-4 * 0.5**0.9)
    assert 0 < learning_rate(39_999, poly, 632) < 2e-8
    assert learning_rate(40_000, poly, 632) == 0


def test_steps_without_their_schedule_are_refused() -> None:
    with pytest.raises(RunError, match="step_epochs: expected schedule 'step' with them"):
        OptimizerConfig(step_epochs=(8,))
    with pytest.raises(RunError, match="step_epochs: expected increasing epochs"):
        OptimizerConfig(schedule="step", step_epochs=(11, 8))
