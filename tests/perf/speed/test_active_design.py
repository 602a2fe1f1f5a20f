"""The proposed next configuration reduces the error."""

from dataclasses import replace

import numpy as np
import pytest

from distdl.perf.speed import fit_speed, optimus
from distdl.perf.speed.active_design import candidates, missing_points, next_point
from distdl.perf.speed.form import Term
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import Placements
from distdl.perf.speed.speed_fit import at_coefficients, fit_form

THETA = dict(zip(optimus.SYNC.names, (0.02, 0.1, 0.3, 0.02, 0.01), strict=True))


def measured(points: np.ndarray, seed: int = 0) -> Measurements:
    noise = 1 + 0.05 * np.random.default_rng(seed).standard_normal(len(points))
    return Measurements(
        placements=Placements(kind="servers", points=points), step_s=optimus.step_s(THETA, *points.T) * noise
    )


def placements(points: list[tuple[int, int, int]]) -> Placements:
    return Placements(kind="servers", points=np.array(points, float))


CORNER = np.array([(p, w, 64) for p in (1, 2) for w in (1, 2, 3)], float)


def test_the_proposed_point_reduces_the_variance_as_predicted() -> None:
    fit = fit_speed(measured(CORNER), "optimus-sync")
    among = placements([(p, w, 64) for p in (1, 2, 4, 8) for w in (1, 2, 4, 8, 16)])
    point, gain = next_point(fit, among)
    variances = {}
    for other in among.points:
        extended = at_coefficients(optimus.SYNC, measured(np.vstack([CORNER, other])), fit.theta, 1.0)
        variances[tuple(other)] = extended.variance(among).mean()
    assert variances[tuple(point)] == min(variances.values())
    assert np.isclose(1 - variances[tuple(point)] / fit.variance(among).mean(), gain, atol=0.1)


def test_proposed_points_predict_better_than_random_points() -> None:
    among = placements([(p, w, 64) for p in range(1, 9) for w in range(1, 17)])
    exact = optimus.step_s(THETA, *among.points.T)

    def error(points: np.ndarray, seed: int) -> float:
        fit = fit_form(optimus.SYNC, measured(points, seed))
        return float(np.abs(fit.predict(among).step_s / exact - 1).mean())

    chosen, random = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        points = CORNER
        for _ in range(4):
            points = np.vstack([points, next_point(fit_form(optimus.SYNC, measured(points, seed)), among)[0]])
        chosen.append(error(points, seed))
        random.append(error(np.vstack([CORNER, rng.permutation(among.points)[:4]]), seed))
    assert np.mean(chosen) < np.mean(random)


def test_the_proposed_point_depends_on_the_targets() -> None:
    fit = fit_speed(measured(CORNER), "optimus-sync")
    among = placements([(1, 16, 64), (16, 1, 64)])
    assert next_point(fit, among, among.take(np.array([0])))[0].tolist() == [1, 16, 64]
    assert next_point(fit, among, among.take(np.array([1])))[0].tolist() == [16, 1, 64]


def test_missing_points_are_feasible_and_minimal() -> None:
    line = measured(np.array([(n, n, 64) for n in (1, 2, 4, 8)], float))
    points = missing_points(optimus.SYNC, line)
    assert 1 <= len(points) <= 3
    assert line.placements.at(points).is_feasible.all() and candidates(line).is_feasible.all()
    assert (
        len(missing_points(optimus.SYNC, measured(np.array([(p, w, 64) for p in (1, 2, 4) for w in (1, 2, 8)], float))))
        == 0
    )


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_missing_points_do_not_depend_on_the_units_of_a_term_or_of_time(unit: float) -> None:
    line = measured(np.array([(n, n, 64) for n in (1, 2, 4, 8)], float))
    term = optimus.SYNC.exchange["t3"]
    scaled = Term(term.unit, lambda x: unit * term.count(x))
    form = replace(optimus.SYNC, exchange=optimus.SYNC.exchange | {"t3": scaled})
    slower = replace(line, step_s=unit * line.step_s)
    expected = missing_points(optimus.SYNC, line).tolist()
    assert missing_points(form, line).tolist() == missing_points(optimus.SYNC, slower).tolist() == expected
