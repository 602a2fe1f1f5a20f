"""The forecast of a running training: shown and recorded before the target is reached."""

from pathlib import Path

from distdl.core.files import read_rows
from jobs import QUIET, Ranks

SLOW_LEARNER = (
    *("--optim.name", "sgd", "--optim.weight-decay", "0", "--optim.lr", "0.002", "--schedule.name", "constant"),
    *("--model.name", "softmax", "--epochs", "30", "--predict.target", "0.85"),
)


def test_a_run_predicts_when_it_reaches_its_target(tmp_path: Path) -> None:
    job = Ranks([*SLOW_LEARNER, *QUIET, "--progress", "plain", "--out", str(tmp_path / "run")])
    assert job.wait() == [0], job.text
    rows = list(read_rows(tmp_path / "run" / "metrics.jsonl"))
    reached_s = next(row["time_s"] for row in rows if row["kind"] == "test" and row["accuracy"] >= 0.85)
    forecasts = [row for row in rows if row["kind"] == "forecast"]
    assert forecasts
    assert all(row["time_s"] < reached_s for row in forecasts)
    last = forecasts[-1]
    assert last["low_s"] <= last["middle_s"] <= (last["high_s"] or float("inf"))
    assert "85.00% in " in job.text
    assert "85.00% reached" in job.text
