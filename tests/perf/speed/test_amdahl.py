"""Fits of Amdahl's law, which need two numbers of workers."""

import numpy as np
import pytest

from distdl.perf.speed.amdahl import fit_amdahl


def test_the_true_coefficients_are_recovered() -> None:
    workers = np.array([1, 2, 4, 4, 8], float)
    fit = fit_amdahl(workers, 3 + 24 / workers)
    assert fit is not None and (fit.serial_s, fit.parallel_s) == pytest.approx((3, 24))
    assert fit.points == 4 and fit.error == pytest.approx(0, abs=1e-9) and fit.time_s(6) == pytest.approx(7)


def test_a_serial_part_is_never_negative() -> None:
    workers = np.array([1, 2, 4], float)
    fit = fit_amdahl(workers, 10 / workers**1.2)
    assert fit is not None and fit.serial_s == 0 and fit.error > 0.01


def test_a_single_number_of_workers_is_refused() -> None:
    assert fit_amdahl(np.full(3, 2.0), np.array([1.0, 1.1, 1.2])) is None
