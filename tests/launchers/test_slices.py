"""The ledger of slices, without a cluster: rows, totals and decisions."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from distdl.cli.slurm import begin as begin_slice
from distdl.core.config import Config, SlurmConfig
from distdl.core.errors import UserError
from distdl.core.files import read_rows
from distdl.core.manifest import seal
from distdl.launchers.ledger import Slice, load
from distdl.launchers.slices import Over, begin, end, ended_as, last_line, newest, totals

RUNNING = "RUNNING/None"
CONFIG = Config(slurm=SlurmConfig(total_lifetime_s=1000.0, slice_s=300.0, max_restarts=2))
STOPPED = Slice(job="7", waited_s=10.0, compute_s=280.0, first_step=0, last_step=5, ended="stopped")
FAILED = Slice(job="7", waited_s=10.0, compute_s=20.0, first_step=5, last_step=5, ended="failed")


def checkpoint(run: Path, step: int, epoch: int) -> Path:
    folder = run / f"checkpoints/step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(b"weights")
    progress = {"step": step, "epoch": epoch, "samples": 0, "elapsed_s": 1.0, "images": 8, "resumes": 0}
    seal(folder, progress, None)
    return folder


@pytest.mark.parametrize(
    ("code", "state", "how"),
    [
        (0, RUNNING, "completed"),
        (0, "COMPLETING/None", "completed"),
        (75, RUNNING, "stopped"),
        (75, "COMPLETING/TimeLimit", "stopped"),
        (75, "COMPLETING/None", "taken"),
        (143, "COMPLETING/None", "taken"),
        (75, "", "taken"),
        (140, RUNNING, "stopped"),  # SIGUSR2 while torch was still being imported
        (143, RUNNING, "stopped"),
        (1, RUNNING, "failed"),
        (137, RUNNING, "failed"),
        (2, RUNNING, "refused"),
    ],
)
def test_the_end_of_a_slice_is_classified(code: int, state: str, how: str) -> None:
    assert ended_as(code, state) == how


def test_totals_of_slices() -> None:
    total = totals([STOPPED, STOPPED], CONFIG.slurm)
    assert (total.status, total.slices, total.restarts) == ("requeued", 2, 1)
    assert (total.waited_s, total.compute_s) == (20.0, 560.0)


def test_the_lifetime_counts_compute_time_without_waiting() -> None:
    waiting = replace(STOPPED, waited_s=1e6)
    assert totals([waiting] * 3, CONFIG.slurm).status == "requeued"
    assert totals([waiting] * 4, CONFIG.slurm).status == "lifetime"


def test_a_crash_loop_is_consecutive_failures_without_a_checkpoint() -> None:
    assert totals([STOPPED, FAILED, FAILED], CONFIG.slurm).status == "requeued"
    total = totals([STOPPED, FAILED, FAILED, FAILED], CONFIG.slurm, why="exit code 1: boom")
    assert total.status == "crash-loop"
    assert total.reason == "failed 3 times in a row without a new checkpoint (at step 5): exit code 1: boom"
    further = replace(FAILED, last_step=9)
    assert totals([FAILED, FAILED, further, FAILED, FAILED], CONFIG.slurm).status == "requeued"
    assert totals([replace(FAILED, ended="lost")] * 3, CONFIG.slurm).status == "crash-loop"


def test_a_training_submitted_again_after_a_crash_loop_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for start in (0.0, 100.0, 200.0):
        begin(tmp_path, CONFIG, waited_s=0.0, now=start)
        total = end(tmp_path, CONFIG, code=1, state=RUNNING, why="boom", now=start + 10.0)
    assert total.status == "crash-loop"
    with pytest.raises(Over, match="failed 3 times in a row"):
        begin(tmp_path, CONFIG, waited_s=0.0, now=300.0)
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    begin(tmp_path, CONFIG, waited_s=0.0, now=300.0)
    assert end(tmp_path, CONFIG, code=1, state=RUNNING, why="boom", now=310.0).status == "requeued"


def test_a_slice_is_recorded(tmp_path: Path) -> None:
    assert begin(tmp_path, CONFIG, waited_s=7.0, now=100.0) == 0
    checkpoint(tmp_path, 12, epoch=3)
    (tmp_path / "result.json").write_text('{"status": "stopped", "steps": 12}', encoding="utf-8")
    total = end(tmp_path, CONFIG, code=75, state=RUNNING, why="", now=250.0)
    assert (total.status, total.waited_s, total.compute_s) == ("requeued", 7.0, 150.0)
    rows = list(read_rows(tmp_path / "slices.jsonl"))
    assert [(row["kind"], row["time_s"], row["step"], row["epoch"]) for row in rows] == [
        ("begin", 0.0, 0, 0),
        ("end", 150.0, 12, 3),
    ]
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["steps"] == 12
    assert result["slurm"]["compute_s"] == 150.0


def test_the_last_slice_stops_at_the_end_of_the_lifetime(tmp_path: Path) -> None:
    time_limits = []
    for start in (0.0, 300.0, 600.0):
        time_limits.append(begin(tmp_path, CONFIG, waited_s=0.0, now=start))
        end(tmp_path, CONFIG, code=75, state=RUNNING, why="", now=start + 270.0)
    time_limits.append(begin(tmp_path, CONFIG, waited_s=0.0, now=900.0))
    assert time_limits == [0, 0, 0, 190]
    assert end(tmp_path, CONFIG, code=75, state=RUNNING, why="", now=1095.0).status == "lifetime"
    with pytest.raises(Over, match="1005 s of compute time reach"):
        begin(tmp_path, CONFIG, waited_s=0.0, now=1100.0)


def test_the_users_max_time_applies_too(tmp_path: Path) -> None:
    assert begin(tmp_path, replace(CONFIG, max_time=60.0), waited_s=0.0, now=0.0) == 60
    assert begin(tmp_path / "other", replace(CONFIG, max_time=59.2), waited_s=0.0, now=0.0) == 60


def test_a_slice_without_an_end_counts_until_its_last_written_row(tmp_path: Path) -> None:
    import os

    begin(tmp_path, CONFIG, waited_s=0.0, now=100.0)
    metrics = tmp_path / "metrics.jsonl"
    metrics.touch()
    os.utime(metrics, (180.0, 180.0))
    begin(tmp_path, CONFIG, waited_s=30.0, now=900.0)
    lost = list(read_rows(tmp_path / "slices.jsonl"))[1]
    assert (lost["kind"], lost["ended"], lost["at"]) == ("end", "lost", 180.0)


def test_a_crash_loop_of_lost_slices_ends_at_the_next_begin(tmp_path: Path) -> None:
    for start in range(3):
        begin(tmp_path, CONFIG, waited_s=0.0, now=100.0 * start)
    with pytest.raises(Over, match="failed 3 times in a row"):
        begin(tmp_path, CONFIG, waited_s=0.0, now=1000.0)
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert (result["status"], result["slurm"]["status"]) == ("failed", "crash-loop")


def test_an_end_without_a_begin_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run 'distdl slurm begin' before"):
        end(tmp_path, CONFIG, code=0, state=RUNNING, why="", now=0.0)


def test_the_reason_is_the_last_error_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "Traceback (most recent call last):\nRuntimeError: no memory\n\nsome warning\nsrun: error: task 0: Exited\n",
        encoding="utf-8",
    )
    assert last_line(log) == "RuntimeError: no memory"
    assert last_line(tmp_path / "none") == ""


HOLD = """
import sys
from pathlib import Path
from distdl.core import runlock
runlock.hold(Path(sys.argv[1]))
print(flush=True)
input()
"""


def test_a_slice_does_not_begin_while_another_job_trains_in_the_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    begin(run, CONFIG, waited_s=0.0, now=1000.0)
    rows = list(read_rows(run / "slices.jsonl"))
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match=f"in use by another training .*process {other.pid}"):
            begin(run, CONFIG, waited_s=0.0, now=1100.0)
        other.communicate(b"\n")
    assert list(read_rows(run / "slices.jsonl")) == rows


DAMAGED = {
    "cut short": b'{"time_s": 5, "step": 0, "ep',
    "another object": b'{"a": 1}\n',
    "a text for a time": b'{"time_s": 0, "step": 0, "epoch": 0, "kind": "end", "at": "", "ended": "lost", "code": 1}\n',
    "a huge step": b'{"time_s": 0, "step": 1e400, "epoch": 0, "kind": "end", "at": 1, "ended": "failed", "code": 1}\n',
    "an unknown kind": b'{"time_s": 0, "step": 0, "epoch": 0, "kind": "middle", "at": 1}\n',
    "a list for a kind": b'{"time_s": 0, "step": 0, "epoch": 0, "kind": ["end"], "at": 1}\n',
    "no kind": b'{"time_s": 0, "step": 0, "epoch": 0, "at": 1}\n',
    "not JSON": b"\xff\0\n",
    "zero bytes": bytes(512),
    "deep lists": b'{"kind": "end", "why": ' + b"[" * 900 + b"]" * 900 + b"}\n",
    "a zero byte": b'{"time_s": 0, "step": 0, "epoch": 0, "kind": "end", "at": 1, "ended": "\\u0000", "code": 1}\n',
    "a list": b"[]\n",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_line_does_not_end_the_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    ledger = tmp_path / "slices.jsonl"
    begin(tmp_path, CONFIG, waited_s=7.0, now=100.0)
    with ledger.open("ab") as sink:
        sink.write(DAMAGED[kind])
    for start in (100.0, 300.0):
        total = end(tmp_path, CONFIG, code=75, state=RUNNING, why="", now=start + 50.0)
        assert (total.status, total.slices) == ("requeued", 1 if start == 100.0 else 2)
        begin(tmp_path, CONFIG, waited_s=1.0, now=start + 200.0)
    assert (total.waited_s, total.compute_s) == (8.0, 100.0)
    rows, bad = load(ledger)
    cut = not DAMAGED[kind].endswith(b"\n")  # after a kill: it has been removed
    assert [row.kind for row in rows] == ["begin", "end"] * 2 + ["begin"] and bad == ([] if cut else [2])
    assert f"warning: {ledger}, line 2: damaged, skipped\n" in capsys.readouterr().err


def test_a_slice_with_a_damaged_begin_can_end(tmp_path: Path) -> None:
    begin(tmp_path, CONFIG, waited_s=7.0, now=100.0)
    ledger = tmp_path / "slices.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-20])
    assert end(tmp_path, CONFIG, code=75, state=RUNNING, why="", now=150.0).status == "requeued"
    with pytest.raises(Over, match="trained to the end"):
        begin(tmp_path, CONFIG, waited_s=7.0, now=200.0)
        end(tmp_path, CONFIG, code=0, state=RUNNING, why="", now=250.0)
        begin(tmp_path, CONFIG, waited_s=7.0, now=300.0)


@pytest.mark.parametrize("content", [b"{}", b"", b"[1]", b'{"progress": {"step": "x"}, "metric": null, "sha256": {}}'])
def test_a_damaged_checkpoint_is_skipped(tmp_path: Path, content: bytes) -> None:
    checkpoint(tmp_path, 5, epoch=1)
    (checkpoint(tmp_path, 9, epoch=2) / "manifest.json").write_bytes(content)
    assert newest(tmp_path) == (5, 1)
    (checkpoint(tmp_path, 12, epoch=3) / "state.pt").write_bytes(b"other")
    assert newest(tmp_path) == (5, 1)
    begin(tmp_path, CONFIG, waited_s=0.0, now=100.0)
    assert end(tmp_path, CONFIG, code=75, state=RUNNING, why="", now=150.0).status == "requeued"


def test_a_ledger_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "slices.jsonl").mkdir()
    with pytest.raises(UserError, match=r"slices\.jsonl: Is a directory"):
        begin_slice(("--profile", "digits", "--out", str(tmp_path), "--resume", "auto"))
