"""Non-negative fits of step times: exact without noise, coverage of the intervals, and refused inputs."""

import numpy as np
import pytest

from distdl.perf.speed import fit_speed, optimus
from distdl.perf.speed.form import Form, Term
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import Placements
from distdl.perf.speed.pollux import POLLUX
from distdl.perf.speed.solver import Problem, Solution, Unidentifiable, identifiable, profile_intervals, solve
from distdl.perf.speed.speed_fit import fit_form


def grid(servers, workers, batch: float = 40) -> np.ndarray:
    return np.array([(p, w, batch) for p in servers for w in workers], float)


def noisy(form, points, theta, overlap: float = 1.0, noise: float = 0.05, seed: int = 0) -> Measurements:
    exact = form.at(Placements(kind=form.kind, points=points)).time(np.array(theta), overlap)
    factor = 1 + noise * np.random.default_rng(seed).standard_normal(len(points))
    return Measurements(placements=Placements(kind=form.kind, points=points), step_s=exact * factor)


def covered(form, points, theta, overlap: float | None = None, draws: int = 200) -> dict[str, float]:
    """Share of draws in which each coefficient's interval contains the true value."""
    truth = dict(zip(form.names, theta, strict=True)) | ({"gamma": overlap} if overlap else {})
    hits = dict.fromkeys(truth, 0)
    for seed in range(draws):
        data = noisy(form, points, theta, overlap or 1.0, seed=seed)
        for name, (low, high) in fit_form(form, data).intervals.items():
            hits[name] += low <= truth[name] <= high
    return {name: count / draws for name, count in hits.items()}


PUBLISHED = list(optimus.PUBLISHED_SYNC.values())
DESIGNS = {
    "published": (optimus.SYNC, grid((1, 2, 4, 8), (1, 2, 4, 8, 16)), PUBLISHED),
    "twelve points": (optimus.SYNC, grid((1, 2, 4), (1, 2, 4, 8), 128), [0.01, 0.1, 0.5, 0.03, 0.02]),
    "three of each": (optimus.SYNC, np.repeat(grid((1, 2, 4), (1, 2, 4, 8)), 3, 0), PUBLISHED),
    "async": (optimus.ASYNC, grid((1, 2, 4, 8), (1, 2, 4, 8, 16)), list(optimus.UNCONFIRMED_ASYNC.values())),
}


@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_contain_each_true_coefficient_in_93_percent_of_200_draws(design: str) -> None:
    share = covered(*DESIGNS[design])
    assert min(share.values()) >= 0.93, share


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [1.0, 2.5, 5.0])
def test_intervals_cover_pollux_coefficients_if_exchange_overlaps_compute(overlap: float) -> None:
    shapes = [(1, 1), (1, 2), (1, 4), (1, 8), (2, 4), (2, 8), (4, 8), (4, 16)]
    points = np.array([(n, k, m) for n, k in shapes for m in (16, 32, 64, 128, 256)], float)
    share = covered(POLLUX, points, [0.02, 0.002, 0.01, 0.003, 0.08, 0.01], overlap)
    assert min(share.values()) >= 0.93, share


def test_coefficients_are_exact_without_noise() -> None:
    data = noisy(optimus.SYNC, grid((1, 2, 4), (1, 2, 4, 8)), PUBLISHED, noise=0)
    fit = fit_speed(data, "optimus-sync")
    assert list(fit.coefficients.values()) == pytest.approx(PUBLISHED, abs=1e-9)
    assert fit.mape < 1e-9 and fit.held_out_mape < 1e-9


def test_overlap_is_recovered() -> None:
    points = np.array(
        [(n, k, m) for n, k in [(1, 1), (1, 2), (1, 4), (2, 4), (2, 8), (4, 8)] for m in (16, 64, 256)], float
    )
    theta = [0.02, 0.002, 0.05, 0.01, 0.08, 0.01]
    fit = fit_speed(noisy(POLLUX, points, theta, 2.5, noise=0), "pollux")
    assert fit.overlap == pytest.approx(2.5, rel=0.02)
    assert fit.theta[:2] == pytest.approx(theta[:2], rel=0.02)


def test_separately_measured_compute_narrows_the_interval() -> None:
    shapes = [(1, 1), (2, 4), (2, 8), (4, 8)]
    points = np.array([(n, k, m) for n, k in shapes for m in (16, 64, 256)], float)
    form = POLLUX.measured_terms(noisy(POLLUX, points, [1] * 6))
    data = noisy(form, points, [0.02, 0.002, 0.3, 0.03], 3.0)
    compute, _ = form.at(Placements(kind=form.kind, points=points)).parts(np.array([0.02, 0.002, 0.3, 0.03]))
    sync = Measurements(
        placements=Placements(kind="replicas", points=points), step_s=data.step_s, sync_s=data.step_s - compute
    )
    with_it, without = (fit_speed(given, "pollux").intervals["alpha_compute"] for given in (sync, data))
    assert with_it[1] - with_it[0] < without[1] - without[0]


def test_a_form_is_homogeneous_in_its_coefficients() -> None:
    points = np.array([(1, 1, 8), (1, 4, 8), (2, 8, 32)], float)
    terms, theta = POLLUX.at(Placements(kind="replicas", points=points)), np.array([0.1, 0.01, 0.05, 0.01, 0.2, 0.02])
    for overlap in (1.0, 2.0, 7.5):
        assert terms.jacobian(theta, overlap) @ theta == pytest.approx(terms.time(theta, overlap), rel=1e-6)


def test_a_known_value_pulls_its_coefficient() -> None:
    data = noisy(optimus.SYNC, grid((1, 2), (1, 2, 4), 128), [0.01, 0.1, 0.5, 0.03, 0.02], noise=0.1, seed=3)
    free = solve(Problem.of(optimus.SYNC, data), 1.0).theta[2]
    informed = solve(Problem.of(optimus.SYNC, data, {"t2": (0.5, 1.0)}), 1.0).theta[2]
    assert abs(informed - 0.5) < abs(free - 0.5)


@pytest.mark.parametrize("form", ["optimus-sync", "optimus-async", "auto"])
def test_equal_workers_and_servers_are_refused_and_the_proposed_points_suffice(form: str) -> None:
    published = optimus.ASYNC if form == "optimus-async" else optimus.SYNC
    points = np.array([(n, n, 64) for n in range(1, 13)], float)
    data = noisy(published, points, [1.0] * len(published.names))
    with pytest.raises(Unidentifiable, match="measure also: servers") as refusal:
        fit_speed(data, form)
    extended = np.vstack([points, refusal.value.points])
    assert (refusal.value.points[:, 0] != refusal.value.points[:, 1]).all()
    assert fit_speed(noisy(published, extended, [1.0] * len(published.names)), form).mape < 0.1


def test_too_few_points_are_refused() -> None:
    data = noisy(optimus.SYNC, grid((1, 2), (1, 2)), PUBLISHED)
    with pytest.raises(Unidentifiable, match="4 configurations do not determine"):
        fit_speed(data, "optimus-sync")
    assert not identifiable(optimus.SYNC, data)
    assert not identifiable(optimus.SYNC, noisy(optimus.SYNC, np.repeat(grid((1, 2), (1, 2)), 5, axis=0), PUBLISHED)), (
        "repeated points"
    )
    points = grid((1, 2, 4), (1, 2, 4))
    count = len(optimus.SYNC.names)
    assert not identifiable(optimus.SYNC, noisy(optimus.SYNC, points[1 : count + 1], PUBLISHED)), "none left over"
    assert identifiable(optimus.SYNC, noisy(optimus.SYNC, points[1 : count + 2], PUBLISHED))


def test_the_end_of_a_profile_interval_follows_from_the_f_distribution() -> None:
    """One constant fitted to 3 times: n = 3, k = 2 with g, F(0.96; 1, 1) = 252.64; sum of squares (1 + F) times."""
    form = Form(name="constant", kind="replicas", compute={"a": Term("a step", lambda x: np.ones(len(x)))}, exchange={})
    step_s = np.exp([-0.2, 0.0, 0.2])
    points = Placements(kind="replicas", points=np.array([(1, 1, 8), (1, 1, 16), (1, 1, 32)], float))
    problem = Problem.of(form, Measurements(placements=points, step_s=step_s))
    (low, _), _ = profile_intervals(problem, np.array([1.0]), 1.0)
    assert np.log(low) == pytest.approx(-np.sqrt(252.64 * 0.08 / 3), abs=0.02)


@pytest.mark.parametrize("overlap", [1.5, 2.5, 6.0])
def test_slopes_of_a_solution_are_those_of_finite_differences(overlap: float) -> None:
    """The derivatives of the log times with respect to each coefficient and, last, 1 / g."""
    points = np.array([(1, 1, 8), (1, 4, 8), (2, 8, 32), (4, 8, 32)], float)
    theta = np.array([0.1, 0.01, 0.05, 0.01, 0.2, 0.02])
    problem = Problem.of(POLLUX, noisy(POLLUX, points, theta))

    def logs(values: np.ndarray) -> np.ndarray:
        return problem.linear(values[:-1], 1 / values[-1])[0]

    at = np.append(theta, 1 / overlap)
    for index, value in enumerate(at):
        change = 1e-5 * value * (np.arange(len(at)) == index)
        difference = (logs(at + change) - logs(at - change)) / (2e-5 * value)
        slope = Solution.of(problem, theta, 1 / overlap, None).slope[:, index]
        assert slope == pytest.approx(difference, rel=1e-3, abs=1e-6)
