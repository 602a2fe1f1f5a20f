"""Speed models on real parameter-server runs over links of known rate (benchmarks/ps_ground_truth.py)."""

import csv

import numpy as np
import pytest

from distdl.launchers.netns import parse_rate
from distdl.perf.speed import fit_speed
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.optimus import network_t2
from distdl.perf.speed.placements import Placements
from repository import ROOT

(POINTS,) = (ROOT / "benchmarks" / "results").glob("ps_ground_truth_cpu_*.csv")
PARAMETER_BYTES = 3_274_634 * 4


def measured(rate: str) -> Measurements:
    with POINTS.open(encoding="utf-8") as source:
        rows = [row for row in csv.DictReader(source) if row["rate"] == rate]
    points = np.array([[float(row[name]) for name in ("servers", "workers", "batch_size")] for row in rows])
    return Measurements(
        placements=Placements(kind="servers", points=points),
        step_s=np.array([float(r["step_s"]) for r in rows]),
        mode="sync",
    )


@pytest.mark.parametrize("rate", ["200mbit", "1gbit"])
def test_the_fitted_t2_is_twice_the_bytes_divided_by_the_rate(rate: str) -> None:
    data, known = measured(rate), network_t2(PARAMETER_BYTES, parse_rate(rate) / 8)
    assert len(data) == 12
    assert fit_speed(data, "optimus-sync").coefficients["t2"] == pytest.approx(known, rel=0.15)
    assert fit_speed(data, "auto").coefficients["link"] == pytest.approx(known, rel=0.15)


@pytest.mark.parametrize("rate", ["200mbit", "1gbit"])
def test_a_left_out_configuration_is_predicted(rate: str) -> None:
    data = measured(rate)
    assert fit_speed(data, "auto").held_out_mape < 0.1
    bound = data.take(data.points[:, 1] >= data.points[:, 0])
    assert fit_speed(bound, "optimus-sync").held_out_mape < 0.1
