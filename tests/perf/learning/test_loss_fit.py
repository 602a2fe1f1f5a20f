"""Loss curves: Optimus' coefficients and their intervals, outliers, and phases where the learning rate drops."""

import numpy as np
import pytest

from distdl.core.errors import UserError
from distdl.perf.learning.curves import DECAY, HYPERBOLA, POWER, SHAPES, solve
from distdl.perf.learning.loss_fit import fit_loss, fit_phase, replace_outliers

TRUTH = np.array([0.004, 0.4, 0.15])


def noisy(curve, steps: np.ndarray, noise: float = 0.05, seed: int = 0) -> np.ndarray:
    return curve(steps) * (1 + noise * np.random.default_rng(seed).standard_normal(len(steps)))


def hyperbola(steps: np.ndarray) -> np.ndarray:
    return HYPERBOLA.value(TRUTH, steps)


def with_drops(k: np.ndarray) -> np.ndarray:
    first, second = 0.25 + 0.2 * np.exp(-(k - 150) / 8), 0.12 + 0.1 * np.exp(-(k - 250) / 5)
    return np.where(k <= 150, 1 / (0.03 * k + 0.45) + 0.45, np.where(k <= 250, first, second))


@pytest.mark.parametrize("n", [40, 400])
def test_intervals_contain_each_true_coefficient_in_93_percent_of_200_draws(n: int) -> None:
    steps, hits = np.linspace(10, 4000, n), np.zeros(3)
    for seed in range(200):
        phase = fit_phase(HYPERBOLA, steps, noisy(hyperbola, steps, seed=seed), first=0.0)
        hits += (phase.intervals[:, 0] <= TRUTH) & (phase.intervals[:, 1] >= TRUTH)
    assert (hits / 200).min() >= 0.93, hits / 200


def test_autocorrelated_noise_widens_the_intervals() -> None:
    steps, hits = np.arange(1.0, 401) * 10, np.zeros(3)
    for seed in range(40):
        white = np.random.default_rng(seed).standard_normal(400)
        correlated = np.zeros(400)
        for i in range(1, 400):
            correlated[i] = 0.8 * correlated[i - 1] + 0.03 * white[i]
        phase = fit_phase(HYPERBOLA, steps, hyperbola(steps) * np.exp(correlated), first=0.0)
        hits += (phase.intervals[:, 0] <= TRUTH) & (phase.intervals[:, 1] >= TRUTH)
    assert (hits / 40).min() >= 0.8, hits / 40


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_each_shape_is_recovered_and_inverted(shape) -> None:
    truth = {"hyperbola": TRUTH, "power": np.array([2.0, 0.4, 0.1]), "decay": np.array([1.0, 0.002, 0.2])}[shape.name]
    steps = np.arange(1.0, 2001)
    losses = shape.value(truth, steps)
    assert solve(shape, steps, losses) == pytest.approx(truth, rel=0.02)
    assert shape.steps_to(truth, losses[700]) == pytest.approx(steps[700])
    assert np.isinf(shape.steps_to(truth, truth[2] / 2))
    step = 1e-6 * truth
    numeric = [(shape.value(truth + step * e, steps) - losses) / step[i] for i, e in enumerate(np.eye(3))]
    assert shape.slope(truth, steps) == pytest.approx(np.stack(numeric, 1), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "coefficients", "losses"),
    [
        # 1 / (b0 k + b1) + b2; scale (k + 1)^-power + floor; scale e^(-rate k) + floor
        (HYPERBOLA, (0.004, 0.4, 0.15), {0: 2.65, 100: 1.4, 900: 0.4}),
        (POWER, (2.0, 0.5, 0.1), {0: 2.1, 3: 1.1, 99: 0.3}),
        (DECAY, (2.0, np.log(2), 0.1), {0: 2.1, 1: 1.1, 3: 0.35}),
    ],
)
def test_each_shape_matches_hand_calculations(shape, coefficients, losses) -> None:
    theta, steps = np.array(coefficients), np.array([*losses], float)
    assert shape.value(theta, steps) == pytest.approx([*losses.values()])
    assert shape.steps_to(theta, np.array([*losses.values()])) == pytest.approx(steps, abs=1e-9)


def test_coefficients_are_in_the_unit_of_the_loss() -> None:
    steps = np.arange(1.0, 301) * 10
    losses = hyperbola(steps)
    unscaled, scaled = fit_loss(steps, losses).optimus, fit_loss(steps, 1000 * losses).optimus
    assert unscaled.coefficients == pytest.approx(TRUTH, rel=1e-4)
    assert scaled(steps) == pytest.approx(1000 * losses, rel=1e-4)


def test_an_outlier_is_replaced_by_the_mean_of_its_neighbors() -> None:
    losses = noisy(hyperbola, np.arange(1.0, 201) * 10, 0.01)
    with_outliers = losses.copy()
    with_outliers[[50, 120]] *= [8, 0.1]
    cleaned, count = replace_outliers(with_outliers)
    assert count == 2
    assert cleaned[50] == pytest.approx((losses[49] + losses[51]) / 2)
    assert np.delete(cleaned, [50, 120]) == pytest.approx(np.delete(losses, [50, 120]))
    assert replace_outliers(losses)[1] == 0


def test_a_hyperbola_is_fitted_with_one_phase() -> None:
    steps = np.arange(1.0, 401) * 10
    fit = fit_loss(steps, noisy(hyperbola, steps))
    assert len(fit.phases) == 1 and fit.held_out_mape < 0.05 and not fit.warnings


@pytest.mark.parametrize("drops", [None, [150.0, 250.0]], ids=["found", "known"])
def test_a_curve_with_drops_is_fitted_with_phases(drops) -> None:
    steps = np.arange(1.0, 351)
    fit = fit_loss(steps, noisy(with_drops, steps, 0.03), drops=drops)
    assert [phase.first for phase in fit.phases] == pytest.approx([0, 151, 251], abs=3)
    assert fit.held_out_mape < 0.15 * fit.optimus.held_out_mape
    assert fit(steps) == pytest.approx(with_drops(steps), rel=0.05)
    assert "3 phases" in fit.warnings[0]


def test_a_power_law_is_selected_for_its_own_data() -> None:
    steps = np.arange(1.0, 2001, 5)
    fit = fit_loss(steps, noisy(lambda k: POWER.value(np.array([3.0, 0.5, 0.05]), k), steps, 0.02), drops=[])
    assert fit.phases[0].shape is POWER and fit.held_out_mape < fit.optimus.held_out_mape


def test_a_phase_is_fitted_from_its_first_step() -> None:
    steps = np.arange(500.0, 900)
    phase = fit_phase(DECAY, steps, DECAY.value(np.array([1.0, 0.01, 0.3]), steps - 500), first=500.0)
    assert phase.coefficients == pytest.approx([1.0, 0.01, 0.3], rel=1e-3)


def test_a_warning_names_a_loss_that_does_not_decrease() -> None:
    steps = np.arange(1.0, 101)
    fit = fit_loss(steps, np.random.default_rng(0).uniform(0.9, 1.1, 100), drops=[])
    assert fit.optimus.coefficients[0] < 1e-2
    rising = fit_loss(steps, 1 + steps / 100, drops=[])
    assert "does not decrease" in rising.warnings[0]


def test_too_few_losses_are_refused() -> None:
    with pytest.raises(UserError, match="5 losses are too few"):
        fit_loss(np.arange(1.0, 6), np.ones(5))
