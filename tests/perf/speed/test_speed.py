"""Speed fits as users make them: auto compared with published forms, held-out errors, saved fits."""

import json
from dataclasses import replace

import numpy as np
import pytest

from distdl.core.errors import UserError
from distdl.perf.speed import fit_speed, optimus
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import Placements
from distdl.perf.speed.predict import predict_speed
from distdl.perf.speed.speed_fit import from_dict


def cluster(seed: int, servers=range(1, 9), workers=range(1, 13)) -> Measurements:
    """Simulate a realistic cluster: uneven samples and shards, half of the exchange overlaps, 5 % noise."""
    rng = np.random.default_rng(seed)
    tensors = rng.lognormal(0, 1.6, 40)
    rows = []
    for p in servers:
        shards = np.zeros(p)
        for size in tensors:
            shards[rng.integers(p)] += size
        for w in workers:
            compute = 0.05 + 0.01 * np.ceil(32 / w)
            exchange = 0.02 + 0.06 * w * shards.max() / tensors.sum() + 0.03 * (w > 1)
            step = (compute**2 + exchange**2) ** 0.5 * (1 + 0.05 * rng.standard_normal())
            rows.append((p, w, 32, step))
    table = np.array(rows, float)
    return Measurements(placements=Placements(kind="servers", points=table[:, :3]), step_s=table[:, 3])


def test_the_held_out_error_of_auto_is_a_quarter_lower_than_the_published_forms() -> None:
    ratios = []
    for seed in range(3):
        data = cluster(seed)
        ratios.append(fit_speed(data, "auto").held_out_mape / fit_speed(data, "optimus-sync").held_out_mape)
    assert np.mean(ratios) <= 0.75, ratios


def test_the_held_out_error_of_auto_holds_for_new_configurations() -> None:
    data = cluster(4)
    known = np.random.default_rng(0).random(len(data)) < 0.7
    fit, other = fit_speed(data.take(known)), data.take(~known)
    mid, low, high = fit.predict(other.placements)
    error = np.abs(mid / other.step_s - 1).mean()
    assert error < 1.5 * fit.held_out_mape
    assert ((other.step_s > low) & (other.step_s < high)).mean() > 0.85


def test_auto_recovers_data_of_the_published_form() -> None:
    points = np.array([(p, w, 40) for p in (1, 2, 4, 8) for w in (1, 2, 4, 8, 10)], float)
    exact = optimus.step_s(optimus.PUBLISHED_SYNC, *points.T)
    errors = []
    for seed in range(5):
        noise = 1 + 0.05 * np.random.default_rng(seed).standard_normal(len(points))
        data = Measurements(placements=Placements(kind="servers", points=points), step_s=exact * noise)
        errors.append(np.abs(fit_speed(data, "auto").predict(data.placements).step_s / exact - 1).mean())
    assert np.mean(errors) < 0.025, errors  # half of the measurement noise


def test_known_bytes_and_bandwidth_reduce_the_error_of_the_link_term() -> None:
    points = np.array([(1, 1, 32), (1, 2, 32), (1, 3, 32), (2, 2, 32), (2, 3, 32), (2, 4, 32)], float)
    exact = 0.1 + 0.02 * np.ceil(32 / points[:, 1]) + 0.16 * points[:, 1] / points[:, 0]
    off = {"free": [], "known": []}
    for seed in range(8):
        noise = 1 + 0.08 * np.random.default_rng(seed).standard_normal(len(points))
        data = Measurements(placements=Placements(kind="servers", points=points), step_s=exact * noise, mode="sync")
        for name, given in (("free", {}), ("known", {"parameter_bytes": 1e7, "bytes_per_s": 1.25e8})):
            fit = fit_speed(data, **given)
            (share,) = (value for term, value in fit.coefficients.items() if term in ("shard", "link"))
            off[name].append(abs(share / 0.16 - 1))
    assert optimus.network_t2(1e7, 1.25e8) == pytest.approx(0.16)
    assert np.mean(off["known"]) < np.mean(off["free"])


def test_t2_of_network_bound_runs_is_twice_the_bytes_divided_by_bandwidth() -> None:
    points = np.array([(p, w, 64) for p in (1, 2, 4) for w in (1, 2, 4, 8)], float)
    size, rate = 44.7e6, 25e6
    step = 0.2 + 0.01 * 64 / points[:, 1] + 2 * size * points[:, 1] / points[:, 0] / rate
    noise = 1 + 0.05 * np.random.default_rng(0).standard_normal(len(points))
    fit = fit_speed(
        Measurements(placements=Placements(kind="servers", points=points), step_s=step * noise), "optimus-sync"
    )
    assert fit.coefficients["t2"] == pytest.approx(optimus.network_t2(size, rate), rel=0.15)


def test_auto_includes_the_load_of_a_workers_link() -> None:
    points = np.array([(p, w, 64) for p in (1, 2, 4) for w in (1, 2, 4, 8)], float)
    share = np.maximum(points[:, 1] / points[:, 0], 1)
    step = 0.03 + 0.001 * 64 / points[:, 1] + 1.05 * share + 0.004 * points[:, 1]
    noise = 1 + 0.01 * np.random.default_rng(0).standard_normal(len(points))
    data = Measurements(placements=Placements(kind="servers", points=points), step_s=step * noise, mode="sync")
    selected, published = fit_speed(data), fit_speed(data, "optimus-sync")
    assert selected.coefficients["link"] == pytest.approx(1.05, rel=0.05)
    assert selected.held_out_mape < 0.03 < published.held_out_mape


def test_repeated_measurements_of_a_configuration_are_held_out_together() -> None:
    data = cluster(1, (1, 2, 4), (1, 2, 4, 8))
    twice = Measurements(
        placements=Placements(kind="servers", points=np.repeat(data.points, 2, 0)), step_s=np.repeat(data.step_s, 2)
    )
    fit = fit_speed(twice, "optimus-sync")
    assert fit.held_out.reshape(-1, 2).T[0] == pytest.approx(fit.held_out.reshape(-1, 2).T[1])
    assert fit.held_out_mape == pytest.approx(fit_speed(data, "optimus-sync").held_out_mape, rel=1e-6)


@pytest.mark.parametrize("form", ["auto", "optimus-sync", "pollux"])
def test_a_fit_saved_and_read_back_predicts_the_same(form: str) -> None:
    if form == "pollux":
        points = np.array([(n, k, m) for n, k in [(1, 1), (1, 2), (1, 4), (2, 4), (2, 8)] for m in (16, 64)], float)
        step = 0.02 + 0.001 * points[:, 2] + 0.02 * (points[:, 1] - 1) * points[:, 0]
        data = Measurements(placements=Placements(kind="replicas", points=points), step_s=step)
    else:
        data = cluster(0, (1, 2, 4), (1, 2, 4, 8))
    fit = fit_speed(data, form)
    again = from_dict(json.loads(json.dumps(fit.as_dict())))
    others = data.placements.at(data.points + np.array([1, 2, 0]))
    for first, other in zip(fit.predict(others), again.predict(others), strict=True):
        assert first == pytest.approx(other, rel=1e-9)
    assert again.coefficients == fit.coefficients and again.intervals == fit.intervals


def test_a_form_for_other_columns_is_refused() -> None:
    with pytest.raises(UserError, match="pollux is fitted to columns nodes, replicas"):
        fit_speed(cluster(0, (1, 2), (1, 2, 4)), "pollux")
    with pytest.raises(UserError, match="must be given together"):
        fit_speed(cluster(0), parameter_bytes=1.0)


def test_predictions_mark_extrapolation_and_omit_infeasible_configurations() -> None:
    fit = fit_speed(cluster(0, (1, 2, 4), (1, 2, 4, 8)), "optimus-sync")
    rows = predict_speed(fit, ([1, 4], [4, 16, 64]), [32])
    assert [(row.point["servers"], row.point["workers"], row.outside) for row in rows] == [
        (1, 4, False),
        (1, 16, True),
        (4, 4, False),
        (4, 16, True),
    ]
    assert all(row.low_s < row.step_s < row.high_s for row in rows)
    assert rows[0].images_per_s == pytest.approx(32 * rows[0].steps_per_s)
    with pytest.raises(UserError, match="none of these configurations can run"):
        predict_speed(fit, ([1], [64]), [32])


def test_an_asynchronous_update_processes_one_workers_share_of_the_batch() -> None:
    points = np.array([(p, w, 32) for p in (1, 2, 4) for w in (1, 2, 4, 8)], float)
    step = (1 + 0.3 * points[:, 1] / points[:, 0]) / points[:, 1]
    fit = fit_speed(
        Measurements(placements=Placements(kind="servers", points=points), step_s=step, mode="async"), "auto"
    )
    row = predict_speed(fit, ([2], [4]), [32])[0]
    assert row.images_per_s == pytest.approx(8 * row.steps_per_s)
    assert row.step_s == pytest.approx((1 + 0.3 * 2) / 4, rel=1e-3)


@pytest.mark.parametrize(("replayed", "warnings"), [(0, ()), (2, ("2 of 12 measurements replayed recorded compute",))])
@pytest.mark.parametrize("form", ["auto", "optimus-sync"])
def test_replayed_measurements_are_a_warning(form: str, replayed: int, warnings: tuple[str, ...]) -> None:
    data = replace(cluster(0, (1, 2, 4), (1, 2, 4, 8)), replayed=replayed)
    assert fit_speed(data, form).warnings == warnings
