"""The current result of a run: result.json, unless metrics.jsonl has later rows."""

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distdl.core import runlock
from distdl.core.errors import UserError
from distdl.core.result import (
    IDENTITY,
    TAIL_BYTES,
    UNFINISHED,
    current_result,
    is_unfinished,
    newest_rows,
    read_result,
)

ENDED = ("completed", "stopped", "failed")
"""Status of a run with a final result, unless it is resumed."""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    runlock.release(tmp_path)


def row(step: int, kind: str = "train", **values: Any) -> dict[str, Any]:
    return {"time_s": 10.0 * step, "step": step, "epoch": step / 4, "kind": kind, **values}


def write(run: Path, result: dict[str, Any] | None, *rows: dict[str, Any]) -> None:
    if result is not None:
        (run / "result.json").write_text(json.dumps(result))
    if rows:
        (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))


def test_a_folder_without_result_and_measurements_has_an_empty_result(run: Path) -> None:
    assert read_result(run) == current_result(run) == {}


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b"[1]", b"3"])
def test_a_damaged_result_is_a_one_line_error(run: Path, content: bytes) -> None:
    (run / "result.json").write_bytes(content)
    for read in (read_result, current_result):
        with pytest.raises(UserError, match=f"^{run / 'result.json'} is not (a result of distdl: |text)") as error:
            read(run)
        assert "\n" not in str(error.value)
    (run / "result.json").unlink()
    (run / "result.json").mkdir()
    with pytest.raises(UserError, match=r"result\.json is a folder, not a file"):
        read_result(run)


@pytest.mark.parametrize("status", ENDED)
@pytest.mark.parametrize("last", [7, 8])
def test_the_result_of_an_ended_run_is_current(run: Path, status: str, last: int) -> None:
    result = {"status": status, "steps": 8, "test": {"accuracy": 0.5}}
    write(run, result, row(last))
    assert current_result(run) == result
    assert not is_unfinished(result)


def test_later_rows_replace_the_figures_of_a_result(run: Path) -> None:
    """The run was resumed and killed, so result.json belongs to the previous leg."""
    identity = {name: f"its {name}" for name in IDENTITY}
    write(run, {**identity, "status": "completed", "steps": 8, "test": {"accuracy": 0.5}}, row(8), row(9), row(5))
    current = current_result(run)
    assert current["steps"] == 9 and current["status"] == "not ended"
    assert {name: current[name] for name in IDENTITY} == identity
    assert "test" not in current
    assert is_unfinished(current)


def test_current_figures_are_those_of_the_last_training_row(run: Path) -> None:
    seconds = {"evaluate": 3.0, "start": 5.0, "warm": 7.0}
    measured = {"images_per_s": 12.5, "phases_s": {"forward": 1.0}, "seconds": seconds}
    write(run, None, row(4), row(7, **measured), row(8, "test", accuracy=0.5))
    assert current_result(run) == {
        "status": "not ended",
        "steps": 8,
        "epochs": 1,
        "train_s": 70.0,
        "held_s": 78.0,  # without the warm-up steps, which are part of the training
        "images_per_s": 12.5,
        "phases_s": {"forward": 1.0},
        "evaluate_s": 3.0,
        "checkpoint_s": 0.0,
        "start_s": 5.0,
        "warm_s": 7.0,
    }


@pytest.mark.parametrize("seconds", [None, [1.0], {"evaluate": "x"}, {"evaluate": -1}, {"evaluate": True}, {"a": 2e19}])
def test_damaged_seconds_are_ignored(run: Path, seconds: Any) -> None:
    write(run, None, row(7, seconds=seconds))
    current = current_result(run)
    assert (current["train_s"], current["held_s"], current["evaluate_s"]) == (70.0, 70.0, 0.0)


def test_a_run_without_a_training_row_has_status_and_step(run: Path) -> None:
    write(run, None, row(3, "warning"))
    assert current_result(run) == {"status": "not ended", "steps": 3}


@pytest.mark.parametrize("status", [*ENDED, *UNFINISHED, None])
def test_a_run_whose_folder_is_locked_is_running(run: Path, status: str | None) -> None:
    write(run, {"status": status, "steps": 3}, row(4))
    assert runlock.hold(run)
    assert current_result(run)["status"] == "running"


@pytest.mark.parametrize(
    ("status", "host", "current"),
    [
        ("running", platform.node(), "killed"),
        ("running", "another", "running"),  # its lock may not be visible on this host
        ("completed", platform.node(), "not ended"),
        ("killed", platform.node(), "not ended"),
    ],
)
def test_a_run_without_a_lock(run: Path, status: str, host: str, current: str) -> None:
    write(run, {"status": status, "host": host, "steps": 3}, row(4))
    assert current_result(run)["status"] == current


def test_a_running_result_without_steps_is_unfinished(run: Path) -> None:
    write(run, {"status": "running", "host": platform.node(), "started": "x"})
    assert current_result(run) == {"status": "killed", "host": platform.node(), "started": "x", "steps": 0}


def test_a_result_of_version_1_without_steps_is_current(run: Path) -> None:
    write(run, {"status": "completed"}, row(4))
    assert current_result(run) == {"status": "completed"}


def test_damaged_rows_at_the_end_of_the_file_are_skipped(run: Path) -> None:
    file = run / "metrics.jsonl"
    assert newest_rows(file) == []
    good = [row(1), row(2)]
    lines = [json.dumps(each).encode() + b"\n" for each in good]
    file.write_bytes(lines[0] + b"{\n[1]\n" + json.dumps({"step": 1}).encode() + b"\n" + lines[1] + lines[1][:-1])
    assert newest_rows(file) == good


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_only_the_tail_of_a_long_file_is_read(run: Path, more: int) -> None:
    """A truncated first line of the tail is not read, even if the rest of it is a valid row."""
    file, last = run / "metrics.jsonl", json.dumps(row(2)).encode() + b"\n"
    first = json.dumps(row(1)).encode()
    padding = b" " * (TAIL_BYTES - len(last) - len(first) - 1 + more)
    file.write_bytes(padding + first + b"\n" + last)
    assert [each["step"] for each in newest_rows(file)] == ([2] if more > 0 else [1, 2])
