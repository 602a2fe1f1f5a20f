"""Held-out errors: each measurement is held out once, repeated placements together; errors are compared per point."""

import numpy as np
import pytest

from distdl.perf.speed import optimus
from distdl.perf.speed.cross_validation import Errors, cross_validate, folds
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import Placements
from distdl.perf.speed.pollux import POLLUX
from distdl.perf.speed.speed_fit import fit_form

GRID = np.array([(p, w, 64) for p in (1, 2, 4) for w in (1, 2, 4, 8)], float)


def measured(points: np.ndarray, noise: float = 0.05) -> Measurements:
    exact = optimus.step_s(optimus.PUBLISHED_SYNC, *points.T)
    factor = 1 + noise * np.random.default_rng(0).standard_normal(len(points))
    return Measurements(placements=Placements(kind="servers", points=points), step_s=exact * factor)


def test_folds_hold_out_each_measurement_once_and_repetitions_together() -> None:
    data = measured(np.repeat(GRID, 2, 0))
    masks = folds(data)
    assert len(masks) == 12 and np.sum(masks, 0).tolist() == [1] * 24
    assert all(mask.reshape(-1, 2).all(1).sum() == 1 for mask in masks)
    assert len(folds(data, most=5)) == 5


def test_a_held_out_error_is_that_of_a_fit_to_the_other_placements() -> None:
    data = measured(GRID)
    errors = cross_validate(fit_form(optimus.SYNC, data), folds(data))
    rest = np.arange(12) != 7
    predicted = fit_form(optimus.SYNC, data.take(rest)).predict(data.placements.take(~rest)).step_s
    assert errors.relative[7] == pytest.approx(predicted[0] / data.step_s[7] - 1)
    assert errors.mape == pytest.approx(np.abs(errors.relative).mean())


def test_errors_exceed_others_only_if_significant() -> None:
    few, many = np.full(20, 0.05), np.random.default_rng(0).uniform(0.06, 0.08, 20)
    assert Errors(relative=many).exceed(Errors(relative=few))
    assert not Errors(relative=few).exceed(Errors(relative=few))
    scattered = np.where(np.arange(20) % 2, 0.02, 0.09)  # larger on average, but not at most points
    assert not Errors(relative=scattered).exceed(Errors(relative=few))


def test_the_overlap_is_fitted_in_each_fold_if_the_form_does_not_define_it() -> None:
    shapes = [(1, 1), (1, 2), (1, 4), (2, 4), (2, 8), (4, 8)]
    points = Placements(kind="replicas", points=np.array([(n, k, m) for n, k in shapes for m in (16, 64, 256)], float))
    exact = POLLUX.at(points).time(np.array([0.02, 0.002, 0.05, 0.01, 0.08, 0.01]), 2.5)
    noise = 1 + 0.05 * np.random.default_rng(0).standard_normal(len(points))
    data = Measurements(placements=points, step_s=exact * noise)
    rest = np.arange(len(points)) // 3 != 2
    errors = cross_validate(fit_form(POLLUX, data), [~rest])
    other = fit_form(POLLUX, data.take(rest))
    predicted = other.predict(points.take(~rest)).step_s
    assert abs(other.overlap / fit_form(POLLUX, data).overlap - 1) > 0.01
    assert errors.relative[~rest] == pytest.approx(predicted / data.step_s[~rest] - 1, abs=1e-3)
