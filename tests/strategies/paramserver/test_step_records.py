"""Rows and summary of a worker's steps."""

from pathlib import Path

import pytest

from distdl.core.files import read_rows
from distdl.strategies.paramserver import step_records
from distdl.strategies.paramserver.exchange import ExchangeTimes
from distdl.strategies.paramserver.step_records import ComputeTimes, StepRecords
from simulated_time import simulate_time


def exchange(push_s: float = 1.0, staleness: int = 0, straggler: int = -1) -> ExchangeTimes:
    return ExchangeTimes(push_s=push_s, wait_s=2.0, pull_s=3.0, update_s=0.5, staleness=staleness, straggler=straggler)


def test_each_step_is_one_row(tmp_path: Path) -> None:
    records, file = StepRecords(), tmp_path / "worker-0.jsonl"
    records.open(file, step=0)
    for step in (1, 2):
        records.add(step, ComputeTimes(forward_s=0.25, backward_s=0.5), exchange(staleness=step), replayed=False)
    records.close()
    times = {"forward_s": 0.25, "backward_s": 0.5, "push_s": 1.0, "wait_s": 2.0, "pull_s": 3.0, "update_s": 0.5}
    expected = [{"step": step, **times, "staleness": step, "straggler": -1, "replayed": False} for step in (1, 2)]
    assert list(read_rows(file)) == expected


def test_the_summary_has_medians_and_counts() -> None:
    records = StepRecords()
    for step, (push_s, staleness) in enumerate([(1.0, 2), (5.0, 0), (2.0, 2)], start=1):
        records.add(step, ComputeTimes(), exchange(push_s, staleness), replayed=False)
    summary = records.summary()
    assert {name: value for name, value in summary["medians"].items() if name != "step_s"} == {
        "push_s": 2.0,
        "wait_s": 2.0,
        "pull_s": 3.0,
        "update_s": 0.5,
    }
    assert summary["staleness"] == {0: 1, 2: 2}
    assert summary["stragglers"] == {}


def test_the_step_time_is_the_median_without_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step has no beginning. The others take 9, 8, 7 s, which are warm-up, and then 1, 5 and 2 s."""
    clock, records, medians = simulate_time(monkeypatch, step_records), StepRecords(), []
    for step, seconds in enumerate([20, 9, 8, 7, 1, 5, 2], start=1):
        clock.advance(seconds)
        records.add(step, ComputeTimes(), exchange(), replayed=False)
        medians.append(records.summary()["medians"].get("step_s"))
    assert medians == [None, 9, 8.5, 8, 1, 3, 2]


def test_a_straggler_is_returned_once_and_counted_each_time() -> None:
    records = StepRecords()
    reported = [
        records.add(step, ComputeTimes(), exchange(straggler=worker), replayed=False)
        for step, worker in enumerate([-1, 2, 2, 0, 2])
    ]
    assert reported == [None, 2, None, 0, None]
    assert records.summary()["stragglers"] == {"worker 2": 3, "worker 0": 1}


def test_a_run_without_steps_has_a_summary() -> None:
    zeros = {"push_s": 0.0, "wait_s": 0.0, "pull_s": 0.0, "update_s": 0.0}
    assert StepRecords().summary() == {"medians": zeros, "staleness": {0: 0}, "stragglers": {}}
