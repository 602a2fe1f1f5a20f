"""Trackers receive a run on rank 0, and cannot end it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from distdl.training.callbacks import tracking
from jobs import QUIET, Ranks
from simulated_time import simulate_time

ARGV = ("--epochs", "2", "--log-every-s", "0", *QUIET)


def calls(run: Path, file: str = "calls.jsonl") -> list[list]:
    return [json.loads(line) for line in (run / file).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_tracker_receives_the_run_once(tmp_path: Path, ranks: int) -> None:
    run, name = tmp_path / "run", "user_trackers:JsonLines"
    argv = [*ARGV, "--trackers", name, "--options", f"{name}.file=kept.jsonl", "--metrics", "top-k"]
    job = Ranks([*argv, "--out", str(run)], ranks=ranks)
    assert job.wait() == [0] * ranks, job.text
    result = json.loads((run / "result.json").read_text())
    kinds = [call[0] for call in calls(run, "kept.jsonl")]
    assert (kinds[0], kinds[-2:]) == ("config", ["result", "close"])
    assert kinds.count("config") == kinds.count("close") == 1
    metrics = [call for call in calls(run, "kept.jsonl") if call[0] == "metrics"]
    train = [(values, step) for _, values, step in metrics if "train/loss" in values]
    assert [step for _, step in train] == list(range(1, result["steps"] + 1))
    assert all(values["train/lr"] >= 0 for values, _ in train)
    last = metrics[-1][1]
    assert last == {f"test/{name}": result["test"][name] for name in ("accuracy", "loss", "top-k")}
    assert 0 < last["test/accuracy"] <= last["test/top-k"] <= 1
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["top-k"] for row in rows if row["kind"] == "test"][-1] == last["test/top-k"]


def test_each_failed_tracker_is_one_warning(tmp_path: Path) -> None:
    run, module = tmp_path / "run", "user_trackers"
    argv = [*ARGV, "--trackers", f"{module}:Unreachable", f"{module}:Disconnected", f"{module}:JsonLines"]
    job = Ranks([*argv, "--out", str(run)])
    assert job.wait() == [0], job.text
    warnings = [line for line in job.text.splitlines() if line.startswith("warning: tracker")]
    assert len(warnings) == 2
    assert "Unreachable" in warnings[0] and "no route to host" in warnings[0]
    assert "Disconnected" in warnings[1] and "connection reset" in warnings[1]
    assert calls(run)[-1] == ["close", "completed"]


@pytest.mark.parametrize(("log_every_s", "steps"), [(0.0, [1, 2, 3, 4, 5, 6]), (2.5, [1, 4]), (100.0, [1])])
def test_losses_are_logged_at_the_interval(
    monkeypatch: pytest.MonkeyPatch, log_every_s: float, steps: list[int]
) -> None:
    """Six steps, each of a second."""
    clock, logged = simulate_time(monkeypatch, tracking), []
    tracker = SimpleNamespace(log_metrics=lambda values, step: logged.append((values, step)))
    trainer = SimpleNamespace(
        config=SimpleNamespace(log_every_s=log_every_s),
        progress=SimpleNamespace(step=0),
        optimizer=SimpleNamespace(param_groups=[{"lr": 0.5}]),
    )
    callback = tracking.Tracking({})
    callback.begin(trainer)
    callback._trackers["tracker"] = tracker
    for step in range(1, 7):
        clock.advance(1)
        trainer.progress.step = step
        callback.step_end(trainer, torch.tensor(float(step)))
    assert logged == [({"train/loss": float(step), "train/lr": 0.5}, step) for step in steps]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("user_trackers:JsonLines.fil=x", 'did you mean "file"'),
        ("user_trackers:JsonLine.file=x", 'did you mean "user_trackers:JsonLines"'),
        ("los.margin=1", 'options.los: no component here has this key; did you mean "loss"'),
    ],
)
def test_invalid_options_are_refused_before_files_are_written(tmp_path: Path, options: str, message: str) -> None:
    argv = [*ARGV, "--trackers", "user_trackers:JsonLines", "--options", options]
    job = Ranks([*argv, "--out", str(tmp_path / "run")])
    assert job.wait() == [2], job.text
    assert message in job.text
    assert not (tmp_path / "run").exists()
