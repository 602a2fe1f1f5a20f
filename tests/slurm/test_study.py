"""A study as an array of Slurm jobs that share its folder, on an emulated cluster."""

import json
import re
import sys
from pathlib import Path

import pytest

from distdl.core.files import read_rows
from jobs import wait_for
from repository import SUPPORT
from slurm_cluster import Cluster

STUDIES = SUPPORT


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Environment variables that register the study `relay`; sbatch passes them to jobs."""
    monkeypatch.syspath_prepend(STUDIES)
    from relay import register

    return register(tmp_path / "site")


def submit(cluster: Cluster, seen: dict[str, str], *argv: str) -> str:
    command = (sys.executable, "-m", "distdl.cli", "study", "run", "relay", "--out", "study", *argv)
    done = cluster.hosts.run(command, 0, {**cluster.environment, **seen}, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.match(r"submitted job (\d+)", done.stdout)[1]


def logs() -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in Path("study/slurm").glob("*.log"))


@pytest.mark.slow
def test_an_array_runs_each_trial_once(cluster: Cluster, seen: dict[str, str]) -> None:
    argv = ("--calls", "4", "--trainings", "2", "--seconds", "3", "--jobs", "1")
    submit(cluster, seen, *argv, "--slurm", "--array=0-1 --time=5")
    try:
        wait_for(cluster.empty, 180, "the end of both jobs")
    finally:
        cluster("scancel", "--user", "root")
        wait_for(cluster.empty, 60, "an empty queue")
    records = [json.loads(file.read_text()) for file in Path("study/trials").glob("*/trial.json")]
    assert [(record["status"], record["attempts"]) for record in records] == [("completed", 1)] * 6, logs()
    begun = list(read_rows(Path("study/journal.jsonl")))
    assert sorted(row["trial"] for row in begun) == [f"call{index}" for index in range(4)]
    assert {row["what"] for row in begun} == {"begin"}
    assert "6 trials were completed." in logs()
    assert len(list(Path("study/slurm").glob("*.log"))) == 2


@pytest.mark.slow
def test_a_job_that_receives_a_stop_signal_requeues_itself_and_resumes(cluster: Cluster, seen: dict[str, str]) -> None:
    argv = ("--calls", "0", "--trainings", "1", "--steps", "1500")
    job = submit(cluster, seen, *argv, "--slurm", "--array=0-0 --time=5")
    folder = Path("study/trials/train0")
    try:
        wait_for(lambda: any(folder.glob("checkpoints/step-*")), 120, "the first checkpoint")
        cluster("scancel", "--signal=USR2", job)  # the signal that Slurm sends before a job's time limit
        wait_for(lambda: json.loads((folder / "trial.json").read_text())["attempts"] == 2, 120, "the second attempt")
        wait_for(cluster.empty, 180, "the end of the job")
    finally:
        cluster("scancel", "--user", "root")
        wait_for(cluster.empty, 60, "an empty queue")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert (result["status"], result["steps"], result["resumes"]) == ("completed", 1500, 1), logs()
