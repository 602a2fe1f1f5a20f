"""Jobs that resume automatically: restarted by torchrun after a kill, or with fewer ranks by Horovod elastic."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from distdl.core.checkpoints import find
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.runtime.tensors import load
from distdl.training.restart import after_restart
from jobs import QUIET, step_of, torchrun_command, train, wait_for

ARGV = (
    *("--epochs", "15", "--data.batch-size", "16", "--checkpoint.every-steps", "10", "--evaluate-every", "15"),
    *("--log-every-s", "0", "--optim.name", "sgd", "--optim.lr", "0.05", "--optim.weight-decay", "0"),
)
"""675 steps on two ranks, 1350 on one."""


def result(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def ranks_of(job: subprocess.Popen) -> list[psutil.Process]:
    """Processes of the ranks that a launcher has started."""
    children = psutil.Process(job.pid).children(recursive=True)
    return [process for process in children if "distdl.train" in process.cmdline() and "-m" in process.cmdline()[:4]]


def test_the_configuration_of_a_first_start_is_unchanged(tmp_path: Path) -> None:
    config, first = Config(out=tmp_path), {"TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_RESTART_COUNT": "0"}
    assert after_restart(config, {}) is config
    assert after_restart(config, first) is config
    with pytest.raises(UserError, match="needs --out"):
        after_restart(Config(), first)


@pytest.mark.slow
def test_torchrun_restarts_a_job_whose_rank_was_killed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train([*ARGV, "--out", str(tmp_path / "uncut")], ranks=2)
    job = subprocess.Popen([*torchrun_command(2, ["--max-restarts=2"]), *ARGV, *QUIET, "--out", str(out)])
    try:
        wait_for(lambda: step_of(out) >= 50, 120, "step 50")
        ranks_of(job)[-1].send_signal(signal.SIGKILL)
        assert job.wait(timeout=180) == 0
    finally:
        job.kill()
    assert result(out)["status"] == "completed"
    assert result(out)["resumes"] == 1
    uncut, restarted = (load(find(run, warn=pytest.fail))[0]["model"] for run in (tmp_path / "uncut", out))
    assert all(torch.equal(uncut[name], restarted[name]) for name in uncut)


def elastic(folder: Path, argv: list[str]) -> subprocess.Popen:
    """Start horovodrun on the hosts that the file `hosts` in `folder` lists at each moment."""
    script = folder / "discover.sh"
    script.write_text(f"#!/bin/sh\ncat {folder / 'hosts'}\n")
    script.chmod(0o755)
    horovodrun = [str(Path(sys.executable).with_name("horovodrun")), "-np", "2", "--min-np", "1", "--max-np", "2"]
    module = [sys.executable, "-m", "distdl.train", *argv, *QUIET]
    return subprocess.Popen([*horovodrun, "--host-discovery-script", str(script), *module], cwd=folder)


@pytest.mark.slow
def test_horovod_continues_when_a_host_disappears(tmp_path: Path) -> None:
    pytest.importorskip("horovod.torch", reason="Horovod is not installed: containers/horovod/build.sh builds it")
    # Two names of this machine are two hosts to Horovod, and its own names need no ssh.
    (tmp_path / "hosts").write_text("localhost:1\n127.0.0.1:1\n")
    out = tmp_path / "run"
    job = elastic(tmp_path, [*ARGV, "--out", str(out), "--resume", "auto"])
    try:
        wait_for(lambda: step_of(out) >= 50, 180, "step 50")
        assert len(ranks_of(job)) == 2
        (tmp_path / "hosts").write_text("localhost:1\n")
        gone = next(rank for rank in ranks_of(job) if rank.environ()["HOROVOD_HOSTNAME"] == "127.0.0.1")
        os.kill(gone.pid, signal.SIGKILL)
        assert job.wait(timeout=240) == 0
    finally:
        job.terminate()
    outcome = result(out)
    assert (outcome["status"], outcome["world_size"], outcome["strategy"]) == ("completed", 1, "horovod")
    assert outcome["resumes"] == 1
    assert outcome["epochs"] == 15
    assert 675 < outcome["steps"] < 1350  # some steps had two ranks, and no epoch was restarted
    assert outcome["images"] == 15 * 1437
    assert outcome["test"]["accuracy"] > 0.9


def test_elastic_training_needs_a_run_folder(tmp_path: Path) -> None:
    pytest.importorskip("horovod.torch", reason="Horovod is not installed: containers/horovod/build.sh builds it")
    module = [sys.executable, "-m", "distdl.train", *QUIET]
    done = subprocess.run(module, env={**os.environ, "HOROVOD_ELASTIC": "1", "HOROVOD_RANK": "0"}, capture_output=True)
    assert done.returncode == 2
    assert b"add --out DIR --resume auto" in done.stderr
