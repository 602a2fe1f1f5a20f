"""Prediction, during a run, of the steps that remain to a target: accuracy, coverage of the interval, and cost."""

import math

import numpy as np
import pytest

from distdl.perf.learning.remaining import BINS, GROWTH, Remaining

CURVES = {
    "hyperbola": (lambda k: 1 / (0.002 * k + 0.4) + 0.1, 0.3),
    "power": (lambda k: 3 * (k + 1) ** -0.3, 0.3),
    "decay": (lambda k: 2 * np.exp(-k / 600) + 0.1, 0.13),
}


def predicted(curve, target: float, share: float, seed: int) -> tuple[tuple[float, float, float], float]:
    """The prediction after a share of the steps to the target, and the true number of remaining steps."""
    end = float(np.argmax(curve(np.arange(100_000.0)) <= target))
    remaining = Remaining(target)
    steps = np.linspace(1, end, 200)[: int(200 * share)]
    noise = 1 + 0.05 * np.random.default_rng(seed).standard_normal(len(steps))
    for step, loss in zip(steps, curve(steps) * noise, strict=True):
        remaining.update(step, loss)
    interval = remaining.remaining()
    assert interval is not None
    return interval, end - steps[-1]


@pytest.mark.parametrize("name", CURVES)
def test_after_half_of_the_steps_the_error_is_small_and_the_interval_covers_it(name: str) -> None:
    curve, target = CURVES[name]
    trials = [predicted(curve, target, 0.5, seed) for seed in range(40)]
    assert np.median([abs(middle / true_steps - 1) for (_, middle, _), true_steps in trials]) < 0.25
    assert np.mean([low <= true_steps <= high for (low, _, high), true_steps in trials]) >= 0.9


@pytest.mark.parametrize("name", CURVES)
def test_after_a_quarter_of_the_steps_the_interval_is_wider_and_covers_it(name: str) -> None:
    curve, target = CURVES[name]
    trials = [predicted(curve, target, 0.25, seed) for seed in range(40)]
    assert np.mean([low <= true_steps <= high for (low, _, high), true_steps in trials]) >= 0.8
    late = [predicted(curve, target, 0.75, seed)[0] for seed in range(10)]
    assert np.median([high - low for low, _, high in late]) < np.median([high - low for (low, _, high), _ in trials])


def test_remaining_steps_to_a_target_accuracy() -> None:
    remaining = Remaining(0.92, of="accuracy")
    for epoch in range(1, 21):
        remaining.update(100 * epoch, 0.95 - 0.5 / (epoch + 1))
    low, middle, high = remaining.remaining()
    true = 100 * (0.5 / 0.03 - 1) - 2000
    assert true < 0 and low == middle == high == 0  # it has been reached
    ahead = Remaining(0.94, of="accuracy")
    for epoch in range(1, 21):
        ahead.update(100 * epoch, 0.95 - 0.5 / (epoch + 1))
    low, middle, high = ahead.remaining()
    assert middle == pytest.approx(100 * (0.5 / 0.01 - 1) - 2000, rel=0.1) and low <= middle <= high


def test_a_target_below_the_floor_is_never_reached() -> None:
    remaining = Remaining(0.05)
    for step in range(1, 400):
        remaining.update(step, 0.5 * math.exp(-step / 40) + 0.2)
    assert remaining.remaining()[1] == math.inf


def test_there_is_no_early_estimate_and_nan_is_ignored() -> None:
    remaining = Remaining(0.1)
    assert remaining.remaining() is None
    for step in range(1, 8):
        remaining.update(step, 1 / step)
        remaining.update(step, math.nan)
    assert remaining.remaining() is None
    remaining.update(8, 1 / 8)
    assert remaining.remaining() is not None


def test_a_learning_rate_drop_starts_a_new_curve() -> None:
    remaining = Remaining(0.1)
    for step in range(1, 200):
        remaining.update(step, 0.5 + 1 / step, lr=0.1)
    assert remaining.remaining()[1] == math.inf
    remaining.update(200, 0.5, lr=0.01)
    assert remaining.remaining() is None
    for step in range(201, 260):
        remaining.update(step, 0.05 + 0.45 * math.exp(-(step - 200) / 40), lr=0.01)
    assert remaining.remaining()[1] == pytest.approx(200 + 40 * math.log(9) - 259, rel=0.1)


def test_remaining_steps_decrease_between_fits() -> None:
    remaining = Remaining(0.2)
    for step in range(1, 1001):
        remaining.update(step, 1 / (0.002 * step + 0.4) + 0.1)
    previous = remaining.remaining()[1]
    remaining.update(1010, 1 / (0.002 * 1010 + 0.4) + 0.1)
    assert remaining.remaining()[1] == pytest.approx(previous - 10)


def test_few_updates_fit_the_curve_and_with_few_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit takes tens of milliseconds. The number of fits grows with the logarithm of the number of steps."""
    remaining, noise = Remaining(0.2), 0.05 * np.random.default_rng(0).standard_normal(5000)
    values: list[int] = []
    fit = remaining._fit
    monkeypatch.setattr(remaining, "_fit", lambda: values.append(len(remaining._bins)) or fit())
    for step in range(1, 5001):
        remaining.update(step, 1 / (0.002 * step + 0.4) + 0.1 + noise[step - 1])
        remaining.remaining()
    assert len(values) <= np.log(5000) / np.log(GROWTH) and max(values) <= BINS


def test_an_unknown_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="known are loss and accuracy"):
        Remaining(0.5, of="error")
