"""Trainings as Slurm jobs on an emulated cluster: interrupted, requeued, preempted, canceled, and ended for good."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from distdl.core.checkpoints import find
from distdl.core.files import read_rows
from distdl.core.result import current_result
from distdl.runtime.tensors import load
from jobs import QUIET, step_of, train, wait_for
from repository import ROOT
from slurm_cluster import Cluster

LAUNCH = ROOT / "launch" / "slurm"
LONG = """
extends = "digits"
epochs = 100000
[optim]
name = "sgd"
lr = 0.01
[schedule]
name = "constant"
[checkpoint]
every_epochs = 0
"""


class Job:
    """A training submitted by `distdl submit`, and its run folder."""

    def __init__(self, cluster: Cluster, *argv: str, out: Path, options: tuple[str, ...] = ()) -> None:
        self.cluster, self.run = cluster, out
        done = cluster.distdl("submit", "--out", str(out), *argv, "--", *options, *QUIET)
        assert done.returncode == 0, done.stderr
        self.id = re.match(r"submitted job (\d+)", done.stdout)[1]

    @property
    def rows(self) -> list[dict]:
        return list(read_rows(self.run / "slices.jsonl"))

    @property
    def result(self) -> dict:
        return json.loads((self.run / "result.json").read_text(encoding="utf-8"))

    def interruptions(self) -> list[dict]:
        """Slices that trained, saved and were requeued."""
        pairs = zip(self.rows[::2], self.rows[1::2], strict=False)
        return [end for begin, end in pairs if end["ended"] == "stopped" and end["step"] > begin["step"]]

    def log(self) -> str:
        return "\n".join(file.read_text(encoding="utf-8") for file in self.run.glob("slurm-*.log"))

    def wait_for_state(self, states: str, timeout: float) -> None:
        try:
            wait_for(lambda: self.cluster.state(self.id) in states.split(), timeout, states)
        except AssertionError:
            raise AssertionError(f"{self.cluster.state(self.id)}, not {states}\n{self.log()}") from None

    def wait_for_rows(self, kind: str, count: int, timeout: float) -> None:
        try:
            wait_for(lambda: sum(row["kind"] == kind for row in self.rows) >= count, timeout, f"{count} of {kind}")
        except AssertionError:
            raise AssertionError(f"{self.cluster.state(self.id)}: {self.rows}\n{self.log()}") from None


@pytest.fixture
def jobs(cluster: Cluster) -> Iterator[None]:
    """Cancel all jobs of a test before the next one starts."""
    yield
    cluster("scancel", "--user", "root")
    wait_for(cluster.empty, 60, "an empty queue")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load(find(run, warn=print))[0]["model"]


@pytest.mark.usefixtures("jobs")
class TestSlurm:
    def test_a_run_of_one_slice_on_two_nodes(self, cluster: Cluster) -> None:
        job = Job(cluster, "--nodes", "2", "--nproc", "2", out=Path("run"), options=("--max-steps", "8"))
        job.wait_for_state("COMPLETED FAILED", 120)
        assert job.cluster.state(job.id) == "COMPLETED", job.log()
        result = job.result
        assert (result["status"], result["world_size"], result["strategy"]) == ("completed", 4, "ddp")
        assert (result["slurm"]["status"], result["slurm"]["slices"], result["slurm"]["restarts"]) == (
            "completed",
            1,
            0,
        )

    @pytest.mark.parametrize("name", ["run with space", "100%u", "q'uo\"te", "$HOME", "#1", "`id`", "naïve"])
    @pytest.mark.slow
    def test_the_run_folder_may_have_any_name(self, cluster: Cluster, name: str) -> None:
        job = Job(
            cluster,
            "--sbatch",
            "comment=it's",
            out=Path(name),
            options=("--max-steps", "2", "--data.root", "it's 100% #1"),
        )
        job.wait_for_state("COMPLETED FAILED", 180)
        assert job.cluster.state(job.id) == "COMPLETED", job.log()
        assert job.result["status"] == "completed"
        assert list(Path(name).glob(f"slurm-{job.id}.log"))
        assert [path.name for path in Path().iterdir()] == [name]

    @pytest.mark.slow
    def test_the_folder_of_an_array_may_have_any_name(self, cluster: Cluster) -> None:
        folder = Path("it's 100%a #1")
        job = Job(cluster, "--array", "3-4", out=folder, options=("--max-steps", "2"))
        wait_for(cluster.empty, 180, "the end of both")
        assert sorted(path.name for path in folder.iterdir()) == [
            "job.sbatch",
            "seed-3",
            "seed-4",
            f"slurm-{job.id}_3.log",
            f"slurm-{job.id}_4.log",
        ]

    @pytest.mark.slow
    def test_variables_of_sbatch_do_not_replace_what_the_script_sets(self, cluster: Cluster) -> None:
        variables = {"SBATCH_ARRAY_INX": "0-2", "SBATCH_OPEN_MODE": "truncate", "SBATCH_JOB_NAME": "other"}
        submit = [sys.executable, "-m", "distdl.cli", "submit", "--out", "run", "--", "--max-steps", "2", *QUIET]
        done = cluster.hosts.run(submit, 0, {**cluster.environment, **variables}, timeout=60)
        assert done.returncode == 0, done.stderr
        number = re.match(r"submitted job (\d+)", done.stdout)[1]
        output = cluster("scontrol", "show", "job", "-o", number)
        assert "JobName=digits" in output
        assert "ArrayJobId" not in output

    @pytest.mark.parametrize(
        "option", ["array=0-2", "arr=0-2", "output=x", "chdir=/tmp", "test-only", "partition=gone"]
    )
    def test_options_that_change_the_training_are_not_submitted(self, cluster: Cluster, option: str) -> None:
        done = cluster.distdl("submit", "--out", "run", "--sbatch", option, "--", "--max-steps", "2")
        assert done.returncode == 2, done.stdout
        assert len(done.stderr.splitlines()) == 1
        assert cluster.empty()
        assert not list(Path().iterdir()), "no file may remain"

    @pytest.mark.slow
    def test_an_array_is_one_run_per_seed(self, cluster: Cluster) -> None:
        Job(cluster, "--array", "3,5", out=Path("runs"), options=("--max-steps", "4"))
        folders = [Path("runs/seed-3"), Path("runs/seed-5")]
        wait_for(
            lambda: all(current_result(folder).get("status") == "completed" for folder in folders), 120, "both results"
        )
        wait_for(cluster.empty, 30, "the end of both")
        first, second = (weights(folder) for folder in folders)
        assert any(not torch.equal(first[name], second[name]) for name in first), "two seeds, the same weights"
        for folder in folders:
            assert len(list(read_rows(folder / "slices.jsonl"))) == 2

    @pytest.mark.slow
    def test_preemption_saves_and_requeues(self, cluster: Cluster) -> None:
        Path("long.toml").write_text(LONG, encoding="utf-8")
        job = Job(cluster, "--profile", "long.toml", "--nproc", "2", out=Path("run"))
        wait_for(lambda: step_of(job.run) > 0, 90, "the first step")
        all_nodes = ("--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null")
        urgent = cluster("sbatch", "--parsable", *all_nodes, "--wrap=true")
        job.wait_for_rows("begin", 2, 90)
        first, second = job.rows[1], job.rows[2]
        assert (first["kind"], first["ended"], second["kind"]) == ("end", "stopped", "begin")
        assert second["step"] == first["step"] > 0
        assert second["restart"] == 1
        assert cluster.state(urgent.strip()) == "COMPLETED"

    def test_scancel_ends_the_job_permanently(self, cluster: Cluster) -> None:
        Path("long.toml").write_text(LONG, encoding="utf-8")
        job = Job(cluster, "--profile", "long.toml", "--nproc", "2", out=Path("run"))
        wait_for(lambda: step_of(job.run) > 0, 90, "the first step")
        cluster("scancel", job.id)
        job.wait_for_state("CANCELLED", 40)
        job.wait_for_rows("end", 1, 10)
        assert job.rows[-1]["ended"] == "taken"
        assert job.result["slurm"]["status"] == "taken"
        assert find(job.run, warn=print), "the state is saved nevertheless"
        wait_for(cluster.empty, 30, "an empty queue")

    def test_a_crash_loop_ends_after_k_restarts_and_states_the_reason(self, cluster: Cluster) -> None:
        options = ("--optim.name", "sgd", "--optim.lr", "1e30", "--slurm.max-restarts", "1")
        job = Job(cluster, out=Path("run"), options=options)
        job.wait_for_state("FAILED", 180)
        ends = [row for row in job.rows if row["kind"] == "end"]
        assert [row["ended"] for row in ends] == ["failed", "failed"]
        account = job.result["slurm"]
        assert (account["status"], account["restarts"]) == ("crash-loop", 1)
        assert re.search(r"failed 2 times in a row.*exit code 1: .*is not a finite number", account["reason"])

    def test_wrong_input_is_not_retried(self, cluster: Cluster) -> None:
        job = Job(cluster, out=Path("run"), options=("--data.name", "no-such-set"))
        job.wait_for_state("FAILED COMPLETED", 120)
        assert len(job.rows) == 2
        assert job.result["slurm"]["status"] == "refused"

    @pytest.mark.slow
    def test_the_training_ends_with_its_lifetime(self, cluster: Cluster) -> None:
        Path("long.toml").write_text(LONG, encoding="utf-8")
        options = ("--slurm.total-lifetime-s", "15")
        job = Job(cluster, "--profile", "long.toml", out=Path("run"), options=options)
        job.wait_for_state("FAILED", 180)  # exit code 75: it could be resumed
        account = job.result["slurm"]
        assert account["status"] == "lifetime"
        assert account["compute_s"] >= 15
        assert job.result["status"] == "stopped"

    @pytest.mark.parametrize("file", sorted(LAUNCH.glob("*.sbatch")), ids=lambda file: file.name)
    def test_slurm_accepts_the_scripts_of_launch(self, cluster: Cluster, file: Path) -> None:
        done = cluster.run("sbatch", "--test-only", str(file))
        assert done.returncode == 0, done.stderr
        assert "to start at" in done.stderr

    @pytest.mark.slow
    def test_the_script_of_several_nodes_trains(self, cluster: Cluster) -> None:
        text = (LAUNCH / "multi_node.sbatch").read_text(encoding="utf-8")
        text = text.replace("/path/to/venv/bin/python", sys.executable)
        Path("job.sbatch").write_text(text.replace("--resume auto", "--max-steps 8"), encoding="utf-8")
        smaller = ("--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=0")
        cluster("sbatch", "--wait", *smaller, "job.sbatch")
        result = json.loads(Path("runs/digits/result.json").read_text(encoding="utf-8"))
        assert (result["status"], result["world_size"]) == ("completed", 2)

    @pytest.mark.slow
    @pytest.mark.serial
    def test_three_interruptions_by_the_time_limit_do_not_change_the_weights(self, cluster: Cluster) -> None:
        profile = Path("long.toml")
        profile.write_text(LONG, encoding="utf-8")
        # Slurm's signal also reaches the loader's worker processes.
        options = ("--data.loader", "torch", "--data.workers", "1", "--compute.threads", "1")
        job = Job(cluster, "--profile", str(profile), "--nodes", "2", "--time", "1", out=Path("run"), options=options)
        # On a busy machine a slice may end before its first step: such a slice is not counted.
        wait_for(lambda: len(job.interruptions()) >= 3, 500, "three interruptions")
        # The number of steps in three slices depends on the machine: the profile sets the end of the last slice.
        steps = job.rows[-1]["step"] + 20
        profile.write_text(f"max_steps = {steps}\n{LONG}", encoding="utf-8")
        cluster("scontrol", "update", f"job={job.id}", "timelimit=10")
        job.wait_for_state("COMPLETED FAILED", 180)
        begins, ends = (([row for row in job.rows if row["kind"] == kind]) for kind in ("begin", "end"))
        assert {row["ended"] for row in ends[:-1]} == {"stopped"}, job.log()
        assert (ends[-1]["ended"], ends[-1]["step"]) == ("completed", steps)

        account = job.result["slurm"]
        assert [row["restart"] for row in begins] == list(range(len(begins)))
        assert account["restarts"] == len(begins) - 1 >= 3
        spent = [end["at"] - begin["at"] for begin, end in zip(begins, ends, strict=True)]
        assert account["compute_s"] == pytest.approx(sum(spent))
        assert account["waited_s"] == pytest.approx(sum(row["waited_s"] for row in begins))
        assert account["waited_s"] > 3 * 5, "a job that is queued again waits for 5 s here"
        elapsed_s = ends[-1]["at"] - begins[0]["at"]
        # Between an end and a begin: the wait, and one or two seconds of the batch script itself.
        assert sum(spent) + sum(row["waited_s"] for row in begins[1:]) == pytest.approx(elapsed_s, abs=3 * len(begins))

        train(["--profile", str(profile), *options, "--out", "uncut"], ranks=2, timeout=240)
        cut, uncut = weights(job.run), weights(Path("uncut"))
        for name, value in uncut.items():
            assert torch.equal(cut[name], value), name
