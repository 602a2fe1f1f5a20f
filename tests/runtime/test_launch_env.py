"""Environment variables of launchers, which only one module may read."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.runtime.launch_env import (
    Placement,
    SlurmJob,
    TorchrunJob,
    choose_strategy,
    error_file,
    has_launcher,
    is_elastic_horovod,
    is_part_of_job,
    job_variables,
    launched,
    launched_ranks,
    placement,
    slurm_job,
    torchrun_job,
)
from repository import ROOT

LAUNCHED = {
    "no launcher": ({}, "single", 1),
    "torchrun": ({"RANK": "0", "WORLD_SIZE": "4"}, "ddp", 4),
    "torchrun, one rank": ({"RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none"}, "ddp", 1),
    "horovodrun over gloo": ({"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2"}, "horovod", 2),
    "mpirun": ({"OMPI_COMM_WORLD_SIZE": "3"}, "horovod", 3),
    "mpirun with an address": ({"OMPI_COMM_WORLD_SIZE": "3", "RANK": "0", "WORLD_SIZE": "3"}, "ddp", 3),
}


@pytest.mark.parametrize(("environ", "strategy", "ranks"), LAUNCHED.values(), ids=LAUNCHED)
def test_the_launcher_selects_the_strategy(environ: dict[str, str], strategy: str, ranks: int) -> None:
    assert choose_strategy(environ) == strategy
    assert launched_ranks(environ) == ranks


def test_the_placement_is_read_from_torchruns_variables() -> None:
    world = {"RANK": "3", "WORLD_SIZE": "4"}
    assert placement({}) is None
    assert placement(world) == Placement(rank=3, size=4, local_rank=3, local_size=4)
    local = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert launched("ddp", world | local) == Placement(rank=3, size=4, local_rank=1, local_size=2)
    with pytest.raises(UserError, match="strategy ps needs a launcher: distdl launch"):
        launched("ps", {})


@pytest.mark.parametrize(
    ("environ", "launcher", "part"),
    [
        ({}, False, False),
        ({"RANK": "0", "WORLD_SIZE": "1"}, True, False),
        ({"RANK": "0", "WORLD_SIZE": "2"}, True, True),
        ({"HOROVOD_RANK": "0", "HOROVOD_SIZE": "2"}, True, True),
        ({"SLURM_PROCID": "0"}, False, True),
    ],
)
def test_a_process_of_a_job_is_recognized(environ: dict[str, str], launcher: bool, part: bool) -> None:
    assert (has_launcher(environ), is_part_of_job(environ)) == (launcher, part)


def test_torchruns_job_is_read_from_the_environment_or_a_run_folder() -> None:
    job = {"TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_MAX_RESTARTS": "3"}
    assert torchrun_job({}) == TorchrunJob(run_id="", restarts=0, max_restarts=0)
    assert torchrun_job(job) == TorchrunJob(run_id="a", restarts=1, max_restarts=3)
    assert torchrun_job(job_variables(job)) == TorchrunJob(run_id="a", restarts=1, max_restarts=3)
    assert error_file({"TORCHELASTIC_ERROR_FILE": "/tmp/error.json"}) and error_file(job) is None


def test_only_listed_variables_are_kept() -> None:
    """A variable may hold a token, an account or the name of a user."""
    names = ("SLURM_JOB_X_TOKEN", "SLURM_JOB_ACCOUNT", "SLURM_JOB_USER", "SLURM_JOB_COMMENT", "SLURM_JWT", "HF_TOKEN")
    secrets = dict.fromkeys((*names, "TORCHELASTIC_RUN_KEY", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"), "secret")
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "TORCHELASTIC_RUN_ID": "x"}
    assert job_variables(secrets | job) == job


def test_slurms_job_is_read_from_the_environment() -> None:
    assert slurm_job({}) == SlurmJob(id="", restarts=0)
    assert slurm_job({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}) == SlurmJob(id="7", restarts=2)


def test_ranks_can_change_only_in_horovodruns_elastic_mode() -> None:
    assert is_elastic_horovod({"HOROVOD_ELASTIC": "1"})
    assert not is_elastic_horovod({"HOROVOD_RANK": "0"})


VARIABLE = re.compile(
    r"(LOCAL_)?RANK|(LOCAL_)?WORLD_SIZE|MASTER_(ADDR|PORT)|(SLURM|OMPI|PMI|PMIX|MV2|HOROVOD|TORCHELASTIC)_[A-Z_]*"
)
READERS = {"distdl/runtime/interrupts.py", "distdl/runtime/launch_env.py", "distdl/runtime/mpi_slurm.py"}
SETTERS = {
    "distdl/launchers/agent.py",
    "distdl/launchers/commands.py",
    "distdl/launchers/job.py",
    "distdl/strategies/horovod.py",
}
"""Modules that set these variables for processes that they start, or for Horovod."""


def named(file: Path) -> Iterator[str]:
    """Names of launcher variables in the string literals of a module."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value):
            yield node.value


def test_no_other_module_names_a_variable_of_a_launcher() -> None:
    files = {file.relative_to(ROOT).as_posix(): file for file in sorted((ROOT / "distdl").rglob("*.py"))}
    places = {name: sorted(set(named(file))) for name, file in files.items() if any(named(file))}
    assert set(places) == READERS | SETTERS
