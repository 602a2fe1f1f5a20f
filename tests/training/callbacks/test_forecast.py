"""The forecast of a running training: there in time, before the target, and after a resume."""

from pathlib import Path

import pytest

from distdl.core.files import read_rows
from distdl.training.callbacks.forecast import duration
from jobs import QUIET, Ranks

SLOW_LEARNER = (
    *("--optim.name", "sgd", "--optim.weight-decay", "0", "--optim.lr", "0.002", "--schedule.name", "constant"),
    *("--model.name", "softmax", "--epochs", "30", "--predict.target", "0.85"),
)


def test_a_run_foretells_when_it_meets_its_target(tmp_path: Path) -> None:
    job = Ranks([*SLOW_LEARNER, *QUIET, "--progress", "plain", "--out", str(tmp_path / "run")])
    assert job.wait() == [0], job.text
    rows = list(read_rows(tmp_path / "run" / "metrics.jsonl"))
    reached = next(row["time_s"] for row in rows if row["kind"] == "test" and row["accuracy"] >= 0.85)
    foretold = [row for row in rows if row["kind"] == "forecast"]
    assert foretold
    assert all(row["time_s"] < reached for row in foretold)
    last = foretold[-1]
    assert last["low_s"] <= last["middle_s"] <= (last["high_s"] or float("inf"))
    assert "85.00% in " in job.text
    assert "85.00% reached" in job.text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3.2, "3 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h"), (float("inf"), "never")],
)
def test_durations_are_said_as_a_person_says_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
